"""Code versions: a digest of the modules that a script imports.

Snakemake does not track the modules that a script imports. Every cheap rule therefore has this digest among
its params, and an edit of the statistics reruns the statistics. The modules are computed from the syntax
trees, as the closure of the script's imports within the package. Comments, docstrings and layout are ignored.
"""

import ast
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from ebbtide.errors import StorageError
from ebbtide.files import digest, file_sha256, write_text

PACKAGE = Path(__file__).parent
_OWN_VERSION = file_sha256(__file__)[:16]  # a cache made by other code than this is of no use

# Modules whose edits change no result: wording of errors, writing of files, logging, transport.
NEUTRAL = frozenset({"errors", "files", "logs", "transport"})


class Source(NamedTuple):
    """The imports of a source file and the digest of its code."""

    imports: tuple[str, ...]  # modules of the package that it imports
    code: str  # digest of its statements


class CodeVersions:
    """Digests of scripts and modules, including everything they import.

    Parameters
    ----------
    package
        Directory of the package; `scripts` is beside it.
    cache
        File that caches parsed sources by the sha256 of their bytes. Without a usable cache, all sources are
        parsed again, which takes half a second.
    """

    def __init__(self, package: Path = PACKAGE, cache: Path | None = None) -> None:
        self._package, self._cache = package, cache
        self._known = _read(cache)
        self._fresh = 0
        self._sources: dict[Path, Source] = {}
        self._files: dict[str, Path | None] = {}
        self._templates: dict[Path, tuple[Path, ...]] = {}

    def script(self, name: str) -> str:
        """Digest of `scripts/{name}.py` and of every module that it imports, directly or not."""
        return self._digest(self._package.parent / "scripts" / f"{name}.py")

    def module(self, name: str) -> str:
        """Digest of a module, such as `metrics.measure`, and of every module that it imports."""
        return self._digest(self.file(name))

    def closure(self, file: Path) -> frozenset[str]:
        """Modules of the package that a file imports, directly or not, except `NEUTRAL`.

        Imports inside functions are included, imports for type checkers are not. A package is its `__init__`.
        """
        found: set[str] = set()
        pending = list(self._source(file).imports)
        while pending:
            name = pending.pop()
            if name not in found and name not in NEUTRAL:
                found.add(name)
                pending += self._source(self.file(name)).imports
        return frozenset(found)

    def file(self, name: str) -> Path:
        """Return the source file of a module of the package. Raises `KeyError` for an unknown module."""
        if name not in self._files:
            base = self._package.joinpath(*name.split("."))
            files = (base.with_suffix(".py"), base / "__init__.py")
            self._files[name] = next((file for file in files if file.is_file()), None)
        if (found := self._files[name]) is None:
            raise KeyError(f"there is no module {self._package.name}.{name}")
        return found

    def save(self) -> None:
        """Write the cache file if new sources were parsed."""
        if self._cache is None or not self._fresh:
            return
        try:
            write_text(json.dumps({**self._known}), self._cache)
        except StorageError:
            return
        self._fresh = 0

    def _digest(self, file: Path) -> str:
        sources = [self.file(name) for name in self.closure(file)]
        data = {path for place in {source.parent for source in sources} for path in self._data(place)}
        parts = [[str(f.relative_to(self._package)), self._source(f).code] for f in sources]
        parts += [[str(f.relative_to(self._package)), file_sha256(f)] for f in data]
        return digest([self._source(file).code, *sorted(parts)])

    def _data(self, directory: Path) -> tuple[Path, ...]:
        """Return the HTML templates and their scripts in the directory of a module."""
        if directory not in self._templates:
            files = (f for f in directory.glob("templates/*") if f.is_file())
            self._templates[directory] = tuple(f for f in files if not f.suffix.startswith(".py"))
        return self._templates[directory]

    def _source(self, file: Path) -> Source:
        if file not in self._sources:
            content = file.read_bytes()
            key = f"{_OWN_VERSION}:{self._package.name}:{hashlib.sha256(content).hexdigest()}"
            if key not in self._known:
                self._known[key] = _parse(content, self._package.name)
                self._fresh += 1
            imports, code = self._known[key]
            self._sources[file] = Source(self._modules(imports), code)
        return self._sources[file]

    def _modules(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the imported names that are modules, and the packages that contain them."""
        found: set[str] = set()
        for name in names:
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                try:
                    self.file(".".join(parts[:length]))
                except KeyError:
                    break
                found.add(".".join(parts[:length]))
        return tuple(sorted(found))


def _read(cache: Path | None) -> dict[str, Source]:
    try:
        content = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
        return {key: Source(tuple(imports), str(code)) for key, (imports, code) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _parse(content: bytes, package: str) -> Source:
    """Return the names that a source imports from the package, and the digest of its statements."""
    tree = ast.parse(content)
    names: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
        pending += ast.iter_child_nodes(node)
    ours = {name.removeprefix(f"{package}.") for name in names if name.startswith(f"{package}.")}
    return Source(tuple(sorted(ours)), digest(_structure(tree)))


def _structure(node: object) -> object:
    """A syntax tree as lists and texts, the same in every version of Python.

    `ast.dump` is not: versions differ in the empty fields that they write, and in empty parts of f-strings.
    """
    if isinstance(node, ast.Constant) and node.value == "":
        return ["Constant", ""]
    if isinstance(node, ast.JoinedStr):
        parts = [_structure(part) for part in node.values]
        return ["JoinedStr", [part for part in parts if part != ["Constant", ""]]]
    if isinstance(node, ast.AST):
        fields = [[name, _structure(value)] for name, value in ast.iter_fields(node)]
        return [type(node).__name__, *(field for field in fields if field[1] not in (None, [], "None"))]
    if isinstance(node, list):
        return [_structure(inner) for inner in node]
    return node if isinstance(node, str) else repr(node)
