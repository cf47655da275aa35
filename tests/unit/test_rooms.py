"""The order of the rooms: imports run downwards only, files form no circles, figures know frames only."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "workflow/ebbtide"

# From bottom to top. Modules on the package's top level are its plumbing, below all rooms.
ROOMS = (
    *("parameters", "corpus", "training", "checkpoints", "scoring", "tasks", "cells", "metrics"),
    *("exchange", "study", "jobs", "statistics", "figures", "report", "watch", "cli"),
)
FIGURES_MAY_IMPORT = {"figures", "titles", "errors", "files", "logs"}
MOST_LINES = 350
MOST_FILES = 17  # on the top level

Imports = Mapping[str, Mapping[str, int]]  # module → imported module → line


def modules_of(package: Path) -> dict[str, Path]:
    """Name without `ebbtide.` → file; the package itself is the empty name."""
    files = {path.relative_to(package).with_suffix(""): path for path in package.rglob("*.py")}
    names = {(name.parent if name.name == "__init__" else name): path for name, path in files.items()}
    return {name.as_posix().replace("/", ".").removeprefix("."): path for name, path in names.items()}


def imports_of(package: Path) -> Imports:
    """All imports within the package, also those inside functions and for type checkers only."""
    modules = modules_of(package)
    return {
        name: {target: line for target, line in _imports(name, path, modules) if target != name}
        for name, path in modules.items()
    }


def _imports(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, name, path)
            targets = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target.split(".")[0] == "ebbtide":
                yield _module(target.removeprefix("ebbtide").removeprefix("."), modules), node.lineno


def _absolute(node: ast.ImportFrom, name: str, path: Path) -> str:
    if not node.level:
        return node.module or ""
    parts = ["ebbtide", *filter(None, name.split("."))]
    up = node.level - (path.name == "__init__.py")
    return ".".join([*parts[: len(parts) - up], *filter(None, [node.module])])


def _module(target: str, modules: Mapping[str, Path]) -> str:
    """The module that holds an imported name: the name itself, or what contains it."""
    while target not in modules:
        target = target.rpartition(".")[0]
    return target


def room_of(module: str) -> str:
    """The room of a module; empty for plumbing."""
    first = module.partition(".")[0]
    return "cli" if first == "__main__" else first if first in ROOMS else ""


def upward(imports: Imports) -> list[str]:
    rank = {"": -1, **{room: number for number, room in enumerate(ROOMS)}}
    return [
        f"{module}:{line} imports {target}"
        for module, targets in imports.items()
        for target, line in targets.items()
        if rank[room_of(target)] > rank[room_of(module)]
    ]


def circle(imports: Imports) -> list[str]:
    """The modules of a circle, if there is one."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def foreign_to_figures(imports: Imports) -> list[str]:
    return [
        f"{module}:{line} imports {target}"
        for module, targets in imports.items()
        if room_of(module) == "figures"
        for target, line in targets.items()
        if target.partition(".")[0] not in FIGURES_MAY_IMPORT
    ]


@pytest.fixture(scope="module")
def imports() -> Imports:
    return imports_of(PACKAGE)


def test_every_package_is_a_room() -> None:
    assert sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")) == sorted(ROOMS)


def test_imports_run_downwards(imports: Imports) -> None:
    assert sum(map(len, imports.values())) > 400  # they were found at all
    assert upward(imports) == []


def test_no_circles_of_files(imports: Imports) -> None:
    assert circle(imports) == []


def test_figures_know_frames_only(imports: Imports) -> None:
    assert foreign_to_figures(imports) == []


def test_modules_are_short() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules_of(PACKAGE).items()}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_the_top_level_is_small() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FILES


# The checks themselves, on a package that breaks every rule.


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("metrics/a.py", "from ebbtide.statistics.panel import Trajectory"),
        ("metrics/a.py", "from ebbtide.statistics import panel"),
        ("metrics/a.py", "import ebbtide.statistics.panel as p"),
        ("metrics/a.py", "def f():\n    from ebbtide.statistics.panel import Trajectory"),
        ("metrics/a.py", "if TYPE_CHECKING:\n    from ebbtide.statistics.panel import Trajectory"),
        ("metrics/a.py", "from ..statistics.panel import Trajectory"),
        ("metrics/__init__.py", "from ..statistics import panel"),
        ("tables.py", "from ebbtide.statistics.panel import Trajectory"),
    ],
)
def test_an_upward_import_is_found(file: str, text: str, tmp_path: Path) -> None:
    plant(tmp_path, {"statistics/panel.py": "class Trajectory: ...", file: text})
    assert [found.split(" imports ")[1] for found in upward(imports_of(tmp_path))] == ["statistics.panel"]


def test_a_circle_within_a_room_is_found(tmp_path: Path) -> None:
    files = {
        "scoring/a.py": "from ebbtide.scoring.b import x",
        "scoring/b.py": "from ebbtide.scoring import a",
    }
    plant(tmp_path, files)
    assert upward(imports_of(tmp_path)) == []
    assert set(circle(imports_of(tmp_path))) == {"scoring.a", "scoring.b"}


def test_a_figure_that_knows_a_metric_is_found(tmp_path: Path) -> None:
    plant(
        tmp_path, {"metrics/a.py": "x = 1", "figures/b.py": "from ebbtide.metrics.a import x\nimport pandas"}
    )
    assert upward(imports_of(tmp_path)) == []
    assert foreign_to_figures(imports_of(tmp_path)) == ["figures.b:1 imports metrics.a"]


def plant(package: Path, files: Mapping[str, str]) -> None:
    for name, text in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text + "\n")
