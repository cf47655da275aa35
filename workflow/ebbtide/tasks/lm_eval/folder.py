"""The check of a directory of lm-eval tasks: its YAML files stay inside it, and are read in bounded time.

lm-eval follows `include:` and `!function` to any path, and an error of its parser quotes the file.
"""

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from ebbtide.errors import ConfigError
from ebbtide.schema import read_yaml_text

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")  # module.function, beside the file or importable


class _Loader(yaml.SafeLoader):
    """SafeLoader that keeps the functions of a file as text."""


class _Function(str):
    """The text after `!function`."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    return _Function(node.value if isinstance(node, yaml.ScalarNode) else suffix)


_Loader.add_multi_constructor("!", _function)  # type: ignore[no-untyped-call]


def check_folder(folder: str | Path) -> None:
    """Check all YAML files of a directory and what they include.

    Raises `ConfigError` for a file that is not regular, too large, too deep or not YAML, for an `include`
    of a file that is neither in the directory nor among the tasks of the installed lm-eval, and for a
    `!function` that is not the name of a function in a module.
    """
    roots = [Path(folder).resolve(), *_installed_tasks()]
    pending = sorted(path for path in Path(folder).rglob("*.yaml") if path.exists() and not path.is_dir())
    seen = set()
    while pending:
        path = pending.pop()
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        for key, name in _references(path):
            if key == "include":
                pending.append(_included(path, name, roots))
            elif not _FUNCTION.fullmatch(name):
                raise ConfigError(f"{path}: !function: found {name!r:.200}; allowed: module.function.")


def _references(path: Path) -> Iterator[tuple[str, str]]:
    """Yield what a file includes and the functions that it names."""
    try:
        pending = [yaml.load(read_yaml_text(path), Loader=_Loader)]
    except (yaml.YAMLError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f" (line {line + 1})"
        raise ConfigError(f"{path} is not valid YAML{where}.") from None
    while pending:
        value = pending.pop()
        if isinstance(value, _Function):
            yield "function", value
        elif isinstance(value, dict):
            named = value.get("include")
            yield from (("include", name) for name in (named if isinstance(named, list) else [named]) if name)
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _installed_tasks() -> list[Path]:
    """The directories of lm-eval's own tasks; none if it is not installed."""
    found = find_spec("lm_eval")
    return (
        [Path(place, "tasks").resolve() for place in (found.submodule_search_locations or ())]
        if found
        else []
    )


def _included(path: Path, name: Any, roots: Sequence[Path]) -> Path:
    found = path.parent / str(name)
    try:
        inside = "\0" not in str(name) and any(map(found.resolve().is_relative_to, roots))
    except OSError:  # a loop of links, or a name that is too long
        inside = False
    if not inside:
        raise ConfigError(
            f"{path}: include: found {name!r:.200}; allowed: a file in {roots[0]}, or a task of lm-eval."
        )
    return found
