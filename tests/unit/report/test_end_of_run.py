"""The end of a run: alarms that were asked for, scaling laws in words, weights where they were used."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from ebbtide.report.end_of_run import end_of_run
from ebbtide.statistics.alarms.alarms import COLUMNS


class Budget:
    cleaned = 0

    def clean_up(self) -> None:
        self.cleaned += 1


def study(**alarms: str) -> SimpleNamespace:
    settings = {"fail_on": "moderate", "checkpoints": "all", **alarms}
    return SimpleNamespace(name="s", config={"alarms": settings})


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results/s").mkdir(parents=True)
    row = dict.fromkeys(COLUMNS, 0) | {"model": "m", "task": "t", "checkpoint": "c", "severity": "severe"}
    pd.DataFrame([row]).to_csv("results/s/alarms.tsv", sep="\t", index=False)
    Path("results/s/scaling.txt").write_text("loss 1.0 predicted\n")


def test_alarms_count_where_they_were_asked_for() -> None:
    assert end_of_run(study(), Budget(), {"check_alarms", "alarms"})
    assert not end_of_run(study(), Budget(), {"alarms", "all"})
    assert not end_of_run(study(fail_on="never"), Budget(), {"check_alarms"})


def test_scaling_laws_are_printed_where_the_run_made_them(capsys: pytest.CaptureFixture[str]) -> None:
    end_of_run(study(), Budget(), {"all"})
    assert capsys.readouterr().out == ""
    end_of_run(study(), Budget(), {"scaling_laws_summary"})
    assert "loss 1.0 predicted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rules", "cleaned"),
    [
        ({"lock"}, 0),
        ({"audit"}, 0),
        ({"plot_alarms", "all"}, 0),
        ({"score", "all"}, 1),
        ({"fetch_to_keep"}, 1),
    ],
)
def test_only_runs_that_use_weights_remove_weights(rules: set[str], cleaned: int) -> None:
    budget = Budget()
    end_of_run(study(), budget, rules)
    assert budget.cleaned == cleaned
