"""Studies that the Snakefile must be able to read before all is known of them: of a hub, of lm-eval."""

import shutil
from pathlib import Path

import pytest
import yaml

from workspace import ROOT, Workspace, write_small_study

pytestmark = pytest.mark.slow


def needs_lock(file: Path) -> bool:
    """Whether a study has a series of the hub."""
    study = yaml.safe_load(file.read_text())
    series = [row.get("series", "") for row in study.get("models", [])]
    return any("repo" in (ROOT / f"workflow/series/{name}.yaml").read_text() for name in series if name)


STUDIES = sorted(file.stem for file in (ROOT / "studies").glob("predictability_*.yaml") if needs_lock(file))


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_that_is_not_locked_says_so_and_can_be_locked(name: str, tmp_path: Path) -> None:
    study = Workspace(tmp_path)
    shutil.copy(ROOT / f"studies/{name}.yaml", tmp_path / "config.yaml")
    planned = study.snakemake("--cores", "1", "-n", "lock")
    assert "lock" in planned.stdout
    refused = study.snakemake("--cores", "1", "-n", check=False)
    said = refused.stdout
    assert refused.returncode != 0 and "Traceback" not in said
    assert "does not exist; run `snakemake lock --cores 1`" in said


def test_there_are_such_studies() -> None:
    assert {"predictability_recidivism", "predictability_toxicity"} <= set(STUDIES)


def test_a_task_of_lm_eval_that_generates_needs_no_settings_of_decoding(tmp_path: Path) -> None:
    study = write_small_study(tmp_path)
    source = {"lm_eval": "gsm8k", "version": "0.4.13"}
    task = {"title": "Sums in words", "kind": "generation", "source": source}
    study.write_yaml("tasks/sums.yaml", task)
    with study.edited("config.yaml") as config:
        config["tasks"] = ["tasks/sums.yaml"]
    assert study.planned()["freeze"] == 1
