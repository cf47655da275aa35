"""Every recipe of docs/extending.md, applied to a copy of the checkout, and its commands run there."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from checkout import Checkout
from workspace import ROOT, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]

DOCUMENT = ROOT / "docs/extending.md"
STATISTIC = "A statistic with its table and figure"
MOST_FILES = 8  # of a statistic
GENERATED = {
    "make outputs": {"docs/outputs.md"},
    "make reference": {"docs/reference/tables.md", "docs/reference/task.md"},
}  # command → the tracked files that it writes, of which a recipe changes one at least
PLACES = (
    (re.compile(r"New file `(?P<path>[^`]+)`:"), "new"),
    (re.compile(r"At the end of `(?P<path>[^`]+)`:"), "end"),
    (re.compile(r"In `(?P<path>[^`]+)`, after the line `(?P<line>.+)`:"), "after"),
    (re.compile(r"In `(?P<path>[^`]+)`, before the line `(?P<line>.+)`:"), "before"),
    (re.compile(r"In `(?P<path>[^`]+)`, in place of the line `(?P<line>.+)`:"), "in place"),
)


@dataclass(frozen=True)
class Edit:
    """A block of a recipe: a new file, or lines at a place of an existing one."""

    path: str
    place: str
    line: str
    text: str

    def apply(self, checkout: Path) -> None:
        file = checkout / self.path
        if self.place == "new":
            assert not file.exists(), f"{self.path} is not new"
            assert file.parent.parent.is_dir(), f"{self.path} is in a directory that does not exist"
            file.parent.mkdir(exist_ok=True)
            file.write_text(self.text)
            return
        assert file.is_file(), f"{self.path} does not exist"
        lines = file.read_text().splitlines(keepends=True)
        if self.place == "end":
            file.write_text("".join(lines) + self.text)
            return
        found = [number for number, line in enumerate(lines) if line.strip() == self.line]
        assert len(found) == 1, f"{self.path} has {len(found)} lines {self.line!r}"
        first = found[0] + (self.place == "after")
        lines[first : found[0] + (self.place != "before")] = [self.text]
        file.write_text("".join(lines))


@dataclass
class Recipe:
    """A section of the page: its edits, and its commands with the lines that they print."""

    title: str
    edits: list[Edit] = field(default_factory=list)
    commands: list[tuple[str, list[str]]] = field(default_factory=list)

    @property
    def paths(self) -> set[str]:
        return {edit.path for edit in self.edits}


def recipes(text: str) -> dict[str, Recipe]:
    """Title → recipe, of the sections of the page that have blocks."""
    found = [_recipe(section) for section in text.split("\n## ")[1:]]
    return {recipe.title: recipe for recipe in found}


def _recipe(section: str) -> Recipe:
    recipe = Recipe(section.partition("\n")[0])
    for block in re.finditer(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", section, re.M | re.S):
        if block["language"] == "console":
            recipe.commands += _commands(block["text"])
            continue
        above = section[: block.start()].rstrip("\n").rpartition("\n")[2]
        matches = [(found, place) for form, place in PLACES if (found := form.fullmatch(above))]
        assert matches, f"{recipe.title}: no file is named by the line {above!r}"
        (found, place), *_ = matches
        line = found.groupdict().get("line", "")
        recipe.edits.append(Edit(found["path"], place, line, block["text"]))
    return recipe


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, *lines = part.splitlines()
        yield command, lines


def missing(expected: list[str], output: str) -> str | None:
    """The first of the expected lines that the output does not have, in their order; `…` is anything."""
    rest = iter(output.splitlines())
    for line in expected:
        form = re.compile(re.escape(line.strip()).replace("…", ".*"))
        if line.strip() != "…" and not any(form.fullmatch(printed.strip()) for printed in rest):
            return line
    return None


RECIPES = recipes(DOCUMENT.read_text(encoding="utf-8"))


class Recipes(Checkout):
    """A checkout to which a recipe is applied."""

    def touched(self) -> set[str]:
        """Files that are new or changed, without those that git ignores."""
        return set(self.run("git diff --name-only; git ls-files --others --exclude-standard").split())

    def lint(self, paths: set[str]) -> None:
        python = shlex.join(sorted(path for path in paths if path.endswith(".py")))
        if python:
            self.run(f"ruff check {python} && ruff format --check {python}")
        rules = shlex.join(sorted(path for path in paths if path.endswith(".smk")))
        if rules:
            self.run(f"snakefmt --check {rules}")


def on_small_study(command: str, checkout: Recipes, study: Workspace) -> tuple[str, Path]:
    """The command, with the small study in place of the embedded one, and where it runs."""
    if "results/ladder/" not in command:
        return command, checkout.path
    command = command.replace("results/ladder/", "results/small/").replace("--cores all", "--cores 1")
    snakefile, config = checkout.path / "Snakefile", study.path / "config.yaml"
    options = f"snakemake --snakefile {snakefile} --directory {study.path} --configfile {config}"
    return re.sub(r"^snakemake\b", options, command), study.path


@pytest.mark.parametrize("title", RECIPES)
def test_the_recipe_works(title: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    recipe = RECIPES[title]
    checkout = Recipes(tmp_path / "checkout")
    for edit in recipe.edits:
        edit.apply(checkout.path)
    checkout.lint(recipe.paths)
    assert recipe.commands
    needs_study = any("results/ladder/" in command for command, _ in recipe.commands)
    study = request.getfixturevalue("study") if needs_study else Workspace(tmp_path)
    for command, expected in recipe.commands:
        output = checkout.run(*on_small_study(command, checkout, study))
        line = missing(expected, output)
        assert line is None, f"{command}\ndid not print {line!r}, but:\n{output[-6000:]}"
    generated = [GENERATED[command] for command, _ in recipe.commands if command in GENERATED]
    touched = checkout.touched()
    assert recipe.paths <= touched <= recipe.paths.union(*generated)
    assert all(files & touched for files in generated)


def test_the_page_counts_the_files_of_its_recipes() -> None:
    rows = re.findall(r"^\| an? (.+?) \| (\d+)", DOCUMENT.read_text(encoding="utf-8"), re.M)
    counted = {title.partition(" ")[2]: len(recipe.paths) for title, recipe in RECIPES.items()}
    assert {name: int(count) for name, count in rows} == counted
    assert len(RECIPES[STATISTIC].paths) <= MOST_FILES


# The test's own machinery: what is wrong on the page must not pass.

PAGE = """# Page

## A thing

New file `a/b.py`:

```python
X = 1
```

In `a.py`, after the line `Y = 2`:

```python
Z = 3
```

```console
$ echo one; echo two
one
…
$ true
```
"""


def test_a_page_is_read() -> None:
    (recipe,) = recipes(PAGE).values()
    assert recipe.edits == [Edit("a/b.py", "new", "", "X = 1\n"), Edit("a.py", "after", "Y = 2", "Z = 3\n")]
    assert recipe.commands == [("echo one; echo two", ["one", "…"]), ("true", [])]


def test_a_block_without_a_file_is_found() -> None:
    with pytest.raises(AssertionError, match="no file is named"):
        recipes(PAGE.replace("New file", "Some file"))


@pytest.mark.parametrize(
    ("place", "expected"), [("after", "YZ\n"), ("before", "ZY\n"), ("in place", "Z\n"), ("end", "YZ\n")]
)
def test_lines_go_where_the_page_says(place: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("first\n  Y\n" if place != "end" else "first\nY\n")
    Edit("a.py", place, "Y", "Z\n").apply(tmp_path)
    lines = (tmp_path / "a.py").read_text().split()
    assert lines[0] == "first"
    assert "".join(lines[1:]) + "\n" == expected


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (Edit("a.py", "new", "", ""), "is not new"),
        (Edit("b/c/d.py", "new", "", ""), "a directory that does not exist"),
        (Edit("b.py", "end", "", ""), "b.py does not exist"),
        (Edit("a.py", "after", "gone", ""), "has 0 lines 'gone'"),
        (Edit("a.py", "after", "twice", ""), "has 2 lines 'twice'"),
    ],
)
def test_a_wrong_place_is_found(edit: Edit, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("twice\ntwice\n")
    with pytest.raises(AssertionError, match=reason):
        edit.apply(tmp_path)


def test_what_a_command_does_not_print_is_found() -> None:
    output = "one\n3 passed in 0.1s\n"
    assert missing(["3 passed in …"], output) is None
    assert missing(["…", "one", "…", "3 passed in …"], output) is None
    assert missing(["4 passed in …"], output) == "4 passed in …"
    assert missing(["3 passed in …", "one"], output) == "one"
