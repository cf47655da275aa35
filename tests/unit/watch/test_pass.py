"""Passes of a watcher without Snakemake: a stand-in writes the cells that a run would score."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import formats
import tiny
from ebbtide.cells import store
from ebbtide.cli.publish import TRACKERS
from ebbtide.errors import ConfigError
from ebbtide.jobs.leads import check_deleted_weights
from ebbtide.report.notices import of_audit
from ebbtide.study.load import read_settings, read_study
from ebbtide.watch import loop, one_pass
from ebbtide.watch.loop import watch
from ebbtide.watch.ownership import owned
from ebbtide.watch.snakemake import LOCKED, Ended
from watching import GOOD, Runs, once
from workspace import Workspace, write_small_study

ALARM = "1 alarm at or above moderate: exit status 1.\n"
ROWS = ["model", "checkpoint", "task", "metric", "group", "against", "severity", "allowed", "allowed_until"]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(one_pass, "run_snakemake", made)
    return made


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A run with steps 100 and 200."""
    monkeypatch.chdir(tmp_path)
    made = write_small_study(tmp_path)
    with made.edited("config.yaml") as config:
        row = {"name": "run", "path": "run/step{step}", "steps": "all", "tokens_per_step": 1000}
        config |= {"models": [row], "tasks": ["tasks/fact_qa.yaml"], "watch": {"settle_seconds": 0}}
        config["scoring"] = {"backend": "fake", "dtype": "float32", "rescore_examples": 0}
    for step in (100, 200):
        tiny.hollow_checkpoint(tmp_path / f"run/step{step}", step)
    return made


def test_new_checkpoints_are_scored_and_old_ones_are_not_mentioned_one_by_one(
    study: Workspace, runs: Runs
) -> None:
    assert once() == (
        0,
        ["run/step100: scored 1 cell", "run/step200: scored 1 cell", "gate: No alarm at or above moderate"],
    )
    tiny.hollow_checkpoint(Path("run/step300"), 300)
    status, said = once()
    assert (status, said[0]) == (0, "run/step300: scored 1 cell") and said[1] == "2 checkpoints scored before"
    identity = read_study("config.yaml").identity(
        read_study("config.yaml").checkpoint("run", "step300"), "fact_qa"
    )
    Path("results/scores/run/step300/fact_qa.parquet").unlink()
    tiny.stored(Path("cells"), identity)
    assert store.is_whole(store.path_of("cells", identity), identity)
    assert once()[1][0] == "run/step300: copied 1 cell of the store"


def test_what_waits_is_said_with_the_time_and_becomes_a_warning(
    study: Workspace, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = tiny.hollow_checkpoint(Path("run/step300"), 300) / "model.safetensors"
    content = half.read_bytes()
    half.write_bytes(content[:-1])
    status, said = once()
    assert status == 0 and said[0].startswith(
        "run/step300: waits: run/step300/model.safetensors has 75 bytes"
    )
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    assert once()[1][0].startswith("run/step300: waits for 2 h 0 min: ")
    with study.edited("config.yaml") as config:
        config["watch"]["patience_hours"] = 1
    assert once()[1][0].startswith("warning: run/step300: waits for 2 h 0 min: ")
    half.write_bytes(content)
    assert once()[1][0] == "run/step300: scored 1 cell"
    half.write_bytes(content[:-1])
    assert once()[1][0].startswith("run/step300: waits: ")  # from now on
    [finding] = [f for f in read_study(*runs.files[-1]).findings if f.finding == "left_out"]
    assert (finding.checkpoints, finding.detail) == (
        ("step300",),
        "left out of this run: it is not whole yet",
    )
    [notice] = of_audit(pd.DataFrame([finding.row()]))
    assert (notice.severity, notice.kind, notice.model) == ("warning", "dropped", "run")


def test_a_run_without_a_checkpoint_is_waited_for(study: Workspace, runs: Runs) -> None:
    shutil.rmtree("run")
    assert once() == (0, ["run: waits: no directory matches its path yet", "no checkpoint to score yet"])
    tiny.hollow_checkpoint(Path("run/step100"), 100)
    status, said = once()
    assert status == 0 and said[-1] == "gate: not asked: no model has two trained checkpoints"


def test_a_disk_that_vanishes_changes_no_result(study: Workspace, runs: Runs) -> None:
    once()
    before = {path: path.stat().st_mtime_ns for path in Path("results").rglob("*.parquet")}
    shutil.move("run", "away")
    assert once() == (0, ["2 checkpoints scored before", "gate: No alarm at or above moderate"])
    assert {path: path.stat().st_mtime_ns for path in Path("results").rglob("*.parquet")} == before
    assert {f.finding for f in read_study(*runs.files[-1]).findings} == {"gone"}


def test_a_checkpoint_that_was_deleted_before_it_was_scored_does_not_stop_the_others(
    study: Workspace, runs: Runs
) -> None:
    once()
    tiny.hollow_checkpoint(Path("run/step300"), 300)
    read_study("config.yaml")  # records what it has
    for step in (200, 300):  # of which one has its cell
        shutil.rmtree(f"run/step{step}")
    tiny.hollow_checkpoint(Path("run/step400"), 400)
    refused = "run/step300: refused: its weights were deleted before it was scored on fact_qa; restore them"
    gate = "gate: No alarm at or above moderate"
    assert once() == (2, [refused, "run/step400: scored 1 cell", "2 checkpoints scored before", gate])
    check_deleted_weights(read_study(*runs.files[-1]))  # as every run of Snakemake does
    assert once() == (2, [refused, "3 checkpoints scored before", gate])
    tiny.hollow_checkpoint(Path("run/step300"), 300)
    assert once() == (0, ["run/step300: scored 1 cell", "3 checkpoints scored before", gate])


def test_a_checkpoint_that_fails_is_left_out_until_it_changes(
    study: Workspace, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with study.edited("config.yaml") as config:
        config["watch"]["attempts"] = 2
    runs.failing = {"step200"}
    tiny.hollow_checkpoint(Path("run/step300"), 300)
    for attempt in (1, 2):
        status, said = once()
        assert status == 2
        times = "1 time" if attempt == 1 else "2 times"
        assert f"run/step200: failed {times} (watch.attempts: 2): ScoringError: it cannot be." in said
        assert said[-1] == "gate: No alarm at or above moderate"  # of the others
    assert "run/step300: scored 1 cell" not in said  # but before
    count = len(runs.files)
    status, said = once()
    assert (status, said[0]) == (2, "run/step200: refused: it failed 2 times: ScoringError: it cannot be.")
    assert len(runs.files) == count + 1  # nothing was tried
    now = time.time()
    with monkeypatch.context() as later:
        later.setattr(time, "time", lambda: now + 25 * 3600)
        assert once()[1][0] == "run/step200: failed 3 times (watch.attempts: 2): ScoringError: it cannot be."
        assert "run/step200: refused: it failed 3 times: ScoringError: it cannot be." in once()[1]
    assert (
        "run/step200: failed 1 time (watch.attempts: 2): ScoringError: it cannot be." in once(retry=True)[1]
    )
    once()
    runs.failing = set()
    shutil.rmtree("run/step200")
    tiny.hollow_checkpoint(Path("run/step200"), 201)  # other weights
    status, said = once()
    assert (status, said[0]) == (0, "run/step200: scored 1 cell")
    assert json.loads(Path("results/small/.watch.json").read_text())["failed"] == {}


def test_a_conversion_that_fails_is_a_failure_of_its_checkpoint(study: Workspace, runs: Runs) -> None:
    with study.edited("config.yaml") as config:
        row = {"path": "run/{step}.pt", "format": "pt", "config": "like", "tokenizer": "like"}
        config["models"][0] |= row
        config["watch"]["attempts"] = 1
    formats.beside(Path("like"), "gpt_neox")
    for step in (100, 200, 300):
        formats.pt(Path(f"run/{step}.pt"), formats.tensors_of("gpt_neox", step))
    runs.failing = {"step200"}
    runs.failed_log = "logs/convert/{model}/{checkpoint}-{weights}.log"
    status, said = once()
    assert status == 2 and said == [
        "run/step100: scored 1 cell",
        "run/step200: failed 1 time (watch.attempts: 1): ScoringError: it cannot be.",
        "run/step300: scored 1 cell",
        "gate: No alarm at or above moderate",
    ]
    assert list(Path("logs").glob("convert/run/step200-converted-*.log"))
    status, said = once()
    assert (status, said[0]) == (2, "run/step200: refused: it failed 1 time: ScoringError: it cannot be.")


def test_the_audit_refuses_the_new_checkpoint_not_the_old_ones(study: Workspace, runs: Runs) -> None:
    once()
    shutil.copytree("run/step200", "run/step300")
    tiny.hollow_checkpoint(Path("run/step400"), 400)
    status, said = once()
    assert status == 2
    assert said[0].startswith(
        "run/step300: refused: config.yaml: models[0].path: the same weights at 2 steps"
    )
    assert said[1:] == [
        "run/step400: scored 1 cell",
        "2 checkpoints scored before",
        "gate: No alarm at or above moderate",
    ]


def test_a_study_that_is_broken_for_a_while_does_not_end_the_loop(
    study: Workspace, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, said = Path("config.yaml").read_text(), list[str]()
    texts = iter([whole, "study: [", "study: small\nmodel: []\n", whole.replace("small", "other"), whole])

    def sleep(seconds: float) -> None:
        text = next(texts, None)
        if text is None:
            raise KeyboardInterrupt
        Path("config.yaml").write_text(text)

    monkeypatch.setattr(loop.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        watch(["config.yaml"], [], said.append, every=60)
    passes = " ".join(said).split("pass ended: ")
    statuses = [int(one.removeprefix("status ")[0]) for one in passes[1:]]
    assert statuses == [0, 0, 2, 2, 2, 0]
    assert "ConfigError: config.yaml is not valid YAML" in passes[2]
    assert "unknown key" in passes[3] or "model" in passes[3]
    assert "study: found 'other', but 'small' is watched" in passes[4]
    Path("config.yaml").write_text("study: [")
    with pytest.raises(ConfigError):  # a typing error is found at once
        watch(["config.yaml"], [], said.append, every=60)
    assert len(list(Path("results").iterdir())) == 2  # small, scores


def test_another_run_of_snakemake_defers_the_pass(
    study: Workspace, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_pass, "run_snakemake", lambda *a: Ended(1, f"Error: {LOCKED}. …", a[3]))
    status, said = once()
    assert status == 2
    assert said == [
        "deferred: another run of Snakemake has locked the files of this study. If there is none, run: "
        "snakemake --unlock --configfile config.yaml"
    ]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        watch(["config.yaml"], [], said.append, every=3600)
    assert pauses[0] <= loop.SOON


@pytest.mark.parametrize(
    ("ended", "status", "said"),
    [
        ((0, GOOD), 0, "gate: No alarm at or above moderate"),
        (
            (2, "Nothing was compared, so the gate fails: exit status 2.\n"),
            2,
            "gate: Nothing was compared, so the gate fails",
        ),
        ((1, "XError: y\n"), 2, "run: failed: XError: y (see logs/watch/small.run.log)"),
        ((1, GOOD), 2, "run: failed: No alarm at or above moderate: exit status 0. (see logs"),
        ((-9, ""), 2, "run: failed: it printed nothing (see"),
        (
            (2, "FigureError: z\nA job failed, so alarms were not checked: exit status 2.\n"),
            2,
            "run: failed: FigureError: z",
        ),
    ],
)
def test_the_verdict_of_the_gate(
    study: Workspace, runs: Runs, ended: tuple[int, str], status: int, said: str
) -> None:
    runs.ended = ended
    found, lines = once()
    assert found == status and lines[-1].startswith(said)


@pytest.fixture
def any_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let alarms.tsv have the columns that a watcher reads and no others."""
    monkeypatch.setattr(
        "ebbtide.watch.notify.read_described", lambda path: pd.read_csv(path, sep="\t", keep_default_na=False)
    )


def alarms(*rows: tuple[str, str]) -> None:
    """Write alarms.tsv with alarms of (checkpoint, severity); the other columns do not matter here."""
    made = [["run", name, "fact_qa", "accuracy", "", "best", severity, "", ""] for name, severity in rows]
    Path("results/small").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(made, columns=ROWS).to_csv("results/small/alarms.tsv", sep="\t", index=False)


def test_new_alarms_are_reported_once(study: Workspace, runs: Runs, any_columns: None) -> None:
    note = "import os; open('said', 'a').write(' '.join(os.environ['EBBTIDE_' + n] for n in names) + '\\n')"
    names = "names = ['STUDY', 'MESSAGE', 'ALARMS', 'REPORT']; "
    with study.edited("config.yaml") as config:
        config["watch"]["on_alarm"] = [sys.executable, "-c", names + note]
    runs.ended = 1, ALARM

    def reports(*rows: tuple[str, str]) -> int:
        alarms(*rows)
        assert once()[0] == 1
        return len(Path("said").read_text().splitlines())

    assert reports(("step200", "severe")) == 1
    assert reports(("step200", "severe")) == 1
    assert reports(("step200", "severe"), ("step100", "minor")) == 1  # below fail_on
    runs.ended = 2, "Nothing was compared, so the gate fails: exit status 2.\n"
    assert once()[0] == 2
    runs.ended = 1, ALARM
    assert reports(("step200", "severe")) == 1
    assert reports(("step200", "severe"), ("step100", "moderate")) == 2
    results = Path("results/small").resolve()
    message = f"small 1 alarm at or above moderate {results}/alarms.tsv {results}/report/index.html"
    assert Path("said").read_text().splitlines()[0] == message
    # After a pass without alarms they are new.
    runs.ended = 0, GOOD
    assert once()[0] == 0
    runs.ended = 1, ALARM
    assert reports(("step200", "severe")) == 3
    # A command that fails is tried again.
    with study.edited("config.yaml") as config:
        config["watch"]["on_alarm"] = [sys.executable, "-c", "exit('no mail today')"]
    alarms(("step300", "severe"))
    for _ in range(2):
        status, said = once()
        assert (status, said[-1]) == (
            2,
            "on_alarm: failed: status 1, no mail today (see logs/watch/small.on_alarm.log)",
        )
    with study.edited("config.yaml") as config:
        config["watch"]["on_alarm"] = ["nothing-of-this-name"]
    assert once()[1][-1] == "on_alarm: failed: nothing-of-this-name: No such file or directory"


def test_results_are_published_after_a_pass_and_a_failure_is_said(
    study: Workspace, runs: Runs, any_columns: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], log: Path) -> Ended:
        commands.append(command[3:])
        failed = command[-1] == "mlflow"
        return Ended(2 if failed else 0, "PublishError: no server\n" if failed else "", log)

    monkeypatch.setattr("ebbtide.watch.notify.run", run)
    with study.edited("config.yaml") as config:
        config["watch"]["publish"] = ["mlflow", "wandb"]
    runs.ended = 1, ALARM
    alarms()
    status, said = once()
    assert (status, said[-2:]) == (
        2,
        [
            "publish mlflow: failed: status 2, PublishError: no server "
            "(see logs/watch/small.publish-mlflow.log)",
            "publish wandb: done",
        ],
    )
    assert commands == [
        ["publish", "results/small/.watch.yaml", "config.yaml", "--to", tracker]
        for tracker in ("mlflow", "wandb")
    ]


def test_results_go_to_the_trackers_of_publish_and_to_no_others(study: Workspace) -> None:
    for trackers in ([one] for one in TRACKERS):
        with study.edited("config.yaml") as config:
            config["watch"]["publish"] = trackers
        assert read_settings("config.yaml")["watch"]["publish"] == trackers
    with study.edited("config.yaml") as config:
        config["watch"]["publish"] = ["wanbd"]
    with pytest.raises(ConfigError, match=r"watch.publish.*'wanbd'.*wandb"):
        read_settings("config.yaml")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"version": 7}', '{"version": 1, "failed": 3, "waiting": {}}']
)
def test_a_damaged_memory_is_said_and_begun_anew(study: Workspace, runs: Runs, content: str) -> None:
    Path("results/small").mkdir(parents=True)
    Path("results/small/.watch.json").write_text(content)
    status, said = once()
    assert status == 0 and "waiting times and failures are counted anew" in said[0]
    assert "counted anew" not in once()[1][0]


def test_the_results_of_a_watched_study_are_those_of_the_study_alone(study: Workspace, runs: Runs) -> None:
    """The overlay claims no results and changes no identity."""
    once()
    plain, watched = read_study("config.yaml"), read_study(*runs.files[-1])
    assert plain.claim == watched.claim and plain.file == watched.file
    assert [plain.expected(c) for c in plain.checkpoints()] == [
        watched.expected(c) for c in watched.checkpoints()
    ]


def test_a_pass_waits_for_the_run_of_a_killed_watcher(
    study: Workspace, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    going: list[str] = ["the run of Snakemake goes on"]
    ask: Callable[[Any], str] = lambda run: going[0]  # noqa: E731
    monkeypatch.setattr(one_pass, "still_running", ask)
    assert once() == (2, ["deferred: the run of Snakemake goes on"])
    assert not runs.files
    going[0] = ""
    assert once()[0] == 0
    with owned(Path("results/small/.watch.lock")) as own:
        assert own.predecessor is None
