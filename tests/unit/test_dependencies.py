"""The files in envs/ are in step with pyproject.toml."""

import re
import tomllib
from importlib.metadata import distributions

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from workspace import ROOT

OLDEST = "3.11.0"  # requires-python
UNPINNED = {"trackio": "pillow", "vllm": "transformers"}  # extra → pin that it conflicts with


def test_every_dependency_is_pinned_within_its_range():
    extras = project()["optional-dependencies"]
    tested = {name: extra for name, extra in extras.items() if name not in UNPINNED}
    listed = [*project()["dependencies"], *(r for extra in tested.values() for r in extra)]
    wanted = [Requirement(r) for r in listed]
    lines = (ROOT / "envs/cpu.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in wanted:
        name = requirement.name.lower().replace("_", "-")
        assert name in pins, f"{name} is not in envs/cpu.txt; run `make lock`"
        assert requirement.specifier.contains(pins[name]), f"{name}: run `make lock`"


def test_the_lock_installs_on_the_oldest_python_that_the_readme_names() -> None:
    """A patch release counts as well: distributions of 2023 have 3.11.2."""
    pins = {line.partition("==")[0] for line in (ROOT / "envs/cpu.txt").read_text().splitlines()}
    excluded = [
        f"{of.metadata['Name']} {of.version}: {needs}"
        for of in distributions()
        if of.metadata["Name"].lower().replace("_", "-") in pins
        if (needs := of.metadata.get("Requires-Python")) and not SpecifierSet(needs).contains(OLDEST)
    ]
    assert not excluded


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_conda_environment_is_the_lock_and_an_extra():
    content = yaml.safe_load((ROOT / "envs/ebbtide.yaml").read_text())
    python, pip, packages = content["dependencies"]
    assert python == f"python {project()['requires-python']}"
    assert pip == "pip"
    constraints, editable = packages["pip"]
    # pip runs in the directory of the file.
    assert (ROOT / "envs" / constraints.removeprefix("-c ")).samefile(ROOT / "envs/cpu.txt")
    path, extras = re.fullmatch(r"-e ([^\[]+)\[([^\]]+)\]", editable).groups()
    assert (ROOT / "envs" / path / "pyproject.toml").samefile(ROOT / "pyproject.toml")
    assert set(extras.split(",")) <= set(project()["optional-dependencies"])


def test_the_image_installs_the_package_with_the_lock():
    text = re.sub(r"^#.*\n", "", (ROOT / "envs/ebbtide.def").read_text(), flags=re.MULTILINE)
    header, *sections = re.split(r"^%(?=\w)", text, flags=re.MULTILINE)
    named = {section.split("\n")[0]: section.split("\n")[1:] for section in sections}
    [base] = re.findall(r"^From: python:([\d.]+)-slim$", header, re.MULTILINE)
    assert SpecifierSet(project()["requires-python"]).contains(base)
    copied = dict(line.split() for line in named["files"] if line.strip())
    assert all((ROOT / source).exists() for source in copied)
    assert copied["envs/cpu.txt"] == "/opt/ebbtide/cpu.txt"
    # What building the package reads is there.
    needed = ["pyproject.toml", project()["readme"], "workflow/ebbtide"]
    assert all(copied[name] == f"/opt/ebbtide/{name}" for name in needed)
    [install] = [line.strip() for line in named["post"] if line.strip()]
    extras = re.fullmatch(
        r'pip install --no-cache-dir -c /opt/ebbtide/cpu.txt "/opt/ebbtide\[(.+)\]"', install
    )[1]
    assert set(extras.split(",")) <= set(project()["optional-dependencies"])
