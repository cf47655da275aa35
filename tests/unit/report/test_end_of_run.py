"""The end of a run: status 1 only where alarms were asked for, and the words of scaling laws."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from ebbtide.report.end_of_run import end_of_run
from ebbtide.statistics.alarms.alarms import COLUMNS


def study(**alarms: str) -> SimpleNamespace:
    return SimpleNamespace(config={"alarms": {"fail_on": "moderate", "checkpoints": "all", **alarms}})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    row = dict.fromkeys(COLUMNS, 0) | {"model": "m", "task": "t", "checkpoint": "c", "severity": "severe"}
    pd.DataFrame([row]).to_csv(tmp_path / "alarms.tsv", sep="\t", index=False)
    (tmp_path / "scaling.txt").write_text("loss 1.0 predicted\n")
    return tmp_path


def test_the_status_comes_from_alarms_that_were_asked_for(results: Path) -> None:
    assert end_of_run(study(), str(results), {"check_alarms", "alarms"}) == ("", 1)
    assert end_of_run(study(), str(results), {"alarms", "all"}) == ("", 0)
    assert end_of_run(study(fail_on="never"), str(results), {"check_alarms"}) == ("", 0)


def test_scaling_laws_are_told_where_the_run_made_them(results: Path) -> None:
    assert end_of_run(study(), str(results), {"scaling_laws_summary"}) == ("loss 1.0 predicted\n\n", 0)
    assert end_of_run(study(), str(results), {"all"}) == ("", 0)
