"""The end of a run: alarms that were asked for, scaling laws in words, weights where they were used."""

import json
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from ebbtide.notices import Notice
from ebbtide.report.end_of_run import clear_gate, end_of_run, failed_run, gate_not_checked, nothing_to_do
from ebbtide.report.gate.gate import Gate
from ebbtide.report.gate.reports import REPORTS, write_reports


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
    Path("results/s/scaling.txt").write_text("loss 1.0 predicted\n")


def verdict(status: int) -> str:
    gate = Gate("s", date(2026, 6, 15), "moderate", "all", status, f"A reason: exit status {status}.")
    write_reports(gate, Path("results/s/gate"))
    return f"{gate.reason}\n"


def test_alarms_count_where_they_were_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for status in (0, 1, 2):
        reason = verdict(status)
        assert end_of_run(study(), Budget(), {"check_alarms", "alarms"}) == status
        assert capsys.readouterr().out == reason
        assert end_of_run(study(), Budget(), {"alarms", "all"}) == 0
        assert capsys.readouterr().out == ""


def test_a_verdict_that_cannot_be_read_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    verdict(0)
    path = Path("results/s/gate/gate.json")
    path.write_text(path.read_text()[:100])
    assert end_of_run(study(), Budget(), {"check_alarms"}) == 2
    said = capsys.readouterr().out
    assert "is not known, because results/s/gate/gate.json is not readable JSON" in said
    assert said.endswith("exit status 2.\n")


def test_reports_of_an_earlier_run_are_removed_only_by_the_gate() -> None:
    verdict(0)
    (Path("results/s/gate") / "notes.txt").write_text("of a user")
    clear_gate(study(), {"alarms", "all"})
    assert len(list(Path("results/s/gate").iterdir())) == len(REPORTS) + 1
    clear_gate(study(), {"check_alarms"})
    assert [path.name for path in Path("results/s/gate").iterdir()] == ["notes.txt"]


def test_a_run_that_fails_has_reports_of_the_failure() -> None:
    verdict(0)
    reason = gate_not_checked(study(), ["a.log: CellError: x is damaged."])
    assert reason == "A job failed, so alarms were not checked: exit status 2."
    gate = json.loads(Path("results/s/gate/gate.json").read_text())
    assert (gate["status"], gate["causes"]) == (2, ["a.log: CellError: x is damaged."])
    for name in REPORTS:
        text = Path("results/s/gate", name).read_text()
        assert "not checked" in text and "x is damaged" in text


def test_what_is_true_of_this_run_only_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    notice = Notice("note", "dropped", "1 file cannot be used.", "Check it.")
    assert end_of_run(study(), Budget(), {"all"}, [notice]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "What to know before you use these numbers: 1 note",
        "note     dropped: 1 file cannot be used. Check it.",
    ]


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
