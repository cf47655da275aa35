"""The end of a run: alarms that were asked for, scaling laws in words, weights where they were used."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from ebbtide.notices import Notice
from ebbtide.report.end_of_run import end_of_run, failed_run, nothing_to_do
from ebbtide.statistics.alarms.alarms import COLUMNS
from ebbtide.statistics.alarms.not_compared import COLUMNS as MISSING


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
    row |= {"group": "", "allowed": "", "allowed_until": ""}
    pd.DataFrame([row]).to_csv("results/s/alarms.tsv", sep="\t", index=False)
    pd.DataFrame(columns=list(MISSING)).to_csv("results/s/not_compared.tsv", sep="\t", index=False)
    Path("results/s/scaling.txt").write_text("loss 1.0 predicted\n")


def test_alarms_count_where_they_were_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of_run(study(), Budget(), {"check_alarms", "alarms"}) == 1
    assert capsys.readouterr().out == "1 alarm at or above moderate: exit status 1.\n"
    assert end_of_run(study(), Budget(), {"alarms", "all"}) == 0
    assert capsys.readouterr().out == ""
    assert end_of_run(study(fail_on="never"), Budget(), {"check_alarms"}) == 0


def test_what_is_true_of_this_run_only_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    notice = Notice("note", "dropped", "1 file cannot be used.", "Check it.")
    assert end_of_run(study(), Budget(), {"all"}, [notice]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "What to know before you use these numbers: 1 note",
        "note     dropped: 1 file cannot be used. Check it.",
    ]


def test_a_gate_that_compared_nothing_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame(columns=list(COLUMNS)).to_csv("results/s/alarms.tsv", sep="\t", index=False)
    assert end_of_run(study(), Budget(), {"check_alarms"}) == 2
    assert capsys.readouterr().out == "Nothing was compared, so the gate fails: exit status 2.\n"


@pytest.mark.parametrize(("until", "found"), [("", 0), ("9999-12-31", 0), ("2020-01-01", 1)])
def test_allowed_alarms_do_not_count_until_their_last_day(until: str, found: int) -> None:
    table = pd.read_csv("results/s/alarms.tsv", sep="\t").assign(allowed="known", allowed_until=until)
    table.to_csv("results/s/alarms.tsv", sep="\t", index=False)
    assert end_of_run(study(), Budget(), {"check_alarms"}) == found


def test_every_run_ends_with_the_summary_also_one_with_nothing_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    up_to_date = (
        "The results of s are up to date. Summary: results/s/summary.txt. "
        "For the report, add --report results/s/report.zip to this command.\n"
    )
    rules = {"all", "summary", "score"}
    nothing_to_do(study(), rules)
    assert capsys.readouterr().out == up_to_date  # the summary was deleted by hand, and is not a target
    Path("results/s/summary.txt").write_text("2 cells scored.\n")
    end_of_run(study(), Budget(), rules)
    assert capsys.readouterr().out == "2 cells scored.\n\n"
    nothing_to_do(study(), rules)
    assert capsys.readouterr().out == f"2 cells scored.\n\n{up_to_date}"
    nothing_to_do(study(), rules, dry_run=True)
    assert capsys.readouterr().out == up_to_date
    nothing_to_do(study(), {"lock"})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("file", "command"), [("config.yaml", ""), ("s.yaml", " s.yaml"), ("--config", "")])
def test_a_run_that_fails_ends_with_the_causes_and_what_is_left(file: str, command: str) -> None:
    lines = failed_run(SimpleNamespace(file=file), ["a.log: TaskError: x."], ["Jobs done: scoring 1 of 2."])
    assert lines == [
        "Jobs done: scoring 1 of 2.",
        f"To see what is there and what failed, run: ebbtide status{command}",
        "a.log: TaskError: x.",
    ]


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
