"""The claim of study files on the results of their name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ebbtide.errors import ConfigError
from ebbtide.jobs import hooks
from ebbtide.jobs.weight_budget import WeightBudget
from ebbtide.schema import read_yaml
from ebbtide.study.claim import claim_path
from ebbtide.study.load import load_study, read_study
from ebbtide.study.study import Study
from workspace import Workspace, write_small_study


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A checkout in which config.yaml has run."""
    monkeypatch.chdir(tmp_path)
    made = write_small_study(tmp_path)
    run("config.yaml")
    return made


def run(*files: str) -> Study:
    """Load a study and write its claim, as the start of a run does."""
    study = read_study(*files)
    claim_path(study.name).parent.mkdir(parents=True, exist_ok=True)
    claim_path(study.name).write_text(json.dumps(study.claim))
    return study


def write(name: str, **content: Any) -> str:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(yaml.safe_dump(content))
    return name


def other(name: str = "other.yaml", **changes: Any) -> str:
    """Another study of the same name with fewer cells."""
    return write(name, **{**read_yaml("config.yaml"), "tasks": ["tasks/fact_qa.yaml"], **changes})


def test_the_start_of_a_run_writes_the_claim(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    claim_path("small").unlink()
    study = read_study("config.yaml")
    monkeypatch.setattr(hooks, "jobs_to_run", lambda *_: [])
    hooks.on_start(study, WeightBudget(study), None)
    assert json.loads(Path("results/small/.study.json").read_text()) == {
        "cells": 18,
        "files": {"config.yaml": "small"},
    }


@pytest.mark.usefixtures("workspace")
def test_a_second_study_of_the_name_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        read_study(other())
    assert str(caught.value) == (
        "ConfigError: other.yaml: study: found 'small', but results/small has the results of config.yaml "
        "(18 cells); those of other.yaml (6 cells) would replace them. Give one of the studies another name, "
        "or run snakemake once with --config replace_results=true."
    )
    for told in (True, "true"):
        merged = {**read_yaml("other.yaml"), "replace_results": told}
        assert load_study(merged, ["other.yaml"]).name == "small"
    run(other(replace_results=True))
    write("other.yaml", **{k: v for k, v in read_yaml("other.yaml").items() if k != "replace_results"})
    assert read_study("other.yaml").name == "small"  # once is enough
    with pytest.raises(ConfigError, match=r"has the results of other\.yaml \(6 cells\)"):
        read_study("config.yaml")


def edit(workspace: Workspace) -> str:
    with workspace.edited("config.yaml") as content:
        content["tasks"] = ["tasks/fact_qa.yaml"]
    return "config.yaml"


def rename(workspace: Workspace) -> str:
    Path("config.yaml").rename("renamed.yaml")
    return "renamed.yaml"


def rename_study(workspace: Workspace) -> str:
    """A copy takes over the name when the original gives it up."""
    shutil.copy("config.yaml", "copy.yaml")
    with workspace.edited("config.yaml") as content:
        content["study"] = "elsewhere"
    return "copy.yaml"


def another_name(workspace: Workspace) -> str:
    return other(study="large")


def absolute(workspace: Workspace) -> str:
    return str(workspace.path / "config.yaml")


def through_a_link(workspace: Workspace) -> str:
    Path("link").symlink_to(workspace.path)
    return "link/config.yaml"


@pytest.mark.parametrize(
    "change", [edit, rename, rename_study, another_name, absolute, through_a_link], ids=lambda f: f.__name__
)
def test_the_same_study_is_not_refused(workspace: Workspace, change: Callable[[Workspace], str]) -> None:
    assert read_study(change(workspace))


def test_the_command_line_has_no_claim(workspace: Workspace) -> None:
    merged = {**read_yaml("config.yaml"), "tasks": ["tasks/fact_qa.yaml"]}
    assert load_study(merged, ["config.yaml"]).name == "small"


@pytest.mark.usefixtures("workspace")
def test_files_that_are_merged_claim_together() -> None:
    fast = write("fast.yaml", scoring={"backend": "fake"})
    few = write("few.yaml", tasks=["tasks/fact_qa.yaml"])
    assert read_study("config.yaml", fast).name == "small"  # settings only
    with pytest.raises(ConfigError, match=r"those of config\.yaml and few\.yaml \(6 cells"):
        read_study("config.yaml", few)
    Path("results/small/.study.json").unlink()
    run("config.yaml", few)
    assert read_study("config.yaml", few, fast).name == "small"
    with pytest.raises(ConfigError, match=r"has the results of config\.yaml and few\.yaml \(6 cells"):
        read_study("config.yaml")


def test_a_copy_of_a_checkout_is_its_own(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-copy")
    monkeypatch.chdir(copy)
    assert read_study("config.yaml").name == "small"
    assert read_study(str(copy / "config.yaml")).name == "small"


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"files": 3}'])
def test_a_damaged_claim_is_none(workspace: Workspace, damage: str) -> None:
    claim_path("small").write_text(damage)
    assert read_study(other()).name == "small"
