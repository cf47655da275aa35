"""The lock in envs/ is in step with pyproject.toml."""

import tomllib

from packaging.requirements import Requirement

from workspace import ROOT


def test_every_dependency_is_pinned_within_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *(r for extra in extras.values() for r in extra)]
    wanted = [Requirement(r) for r in listed]
    lines = (ROOT / "envs/cpu.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in wanted:
        name = requirement.name.lower().replace("_", "-")
        assert name in pins, f"{name} is not in envs/cpu.txt; run `make lock`"
        assert requirement.specifier.contains(pins[name]), f"{name}: run `make lock`"
