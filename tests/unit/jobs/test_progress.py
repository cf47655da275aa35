"""Progress inside a cell: what a worker writes, which one prints, and what scoring pays for it."""

import json
import os
import time
from pathlib import Path

import pytest

import tiny
from ebbtide.jobs import progress as module
from ebbtide.jobs.progress import CellProgress, CellState, in_words, running, sweep
from ebbtide.scoring.encoded_task import encode_task
from ebbtide.scoring.engine import load_scorer, score_task
from ebbtide.scoring.scorer import Counters
from ebbtide.tables import REQUESTS, read_parquet


class Terminal:
    """A `Progress` that always prints, and keeps what it was given."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.lines: list[str | None] = []

    def show(self, text: str, on_terminal: object) -> None:
        self.log.append(text)
        assert callable(on_terminal)
        self.lines.append(on_terminal())


class Clock:
    def __init__(self) -> None:
        self.now, self.asked = 100.0, 0

    def __call__(self) -> float:
        self.asked += 1
        return self.now


def worker(directory: Path, name: str) -> tuple[CellProgress, Terminal, Clock]:
    """A worker with a file of its own, as if it were another process."""
    terminal, clock = Terminal(), Clock()
    made = CellProgress(terminal, directory, clock)  # type: ignore[arg-type]
    made._file = directory / f"{name}.json"
    made.start(f"m/c/{name}")
    return made, terminal, clock


def test_a_line_has_the_tokens_the_rate_and_the_time_left(tmp_path: Path) -> None:
    cell, terminal, clock = worker(tmp_path, "t")
    clock.now += 20
    cell.report(2_000, 10_000)
    assert (
        terminal.log
        == terminal.lines
        == ["m/c/t: 2,000 of 10,000 tokens (20 %), 100 tokens/s, about 80 s left"]
    )
    assert running(tmp_path) == [CellState("m/c/t", 2_000, 10_000, 100.0)]


def test_passes_between_two_lines_cost_a_look_at_the_clock(tmp_path: Path) -> None:
    cell, terminal, clock = worker(tmp_path, "t")
    before = clock.asked
    for done in range(1000):
        cell.report(done, 10_000)
    assert clock.asked - before == 1000
    assert (terminal.log, list(tmp_path.iterdir())) == ([], [])


def test_one_worker_prints_for_all(tmp_path: Path) -> None:
    first, said_first, clock_first = worker(tmp_path, "a")
    second, said_second, clock_second = worker(tmp_path, "b")
    clock_first.now += 10
    clock_second.now += 10
    first.report(1_000, 2_000)
    second.report(1_000, 8_000)
    assert said_second.lines == [None], "the first speaks for it"
    assert said_second.log == ["m/c/b: 1,000 of 8,000 tokens (12 %), 100 tokens/s, about 70 s left"]
    clock_first.now += 10
    first.report(1_500, 2_000)
    assert said_first.lines[-1] == (
        "2 cells at once: 2,500 of 10,000 tokens (25 %), 175 tokens/s, about 70 s left"
    )
    first.report(2_000, 2_000)  # ends, and leaves the terminal to the other
    clock_second.now += 10
    second.report(4_000, 8_000)
    assert said_second.lines[-1] == "m/c/b: 4,000 of 8,000 tokens (50 %), 200 tokens/s, about 20 s left"


def test_states_of_workers_that_died_are_ignored_and_swept(tmp_path: Path) -> None:
    old = time.time() - module.STALE_SECONDS - 1
    for name, text in (
        ("dead", '{"name": "m/c/t", "done": 1, "total": 2, "rate": 1.0}'),
        ("torn", '{"name": '),
        ("other", '{"version": 9}'),
    ):
        (tmp_path / f"{name}.json").write_text(text)
    os.utime(tmp_path / "dead.json", (old, old))
    assert running(tmp_path) == []
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.json", "torn.json"]
    assert running(tmp_path / "none") == []


def test_a_directory_that_cannot_be_written_does_not_stop_scoring(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cell, terminal, clock = worker(tmp_path / "file", "t")
    clock.now += 10
    cell.report(1, 2)
    cell.end()
    assert len(terminal.log) == 1


def test_an_unknown_rate_has_no_time_left() -> None:
    assert in_words([CellState("m/c/t", 0, 0, 0.0)]) == (
        "m/c/t: 0 of 0 tokens (0 %), 0 tokens/s, about 0 s left"
    )


@pytest.mark.parametrize("backend", ["auto", "transformers"])
def test_scoring_reports_once_per_forward_pass_and_scores_the_same(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tiny.checkpoint(tmp_path / "checkpoint")
    scorer = load_scorer(directory, backend=backend)
    table = read_parquet(tiny.requests(tmp_path / "r.parquet", tiny.ROWS * 1), REQUESTS)
    rules = {"encoding": "harness", "bos": "tokenizer", "truncation": "left", "window": scorer.window}
    task = encode_task(scorer, table, "r.parquet", **rules)
    undisturbed = score_task(scorer, task, table, "r.parquet")
    monkeypatch.setattr("ebbtide.scoring.model_scorer.chunk_size", lambda *_: 3)
    calls: list[tuple[int, int]] = []
    reported = score_task(scorer, task, table, "r.parquet", report=lambda *call: calls.append(call))
    unique = undisturbed.footer["unique_tokens"]
    assert unique == reported.footer["unique_tokens"] == len(task.requests.trie)
    assert calls[-1] == (unique, unique) and calls == sorted(set(calls))
    assert len(calls) == -(-unique // 3)
    same = ("loglikelihood", "greedy")
    assert reported.rows.select(same[1:]).equals(undisturbed.rows.select(same[1:]))
    assert reported.rows["loglikelihood"].to_pylist() == pytest.approx(
        undisturbed.rows["loglikelihood"].to_pylist(), abs=1e-4
    )


def test_counters_without_a_reporter_count() -> None:
    counters = Counters(unique=4)
    counters.done(2, 2)
    counters.done(4, 1)
    assert counters.chunk == 2
    assert json.dumps(counters.unique) == "4"
