"""Digests of code: every module that a script really imports counts, and nothing else does."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ebbtide.code_version import NEUTRAL, PACKAGE, CodeVersions
from workspace import ROOT

SCRIPTS = sorted(path.stem for path in (ROOT / "workflow/scripts").glob("*.py"))
MODULES = sorted(
    str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if "__main__" not in path.name
)


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """Script → modules of the package that Python loads for it."""
    program = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('script', sys.argv[1])\n"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        "print(*[m for m in sys.modules if m.startswith('ebbtide.')])"
    )
    found = {}
    for name in SCRIPTS:
        file = ROOT / f"workflow/scripts/{name}.py"
        done = subprocess.run(
            [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True
        )
        found[name] = {module.removeprefix("ebbtide.") for module in done.stdout.split()}
    return found


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package and the scripts, to edit."""
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "workflow/ebbtide", ignore=skipped)
    shutil.copytree(ROOT / "workflow/scripts", tmp_path / "workflow/scripts", ignore=skipped)
    return tmp_path / "workflow/ebbtide"


def digests(package: Path) -> dict[str, str]:
    """Script → digest; unchanged sources are not parsed again."""
    versions = CodeVersions(package, package.parent / "cache.json")
    found = {name: versions.script(name) for name in SCRIPTS}
    found["measure"] = versions.module("metrics.measure")  # a verb, and no script
    versions.save()
    return found


def test_the_closure_holds_what_python_loads(imported: dict[str, set[str]]) -> None:
    versions = CodeVersions()
    for name, loaded in imported.items():
        closure = versions.closure(ROOT / f"workflow/scripts/{name}.py")
        assert loaded - NEUTRAL <= closure, name
        assert not closure & NEUTRAL


def test_an_edit_of_any_module_changes_the_scripts_that_load_it(
    package: Path, imported: dict[str, set[str]]
) -> None:
    """Every module in turn; modules that a script imports in a function may change it, too."""
    before, versions = digests(package), CodeVersions(package)
    closures = {name: versions.closure(package.parent / f"scripts/{name}.py") for name in SCRIPTS}
    closures["measure"] = versions.closure(package / "metrics/measure.py") | {"metrics.measure"}
    for module in MODULES:
        path = package / module
        name = module.removesuffix(".py").replace("/", ".").removesuffix(".__init__").removesuffix("__init__")
        source = path.read_text()
        path.write_text(source + "\nEDITED = True\n")
        after = digests(package)
        path.write_text(source)
        changed = {script for script in before if after[script] != before[script]}
        if name in NEUTRAL:
            assert not changed, name
            continue
        assert {script for script in SCRIPTS if name in imported[script]} <= changed, name
        assert changed == {script for script in closures if name in closures[script]}, name


def test_comments_docstrings_and_layout_change_nothing(package: Path) -> None:
    before = digests(package)
    path = package / "statistics/regression/fit.py"
    source = path.read_text()
    path.write_text("# a comment\n" + re.sub(r'^"""[^"]*"""', '"""Other words."""', source) + "\n\n\n")
    assert digests(package) == before
    path.write_text(source + "\nEDITED = True\n")
    assert digests(package)["regress"] != before["regress"]


def test_templates_of_a_page_count(package: Path) -> None:
    before = digests(package)
    template = package / "report/forgotten/templates/forgotten_examples.js"
    template.write_text(template.read_text() + "\n// edited\n")
    assert {s for s in SCRIPTS if digests(package)[s] != before[s]} == {"forgetting"}


def test_every_rule_with_a_script_carries_its_digest() -> None:
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        rules = re.split(r"^ *rule ", file.read_text(), flags=re.MULTILINE)[1:]
        for rule in rules:
            script = re.search(r'"\.\./scripts/(\w+)\.py"', rule)
            if script and not rule.startswith("check_alarms"):  # it runs whenever it is named
                assert f'code=CODE.script("{script[1]}")' in rule, (file.name, rule[:40])


def test_the_cache_saves_parsing_and_is_never_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache.json"
    first = CodeVersions(cache=cache)
    digest = first.script("plot")
    first.save()
    monkeypatch.setattr("ebbtide.code_version._parse", lambda *_: pytest.fail("a source was parsed again"))
    assert CodeVersions(cache=cache).script("plot") == digest
    monkeypatch.undo()
    monkeypatch.setattr("ebbtide.code_version._OWN_VERSION", "another")
    wrong = {key: [imports, "0"] for key, (imports, _) in json.loads(cache.read_text()).items()}
    cache.write_text(json.dumps(wrong))
    assert CodeVersions(cache=cache).script("plot") == digest  # digests of another version are not taken
    monkeypatch.undo()
    for damaged in ("", "[1]", '{"a": 1}', "{"):
        cache.write_text(damaged)
        assert CodeVersions(cache=cache).script("plot") == digest


def test_freezing_a_task_is_no_part_of_measuring_it() -> None:
    measured = CodeVersions().closure(PACKAGE / "metrics/measure.py")
    assert "metrics.choice" in measured and "tasks.lm_eval.results" in measured
    assert not {"tasks.lm_eval.freeze", "tasks.freezing", "corpus.documents"} & measured


def test_a_digest_is_the_same_in_every_version_of_python(tmp_path: Path) -> None:
    """Results made with one Python are not made again with another: this one was computed with 3.11."""
    package = tmp_path / "workflow/ebbtide"
    package.mkdir(parents=True)
    (package / "a.py").write_text(
        "def f(x: int, /, y=1.5, *z, k=None, **more) -> str:\n    return f'{x!r:>{y}}' if y else b'a'\n"
        "class C[()]: pass\n".replace("[()]", "()")
        + "async def g(): return [i async for i in z if i]\n"
    )
    assert CodeVersions(package).module("a") == "bad2f6abbc1fe841507bade9c38b4db5"


def test_an_unknown_module_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"no module ebbtide\.metricks"):
        CodeVersions().module("metricks")
