"""Encoded tasks in the cell store: made once, checked at every use, and never a reason for another number."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import tiny
from ebbtide.cells import store
from ebbtide.checkpoints.directory import identities
from ebbtide.errors import CellError, ScoringError
from ebbtide.files import canonical_json
from ebbtide.jobs import worker
from ebbtide.jobs.encoded_tasks import EncodedTasks
from ebbtide.jobs.loaded import Job, Loaded
from ebbtide.jobs.progress import CellProgress
from ebbtide.logs import Progress
from ebbtide.scoring import encoded, encoding, engine
from ebbtide.scoring import tokenizer as tokenizers_of
from ebbtide.scoring.encoded_file import DIRECTORY
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.tables import CELL, REQUESTS, content_sha256, read_footer, read_parquet, write_parquet
from ebbtide.tasks.freezing import frozen
from scoring_reference import score_rolling
from task_data import define


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two checkpoints with one tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return [tiny.checkpoint(folder / str(number), scale=number) for number in (1, 2)]


@pytest.fixture(autouse=True)
def messages(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> pytest.LogCaptureFixture:
    monkeypatch.chdir(tmp_path)  # definitions of tasks are written there
    monkeypatch.setattr(logging.getLogger("ebbtide"), "propagate", True)
    return caplog


def job(checkpoint: Path, requests: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    weights, tokenizer = identities(checkpoint)
    task = read_footer(requests, REQUESTS)["identity"]
    identity = tiny.identity(task, weights=weights, tokenizer=tokenizer, **changes)
    return {
        "name": f"m/{checkpoint.name}/{requests.stem}",
        "checkpoint": str(checkpoint / "config.json"),
        "requests": str(requests),
        "identity": identity,
        "cells": str(folder / "cells"),
        "hint": None,
        "threads": 1,
    }


def score(asked: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Score a cell as a worker does, with nothing in memory; its rows and footer."""
    own = worker.Work(asked, {}, Loaded(1), EncodedTasks(asked["cells"]), CellProgress(Progress()))
    worker._scored(own, asked)
    path = store.path_of(asked["cells"], asked["identity"])
    return read_parquet(path, CELL), read_footer(path, CELL)


def stored(folder: Path) -> list[Path]:
    return sorted((folder / "cells" / DIRECTORY).glob("[!.]*"))


def rolling(to: Path) -> Path:
    requests, record = frozen(
        define([{"text": "the old child " * (9 + n)} for n in range(3)], kind="rolling")
    )
    write_parquet(requests, to, REQUESTS, record)
    return to


def count_calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts from now on how often tokenizers are loaded and used, and tries built."""
    calls = {"load_tokenizer": 0, "ids": 0, "encodings": 0, "build_trie": 0}

    def counted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            calls[name] += 1
            return work(*arguments, **named)

        return call

    for name, place in (
        ("load_tokenizer", tokenizers_of),
        ("ids", tokenizers_of.Tokenizer),
        ("encodings", tokenizers_of.Tokenizer),
        ("build_trie", encoded),
    ):
        monkeypatch.setattr(place, name, counted(name, getattr(place, name)))
    return calls


@pytest.fixture(autouse=True)
def _without_load_proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts of load proofs are encoded, too, and are not what is counted here."""
    monkeypatch.setattr(worker, "prove_load", lambda *_: None)


@pytest.mark.parametrize("kind", ["choice", "rolling"])
def test_the_second_checkpoint_neither_tokenises_nor_builds_tries(
    kind: str, checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = tmp_path / "task.parquet"
    requests = rolling(requests) if kind == "rolling" else tiny.requests(requests)
    calls = count_calls(monkeypatch)
    score(job(checkpoints[0], requests, tmp_path))
    assert calls["load_tokenizer"] == calls["build_trie"] == 1
    assert calls["ids"] >= 1
    first = dict(calls)
    rows, footer = score(job(checkpoints[1], requests, tmp_path))
    assert calls == first
    assert len(stored(tmp_path)) == 1

    scorer = load_scorer(checkpoints[1])
    expected = (score_rolling if kind == "rolling" else score_requests)(scorer, requests)
    assert content_sha256(rows) == content_sha256(expected.rows)
    assert rows.schema.types == expected.rows.schema.types
    measured = ("seconds", "peak_memory_bytes")
    same = {name: value for name, value in expected.footer.items() if name not in measured}
    assert {name: footer[name] for name in same} == same


def test_a_worker_that_finds_arrays_never_imports_tokenizers(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for its task nor for the load proof."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    requests = tiny.requests(tmp_path / "task.parquet")
    score(job(checkpoints[0], requests, tmp_path))
    code = (
        "import sys; from ebbtide.jobs import worker; status = worker.main();"
        "print(sorted({'tokenizers', 'transformers', 'pandas'} & set(sys.modules))); sys.exit(status)"
    )
    asked = canonical_json(job(checkpoints[1], requests, tmp_path))
    done = subprocess.run([sys.executable, "-c", code, asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "made the load proof" in done.stderr
    assert done.stdout == "[]\n"


def truncate(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)


def replace_by_another(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def replace_by_text(path: Path, other: Path) -> None:
    path.write_text("{}")


def replace_by_a_named_pipe(path: Path, other: Path) -> None:
    """Opening it would wait for ever."""
    path.unlink()
    os.mkfifo(path)


def write_a_record(path: Path, record: str) -> None:
    save_file({"tokens": np.zeros(1)}, path, {"ebbtide": record})


def replace_record_by_text(path: Path, other: Path) -> None:
    write_a_record(path, '"text"')


def nest_record(path: Path, other: Path) -> None:
    write_a_record(path, "[" * 100_000)


def make_old(path: Path, other: Path) -> None:
    """The file of an earlier version, complete and under its old name."""
    from ebbtide.scoring import encoded_file

    with safe_open(path, "numpy") as file:
        key = json.loads(file.metadata()["ebbtide"])["key"]
    task = encoded_file.read_encoded(path, key)
    encoded_file.write_encoded(task, path, {**key, "version": 0})


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (truncate, "not a complete file of its kind"),
        (flip, "its contents have the sha256"),
        (replace_by_another, "it was made for"),
        (replace_by_text, "not a complete file of its kind"),
        (replace_by_a_named_pipe, "not a file"),
        (replace_record_by_text, "not a complete file of its kind"),
        (nest_record, "not a complete file of its kind"),
        (make_old, '"version":0'),
    ],
)
def test_a_file_that_is_not_right_is_said_and_made_again(
    harm: Callable[[Path, Path], None],
    reason: str,
    checkpoints: list[Path],
    tmp_path: Path,
    messages: pytest.LogCaptureFixture,
) -> None:
    requests = tiny.requests(tmp_path / "task.parquet")
    expected, _ = score(job(checkpoints[0], requests, tmp_path))
    [path] = stored(tmp_path)
    whole = path.read_bytes()
    score(job(checkpoints[0], requests, tmp_path, encoding="joint"))
    [other] = set(stored(tmp_path)) - {path}
    harm(path, other)
    assert not path.is_file() or path.read_bytes() != whole
    rows, _ = score(job(checkpoints[0], requests, tmp_path))
    assert f"{path} is not used, but written again: " in messages.text
    assert reason in messages.text
    assert rows.equals(expected)
    assert path.read_bytes() == whole


def test_every_input_has_a_file_of_its_own(checkpoints: list[Path], tmp_path: Path) -> None:
    requests = tiny.requests(tmp_path / "task.parquet")
    changed = tiny.requests(tmp_path / "changed.parquet", tiny.ROWS[:-1])  # the same identity, other rows
    asked = [
        job(checkpoints[0], requests, tmp_path),
        job(checkpoints[0], changed, tmp_path),
        *(
            job(checkpoints[0], requests, tmp_path, **{name: value})
            for name, value in (
                ("encoding", "joint"),
                ("bos", "never"),
                ("truncation", "refuse"),
                ("max_length", 7),
            )
        ),
    ]
    asked.append({**asked[0], "identity": {**asked[0]["identity"], "tokenizer": "another"}})
    scorer = load_scorer(checkpoints[0])
    for one in asked:
        EncodedTasks(tmp_path / "cells").get(one, scorer)
    assert len(stored(tmp_path)) == len(asked)
    EncodedTasks(tmp_path / "cells").get(asked[0], replace(scorer, vocabulary=300))
    assert len(stored(tmp_path)) == len(asked) + 1
    # The default window written out is the same window, and weights and precision change no token.
    for name, value in (("max_length", tiny.WINDOW), ("weights", "files:9"), ("dtype", "float64")):
        one = {**asked[0], "identity": {**asked[0]["identity"], name: value}}
        EncodedTasks(tmp_path / "cells").get(one, scorer)
    assert len(stored(tmp_path)) == len(asked) + 1


def test_a_directory_that_cannot_be_written_costs_no_scores(
    checkpoints: list[Path], tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    requests = tiny.requests(tmp_path / "task.parquet")
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / DIRECTORY).touch()
    rows, _ = score(job(checkpoints[0], requests, tmp_path))
    assert len(rows) == len(tiny.ROWS)
    assert f"{requests} is encoded again next time: " in messages.text


def test_requests_of_another_task_are_an_error_before_the_weights_are_loaded(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "load_scorer", None)
    asked = job(checkpoints[0], tiny.requests(tmp_path / "task.parquet"), tmp_path)
    tiny.requests(tmp_path / "task.parquet", task="task-2")
    with pytest.raises(CellError, match=r"task\.parquet: found task task-2, expected task-1; "):
        score(asked)


def test_a_tokenizer_that_cannot_be_loaded_is_an_error_before_the_weights(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ebbtide.scoring import model_scorer

    def fails(*_: Any) -> None:
        raise ScoringError("the tokenizer is broken.")

    monkeypatch.setattr(tokenizers_of, "load_tokenizer", fails)
    monkeypatch.setattr(model_scorer, "Weights", None)
    with pytest.raises(ScoringError, match="the tokenizer is broken"):
        score(job(checkpoints[0], tiny.requests(tmp_path / "task.parquet"), tmp_path))


# In the background.


def test_the_next_task_is_got_in_a_thread(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    real = encoding.encode

    def encode(*arguments: Any, **named: Any) -> Any:
        threads.append(threading.current_thread())
        return real(*arguments, **named)

    monkeypatch.setattr("ebbtide.scoring.encoded_task.encode", encode)
    scorer, tasks = load_scorer(checkpoints[0]), EncodedTasks(tmp_path / "cells")
    asked = [
        job(checkpoints[0], tiny.requests(tmp_path / f"{i}.parquet", task=f"t{i}"), tmp_path) for i in "ab"
    ]
    tasks.prepare(asked[0], scorer)
    assert len(tasks.get(asked[0], scorer).keys) == len(tiny.ROWS)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    # Another task than the prepared one, and the errors of the thread.
    tasks.prepare(asked[0], scorer)
    assert tasks.get(asked[1], scorer).task.facts["requests"] == len(tiny.ROWS)
    assert threads[1:] == [threading.main_thread()]
    Path(asked[1]["requests"]).write_bytes(b"")
    tasks.prepare(asked[1], scorer)
    with pytest.raises(CellError, match=r"b\.parquet is not a complete Parquet file"):
        tasks.get(asked[1], scorer)


def test_on_a_gpu_the_following_sibling_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passed over are the cell itself, one that is scored, and one of another checkpoint."""
    marker = tiny.hollow_checkpoint(tmp_path / "checkpoint")
    fake = {"backend": "fake"}
    cells = [
        job(marker, tiny.requests(tmp_path / f"{i}.parquet", task=f"t{i}"), tmp_path, **fake) for i in "abcd"
    ]
    other = {
        **cells[3],
        "checkpoint": "elsewhere",
        "identity": {**cells[3]["identity"], "weights": "files:9"},
    }
    hint = {"load_once_per": "checkpoint", "cells": [cells[0], other, *cells[1:]]}
    asked: list[Job] = []

    class Tasks(EncodedTasks):
        def prepare(self, following: Job, scorer: Any) -> None:
            asked.append(following)
            super().prepare(following, scorer)

    work = worker.Work(cells[0], hint, Loaded(1), Tasks(cells[0]["cells"]), CellProgress(Progress()))
    scored = store.path_of(cells[0]["cells"], cells[1]["identity"])
    scored.parent.mkdir(parents=True)
    scored.touch()
    worker._scored(work, cells[0])
    assert asked == []  # on a CPU
    scorer = replace(load_scorer(marker, backend="fake"), device="cuda")
    monkeypatch.setattr(Loaded, "get", lambda *_, **__: scorer)
    monkeypatch.setattr(engine, "reset_peak", lambda _: None)
    monkeypatch.setattr(engine, "peak_memory", lambda _: 0)
    worker._scored(work, cells[0])
    assert asked == [cells[2]]
    worker._scored(replace(work, hint={**hint, "load_once_per": "cell"}), cells[0])
    assert asked == [cells[2]]
