"""`ebbtide flips` on planted flips: what it prints, and its errors."""

import json
from pathlib import Path

import pytest

from ebbtide import cli
from ebbtide.cells import store
from ebbtide.errors import CellError
from ebbtide.jobs.freeze_task import freeze_task
from ebbtide.jobs.leads import cell_path
from ebbtide.statistics.flips.cells import Cells
from ebbtide.statistics.flips.of_alarms import cell_in_results
from ebbtide.study.load import read_study
from planted_flips import EVIL, GAINED, LOST, planted, put_cell, scored_study, write_study

PAIR = "--model a --from 1 --to step2"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def run(options: str = PAIR, study: str = "s.yaml") -> int:
    return cli.main(["flips", study, *options.split()])


def test_planted_flips_are_listed_with_exact_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    scored_study()
    assert run(f"{PAIR} --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["pairs", "groups", "examples"]
    [pair] = found["pairs"]
    assert (pair["n"], pair["lost"], pair["gained"]) == (24, 11, 1)
    assert (pair["from_tokens"], pair["to_tokens"]) == (100, 200)
    assert pair["groups"] == "10 of 11 in country=France, Japan (16 of 24 examples)"
    assert [(g["level"], g["lost"]) for g in found["groups"]] == [("France", 6), ("Japan", 4), ("Peru", 1)]
    lost = [e for e in found["examples"] if e["flip"] == "lost"]
    assert [int(e["example"]) for e in lost] == list(LOST)  # by margin lost
    assert [e["rank"] for e in lost] == list(range(1, 12))
    assert lost[1]["margin_before"] == 1 and lost[1]["margin_lost"] == pytest.approx(3.9)
    assert lost[0]["right"] == [0] and (lost[0]["chosen_before"], lost[0]["chosen_after"]) == (0, 1)
    assert lost[0]["probability_before"][0] == pytest.approx(1 / (1 + 2.718281828**-1))
    assert sum(lost[0]["probability_after"]) == pytest.approx(1)
    assert [(e["other_models"], e["also_in"]) for e in lost[:3]] == [(2, "b, c"), (2, "b"), (2, "")]
    assert [int(e["example"]) for e in found["examples"] if e["flip"] == "gained"] == list(GAINED)
    assert lost[0]["group_country"] == "France" and lost[0]["choices"] == [" yes", f" no{EVIL}"]


def test_a_task_can_be_named_several_times(capsys: pytest.CaptureFixture[str]) -> None:
    scored_study()
    assert run(f"{PAIR} --task t t --task t --json") == 0
    assert len(json.loads(capsys.readouterr().out)["pairs"]) == 1


def test_on_the_terminal_nothing_is_too_long_or_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored_study(few_shot={"k": 2, "separator": "\n\n", "seed": 1})
    assert run(f"{PAIR} --limit 2") == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "t, accuracy: a step1 → step2: 0.917 → 0.5\n"
        "11 of 24 examples went from right to wrong, 1 from wrong to right.\n"
        "Of these, 10 of 11 in country=France, Japan (16 of 24 examples).\n"
        "\n"
        "1. right → wrong: example 0, country=France, margin +1 → -3, also in 2 of 2 other models\n"
        "   [before this: 2 few-shot examples, "
    )
    assert "   Question 0: what?\n   Answer:\n   0.731 → 0.047  right  answer before" in out
    assert r'" no\x1b[31mred\u202e <script>alert(1)</script>\ttab"' in out
    assert "… and 9 more: right → wrong (--limit 11)." in out
    assert all(c.isprintable() or c == "\n" for c in out)
    monkeypatch.setenv("COLUMNS", "40")
    assert run(f"{PAIR} --limit 2") == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


def test_as_a_table_each_example_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    scored_study()
    assert run(f"{PAIR} --tsv") == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 13 and all(c.isprintable() or c in "\n\t" for c in out)
    assert "Question 0: what?⏎Answer:" in out and "\t[0]\t" in out


def test_two_models_can_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    scored_study()
    assert run("--model a --from b/step2 --to 2 --limit 1") == 0
    out = capsys.readouterr().out
    assert out.startswith("t, accuracy: b step2 → a step2: ")
    assert "9 of 24 examples went from right to wrong" in out and "other model" not in out


ERRORS = [
    (
        "--model aa --from 1 --to 2",
        "--model: found 'aa', which is not a scored model of s.yaml; allowed: a;",
    ),
    ("--model a --from zz/1 --to 2", "--from: found 'zz', which is not a scored model"),
    (
        "--model a --from step0 --to 2",
        "--from: found 'step0', but a has no such checkpoint; allowed: step1",
    ),
    ("--model a --from 1 --to stp2", "did you mean 'step2'"),
    ("--model a --from 1 --to step1", "found a/step1 for both"),
    (f"{PAIR} --task t s.yaml", "allowed: t. Give the study before the options."),
    (f"{PAIR} --task u", "--task: found 'u', which is not a task of s.yaml; allowed: t."),
    (f"{PAIR} --metric acuracy", "TaskError: --metric: found 'acuracy'; allowed for t: accuracy, "),
    (f"{PAIR} --metric acuracy", "did you mean 'accuracy'"),
    (f"{PAIR} --metric ties", "'ties', of which neither a higher nor a lower value is better; allowed"),
    (f"{PAIR} --metric majority_baseline", "of which neither a higher nor a lower value is better"),
    (
        f"{PAIR} --metric calibration_error",
        "'calibration_error', whose value of an example depends on the other examples; allowed for t: acc",
    ),
    (f"{PAIR} --metric perplexity", "'perplexity', which is not a metric of the kind choice; allowed"),
    (
        f"{PAIR} --metric accuracy_pmi",
        "'accuracy_pmi', which needs unconditional, which neither the requests nor the cell",
    ),
]


def test_errors_name_what_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    study = write_study(["a"])
    for step in (1, 2):
        put_cell(study, "a", step, planted("a", step))
    for options, message in ERRORS:
        assert run(options) == 2
        assert message in capsys.readouterr().err


def test_a_missing_cell_says_how_to_score_it_and_results_serve_as_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = write_study(["a"])
    put_cell(study, "a", 1, planted("a", 1))
    assert run() == 2
    error = capsys.readouterr().err
    assert error.startswith("CellError: a/step2 is not scored on t: cells/")
    assert error.endswith(
        "To score it, run: snakemake --cores all --configfile s.yaml results/scores/a/step2/t.parquet\n"
    )
    in_results = Path(cell_path(study.checkpoint("a", "step2"), "t"))
    put_cell(study, "a", 2, planted("a", 2), in_results)
    assert run() == 0
    stored = store.path_of("cells", study.identity(study.checkpoint("a", "step1"), "t"))
    stored.write_bytes(stored.read_bytes()[:-40])
    assert run() == 2
    assert f"{stored} is incomplete, or another cell" in capsys.readouterr().err


def test_a_task_without_cells_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    scored_study()
    Path("u.yaml").write_text(Path("t.yaml").read_text().replace("title: T", "title: U\ndelimiter: ' '"))
    Path("s.yaml").write_text(Path("s.yaml").read_text().replace("- t.yaml", "- t.yaml\n- u.yaml"))
    freeze_task("u.yaml", read_study("s.yaml").tasks["u"].frozen)
    assert run(f"{PAIR} --tsv") == 0
    out, error = capsys.readouterr()
    assert len(out.splitlines()) == 13
    assert error.startswith("u is left out: a/step1 is not scored on u: cells/")
    assert run(f"{PAIR} --task t u") == 2
    assert capsys.readouterr().err.startswith("CellError: a/step1 is not scored on u: cells/")


def test_the_workflow_reads_any_cell_in_the_results_but_checks_its_requests() -> None:
    study = write_study(["a"])
    path, _ = cell_in_results("a", "step1", "t")
    put_cell(study, "a", 1, planted("a", 1), path)
    cells = Cells({"t": study.tasks["t"].frozen}, {"t": study.tasks["t"].measuring}, cell_in_results)
    assert len(cells.examples("a", "step1", "t")) == 24
    with pytest.raises(CellError, match=r"step2/t\.parquet does not exist; run snakemake to make it"):
        cells.examples("a", "step2", "t")
