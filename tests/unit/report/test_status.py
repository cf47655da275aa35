"""`ebbtide status`: what it counts, names and estimates, on made-up cells."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

import formats
import tiny
from ebbtide import cli
from ebbtide.cells import store
from ebbtide.cells.cell import write_cell
from ebbtide.files import file_sha256
from ebbtide.jobs.leads import cell_path
from ebbtide.logs import duration
from ebbtide.report import status as status_module
from ebbtide.report.stages_done import record_outputs, record_path
from ebbtide.report.status import SAMPLE
from ebbtide.study.load import read_study
from ebbtide.study.outputs import Outputs
from ebbtide.study.study import Study
from task_data import json_lines, put

WORDS = [{"prompt": f"the {w}", "classes": [" old", " young"], "answer_index": 0} for w in ("lion", "child")]
TOKENS = {"t1": 1000, "t2": 3000}


def write_study(steps: list[int], **more: Any) -> Study:
    for step in steps:
        tiny.hollow_checkpoint(Path(f"run/step{step}"), step)
    for task, rows in (("t1", WORDS), ("t2", WORDS[::-1])):
        source = put(json_lines(rows), f"{task}.jsonl")
        Path(f"{task}.yaml").write_text(yaml.safe_dump({"title": task, "source": source}))
    config = {
        "study": "s",
        "models": [{"name": "m", "path": "run/step{step}", "steps": steps}],
        "tasks": ["t1.yaml", "t2.yaml"],
        "scoring": {"dtype": "float32"},
        **more,
    }
    Path("s.yaml").write_text(yaml.safe_dump(config))
    return read_study("s.yaml")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    return write_study([1, 2, 3])


def make(
    study: Study, step: int, task: str, *, published: bool = True, identity: Any = None, **record: Any
) -> Path:
    """Write a cell to the results or the store; a token takes 1 ms."""
    checkpoint = study.checkpoint("m", f"step{step}")
    identity = identity or study.identity(checkpoint, task)
    counters = {"unique_tokens": TOKENS[task], "seconds": TOKENS[task] / 1000, **record}
    footer = {"requests": 4, "requests_sha256": "0", "parameters_total": 3, "parameters_non_embedding": 2}
    path = Path(cell_path(checkpoint, task)) if published else store.path_of("cells", identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_cell(tiny.cell_rows(2, 2), path, identity, footer | counters)
    return path


def log(step: int, task: str, text: str) -> None:
    path = Path(f"logs/score/m/step{step}/{task}.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def asked(capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    assert cli.main(["status", "s.yaml", *more]) == 0
    return capsys.readouterr().out.splitlines()


def files() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}


def test_a_study_without_cells_says_what_to_run(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    shown = asked(capsys)
    assert shown[0] == "Study s (s.yaml): models: 1, checkpoints: 3, tasks: 2."
    assert shown[1] == "0 of 6 cells are in the results, 6 missing."
    assert "Unknown tokens: m: no cell of some task is done with the same tokenizer." in shown
    assert shown[-1] == "To make what is missing, run: snakemake --cores all --configfile s.yaml"
    assert "Summary: missing, results/s/summary.txt does not exist." in shown
    assert "Report page: missing, results/s/report/index.html does not exist." in shown


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"gpus": 2}, " That is 0.00444 GPU-hours, 40.00 EUR."),  # 2 × 8 s
        ({"gpus": 0}, ""),
        ({}, ""),  # a cell of an earlier version
    ],
)
def test_a_price_is_said_where_gpus_scored(
    record: dict,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    study = write_study([1, 2, 3], cost={"gpu_hour": 9000, "currency": "EUR"})
    for task in TOKENS:
        make(study, 1, task, **record)
    [line] = [line for line in asked(capsys) if line.startswith("Cost: ")]
    end = "about 8 s of one job after loading weights, by the recorded rates of cells that are done."
    assert line == f"Cost: 8,000 tokens, {end}{words}"


def test_missing_cells_with_reasons_and_costs(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    make(study, 1, "t1")
    make(study, 1, "t2", published=False)
    make(study, 2, "t1", identity={**study.identity(study.checkpoint("m", "step2"), "t1"), "recipe": -1})
    log(2, "t2", "12:00:00 loaded weights\nScoringError: no memory for 4 tokens.\n")
    log(3, "t2", "12:00:00 loaded weights\nScoringError: no memory for 4 tokens.\n")
    log(3, "t1", "Interrupted.\n")
    before = files()
    shown = asked(capsys, "--cells")
    assert files() == before, "asking changes nothing"
    assert shown[1] == (
        "1 of 6 cells are in the results, 1 in the store, to be copied, 4 missing, 2 of them failed, "
        "1 of them changed since they were scored."
    )
    table = [line.split() for line in shown if line.startswith(("model ", "m "))]
    # Two cells of 1,000 tokens and two of 3,000, at 1 ms a token.
    assert table == [
        ["model", "cells", "there", "stored", "missing", "failed", "tokens", "time"],
        ["m", "6", "1", "1", "4", "2", "8,000", "8", "s"],
    ]
    assert any(line.startswith("Cost: 8,000 tokens, about 8 s of one job") for line in shown)
    failed = shown.index("Failed cells:")
    assert shown[failed + 1] == (
        "logs/score/m/step2/t2.log and 1 more: ScoringError: no memory for 4 tokens."
    )
    assert shown[-4:] == [
        "m\tstep2\tt1\toutdated",
        "m\tstep2\tt2\tfailed\tScoringError: no memory for 4 tokens.",
        "m\tstep3\tt1\tmissing",
        "m\tstep3\tt2\tfailed\tScoringError: no memory for 4 tokens.",
    ]


def test_a_finished_study_is_two_lines_and_its_summary(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2, 3):
        for task in TOKENS:
            make(study, step, task)
    for part in study.parts("metrics"):
        Path(part).parent.mkdir(parents=True, exist_ok=True)
        Path(part).touch()
    Path("results/s/summary.txt").write_text("whole")
    shown = asked(capsys)  # as after the job of the page was killed
    assert shown[-3:] == [
        "Report page: missing, results/s/report/index.html does not exist.",
        "Stages: their outputs are known after the next run, which records them.",
        "To make what is missing, run: snakemake --cores all --configfile s.yaml",
    ]
    Path("results/s/report").mkdir()
    Path("results/s/report/index.html").touch()
    remedy = "results/s/report/index.html is empty. Delete it and run snakemake."
    assert asked(capsys)[5] == f"Report page: {remedy}"
    Path("results/s/report/index.html").write_text("whole")
    shown = asked(capsys)
    assert shown[1] == "6 of 6 cells are in the results."
    assert shown[3] == "Metrics: of 3 of 3 checkpoints."
    assert shown[4].startswith("Summary: results/s/summary.txt, written 2")
    assert shown[5].startswith("Report page: results/s/report/index.html, written 2")
    assert len(shown) == 7

    outputs = Outputs("results/s")
    outputs.tables("alarms", {"alarms.tsv": "", "not_compared.tsv": ""})
    outputs.tables("trends", {"trends.tsv": ""})
    outputs.tables("runs", {"run_arms.tsv": ""}, when=False)
    outputs.figures("trends", {"trends": ""}, shows=["trends.tsv"])
    record_outputs(study, outputs)
    parts, names = study.parts("metrics"), ["alarms.tsv", "trends.tsv", "report/index.html"]

    def at(time: int, *paths: str) -> None:
        for path in paths:
            Path(path).parent.mkdir(exist_ok=True)
            Path(path).touch()
            os.utime(path, (time, time))

    at(100, *parts, *(f"results/s/{name}" for name in names))
    at(100, *(f"results/s/figures/trends.{form}" for form in ("pdf", "png")))
    missing = "Stages with missing files: alarms (1 of 2)."
    old = "Stages older than what they are made of: "
    good = "Stages up to date by the times of their files (a run also compares settings and code): "
    run = "To make what is missing, run: snakemake --cores all --configfile s.yaml"
    assert asked(capsys)[6:] == [missing, f"{old}report page.", f"{good}trends, figures.", run]
    at(100, "results/s/not_compared.tsv")
    assert asked(capsys)[6:] == [f"{good}alarms, trends, figures, report page."]
    at(200, "results/s/trends.tsv")
    assert asked(capsys)[6:] == [f"{old}figures, report page.", f"{good}alarms, trends.", run]
    at(300, parts[0])
    assert asked(capsys)[6] == f"{old}alarms, trends, figures, report page."
    at(400, *(f"results/s/{name}" for name in ("alarms.tsv", "not_compared.tsv", "trends.tsv")))
    Path(cell_path(study.checkpoint("m", "step1"), "t1")).unlink()  # a run would make all of it again
    assert f"{old}alarms, trends, figures, report page." in asked(capsys)
    Path("s.yaml").write_text(Path("s.yaml").read_text() + "alarms: {fail_on: severe}\n")
    changed = "The configuration has changed since the last run, which recorded these stages:"
    assert changed in asked(capsys)
    record_path("s").write_text("{")
    assert "Stages: their outputs are known after the next run, which records them." in asked(capsys)


def test_a_study_that_is_not_locked_names_its_other_rows_and_the_command(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        Path("s.yaml").read_text().replace("models:\n", "models:\n- {series: pythia, sizes: [pythia-70m]}\n")
    )
    Path("s.yaml").write_text(text)
    shown = asked(capsys)
    assert shown[0] == "Study s (s.yaml): models: 2, checkpoints: 3, tasks: 2."
    assert shown[1].startswith("Not locked: pythia-70m")
    assert shown[2:] == [
        "Without a lock: m (3 checkpoints). Their cells are counted once all models are locked.",
        "To lock, run: snakemake lock --cores 1 --configfile s.yaml",
    ]


def test_a_study_of_imports_names_them_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.tsv").write_text("model\tstep\ttask\tvalue\na\t1\tt\t0.5\n")
    row: dict[str, Any] = {
        "format": "table",
        "source": "t.tsv",
        "sha256": file_sha256("t.tsv"),
        "metric": "accuracy",
        "models": [{"name": "a"}],
    }
    row["columns"] = {name: name for name in ("model", "step", "task", "value")}
    Path("s.yaml").write_text(yaml.safe_dump({"study": "s", "models": [], "tasks": [], "imported": [row]}))
    shown = asked(capsys)
    assert shown[1:3] == ["No cell is scored here.", "imported[0]: table from t.tsv, models a."]
    assert shown[-1] == "To make what is missing, run: snakemake --cores all --configfile s.yaml"


def test_failures_before_and_after_scoring_are_named(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    part, frozen = Path(study.parts("metrics")[0]), Path(study.tasks["t1"].frozen)
    for path in (
        *(f"logs/freeze/{frozen.stem}.log", f"logs/measure/s/m/{part.stem}.log"),
        *("logs/freeze/t1-of-before.log", "logs/measure/s/m/step1-of-before.log"),  # of other definitions
        *("logs/regress/s.log", "logs/regress/another.log"),
    ):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(f"TaskError: {path}.\n")
    shown = asked(capsys)
    first = shown.index("Other failed jobs:") + 1
    failed = shown[first : shown.index("", first)]
    logs = [f"logs/freeze/{frozen.stem}.log", f"logs/measure/s/m/{part.stem}.log", "logs/regress/s.log"]
    assert failed == [f"{path}: TaskError: {path}." for path in logs]
    for made in (part, frozen):  # since
        made.parent.mkdir(parents=True, exist_ok=True)
        made.touch()
    text = "\n".join(asked(capsys))
    assert "logs/freeze" not in text and "logs/measure" not in text and "logs/regress/s.log" in text


def test_failures_of_jobs_that_bring_weights_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"name": "m", "path": "pt/{step}.pt", "steps": [1, 2], "format": "pt", "average": {"last": 2}}
    formats.beside(Path("like"), "gpt_neox")
    for step in (1, 2):
        formats.pt(Path(f"pt/{step}.pt"), formats.tensors_of("gpt_neox", step))
    study = write_study([], models=[{**row, "config": "like", "tokenizer": "like"}])
    logs = []
    for checkpoint in study.checkpoints():  # named as the rules do, by the directory to make
        rule = "average" if checkpoint.parents else "convert"
        log = Path(f"logs/{rule}/{checkpoint.model}/{checkpoint.name}-{Path(checkpoint.marker).name}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"CheckpointError: {rule} {checkpoint.name}.\n")
        logs.append(log)
    log.with_name(f"{checkpoint.name}-averaged-before.log").write_text("CheckpointError: of before.\n")
    assert {log.parts[1] for log in logs} == {"convert", "average"}
    shown = asked(capsys)
    first = shown.index("Other failed jobs:") + 1
    assert shown[first : shown.index("", first)] == [f"{log}: {log.read_text().strip()}" for log in logs]


def test_cells_that_are_being_scored_are_shown_during_a_run(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    make(study, 1, "t1")
    Path("resources/ahead/progress").mkdir(parents=True)
    for number, name in enumerate(("m/step2/t1", "m/step1/t1", "other/step1/t1")):  # done since; of another
        state = {"name": name, "done": 250, "total": 1000, "rate": 50.0}
        Path(f"resources/ahead/progress/host-{number}.json").write_text(json.dumps(state))
    shown = asked(capsys)
    first = shown.index("Being scored:")
    assert shown[first : first + 3] == [
        "Being scored:",
        "m/step2/t1: 250 of 1,000 tokens (25 %), 50 tokens/s, about 15 s left",
        "",
    ]


def test_recompute_makes_every_cell_missing(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    make(study, 1, "t1")
    with Path("s.yaml").open("a") as file:
        file.write("recompute: true\n")
    assert asked(capsys)[1].startswith("0 of 6 cells are in the results, 6 missing")


def test_a_cell_that_vanishes_meanwhile_only_leaves_its_cost_unknown(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [make(study, 1, task) for task in TOKENS]
    read = status_module.read_footer

    def vanishing(path: Path, *arguments: Any) -> Any:
        for made in paths:
            made.unlink(missing_ok=True)
        return read(path, *arguments)

    monkeypatch.setattr(status_module, "read_footer", vanishing)
    shown = asked(capsys)
    assert shown[1].startswith("2 of 6 cells are in the results, 4 missing")
    assert any(line.startswith("Unknown tokens: m") for line in shown)


def test_a_large_study_is_estimated_from_few_footers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = write_study(list(range(1, 62)))
    source = make(study, 1, "t1")
    template = source.read_bytes()
    identity = store.canonical_json(dict(study.identity(study.checkpoint("m", "step1"), "t1")))
    for step in range(2, 61):  # as a file with the right footer, which is what planning looks at
        other = dict(study.identity(study.checkpoint("m", f"step{step}"), "t1"))
        path = Path(cell_path(study.checkpoint("m", f"step{step}"), "t1"))
        path.parent.mkdir(parents=True, exist_ok=True)
        text = store.canonical_json(other)
        assert len(text) == len(identity)
        path.write_bytes(template.replace(identity.encode(), text.encode()))
    make(study, 1, "t2")
    read, counted = status_module.read_footer, []
    monkeypatch.setattr(status_module, "read_footer", lambda *a: counted.append(a) or read(*a))
    shown = asked(capsys)
    assert shown[1] == "61 of 122 cells are in the results, 61 missing."
    assert len(counted) <= 2 * SAMPLE + len(TOKENS)
    assert any(line.startswith("Cost: 181,000 tokens") for line in shown)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1 h 30 min"), (200_000, "2 d 8 h")],
)
def test_a_duration_has_at_most_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_an_unknown_study_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["status", "none.yaml"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
