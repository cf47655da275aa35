"""Which code made a result: a digest of the modules that a script imports.

Snakemake does not see the modules that a script imports, so every cheap rule has this digest among its
params: an edit of the statistics reruns the statistics. The modules are computed, not listed: the closure of
the script's imports over the package, read from the syntax trees. Comments, docstrings and layout do not
count.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ebbtide.files import digest, file_sha256, write_text

PACKAGE = Path(__file__).parent

# Plumbing whose edits change no result: how errors read, how files are written, what is logged.
NEUTRAL = frozenset({"errors", "files", "logs", "transport"})


class Source(NamedTuple):
    """What a source file says to this module."""

    imports: tuple[str, ...]  # modules of the package that it names
    code: str  # digest of its statements


class CodeVersions:
    """Digests of scripts and modules with all that they import.

    Parameters
    ----------
    package
        Directory of the package; `scripts` lies beside it.
    cache
        File that remembers parsed sources by the sha256 of their bytes; parsing them all takes half a second.
        A missing, damaged or read-only cache only costs that time.
    """

    def __init__(self, package: Path = PACKAGE, cache: Path | None = None) -> None:
        self._package, self._cache = package, cache
        self._known = _read(cache)
        self._fresh = 0
        self._sources: dict[Path, Source] = {}

    def script(self, name: str) -> str:
        """Digest of `scripts/{name}.py` and of every module that it imports, directly or not."""
        return self._digest(self._package.parent / "scripts" / f"{name}.py")

    def module(self, name: str) -> str:
        """Digest of a module, such as `metrics.measure`, and of every module that it imports."""
        return self._digest(self.file(name))

    def closure(self, file: Path) -> frozenset[str]:
        """Modules of the package that a file imports, directly or not, without `NEUTRAL`.

        Imports inside functions count, imports for type checkers do not. A package counts as its `__init__`.
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
        """The source of a module of the package. Raises `KeyError` if there is none of this name."""
        base = self._package.joinpath(*name.split("."))
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return file
        raise KeyError(f"there is no module {self._package.name}.{name}")

    def save(self) -> None:
        """Write the cache, if there is one and it lacks something."""
        if self._cache is None or not self._fresh:
            return
        try:
            write_text(json.dumps({**self._known}), self._cache)
        except OSError:
            return
        self._fresh = 0

    def _digest(self, file: Path) -> str:
        sources = [self.file(name) for name in self.closure(file)]
        data = {path for source in sources for path in _templates(source.parent)}
        parts = [[str(f.relative_to(self._package)), self._source(f).code] for f in sources]
        parts += [[str(f.relative_to(self._package)), file_sha256(f)] for f in data]
        return digest([self._source(file).code, *sorted(parts)])

    def _source(self, file: Path) -> Source:
        if file not in self._sources:
            content = file.read_bytes()
            key = f"{self._package.name}:{hashlib.sha256(content).hexdigest()}"
            if key not in self._known:
                self._known[key] = _parse(content, self._package.name)
                self._fresh += 1
            imports, code = self._known[key]
            self._sources[file] = Source(self._modules(imports), code)
        return self._sources[file]

    def _modules(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the imported names that are modules, and the packages that they lie in."""
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


def _templates(directory: Path) -> Iterator[Path]:
    """Templates of pages, and the scripts in them, beside the modules of a directory."""
    yield from (f for f in directory.glob("templates/*") if f.is_file() and not f.suffix.startswith(".py"))


def _parse(content: bytes, package: str) -> Source:
    """Names that a source imports from the package, and the digest of its statements."""
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
    return Source(tuple(sorted(ours)), digest(ast.dump(tree)))
