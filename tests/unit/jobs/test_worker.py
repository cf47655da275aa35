"""The worker with the fake back end: every kind of task, without torch and without reading weights."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from ebbtide.cells import store
from ebbtide.cells.cell import read_cell
from ebbtide.cells.samples import per_row, with_choices
from ebbtide.checkpoints.directory import identities
from ebbtide.files import canonical_json
from ebbtide.metrics import measured, metrics_rows
from ebbtide.tables import CELL, REQUESTS, read_footer, read_parquet, write_parquet
from ebbtide.tasks.freezing import frozen
from task_data import define

WORKER = (
    "import sys; from ebbtide.jobs import worker; status = worker.main();"
    "print(sorted({'torch', 'transformers'} & set(sys.modules))); sys.exit(status)"
)
KINDS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "choice": (
        {},
        [{"prompt": f"ab {n}", "classes": [" ab", " cd"], "answer_index": n % 2} for n in range(4)],
    ),
    "sequence": ({}, [{"prompt": f"ab {n}", "completion": " ab cd"} for n in range(4)]),
    "log_odds": (
        {},
        [
            {"prompt": f"ab {n}", "other_prompt": f"cd {n}", "classes": [" ab", " cd"], "answer_index": n % 2}
            for n in range(4)
        ],
    ),
    "rating": (
        {"fields": {"choices": [" 1", " 2", " 3"], "target": "stars"}},
        [{"prompt": f"ab {n} a", "stars": 1 + n % 3} for n in range(6)],
    ),
    "binary": (
        {"fields": {"choices": [" no", " yes"], "gold": "truth"}},
        [{"prompt": f"ab {n}", "truth": n % 2} for n in range(8)],
    ),
    "rolling": ({}, [{"text": "ab cd " * (20 + n)} for n in range(3)]),
    "generation": (
        {
            "fields": {"target": "answers"},
            "decoding": {"max_tokens": 30, "samples": 5, "temperature": 1.0, "stop": ["."]},
        },
        [{"prompt": f"ab {n}", "answers": ["the", "a"]} for n in range(4)],
    ),
}


def freeze(kind: str, to: Path) -> str:
    """Freeze a small task of a kind; returns its identity."""
    keys, rows = KINDS[kind]
    requests, record = frozen(define(rows, kind=kind, **keys))
    write_parquet(requests, to, REQUESTS, record)
    return str(record["identity"])


def run(
    folder: Path, checkpoint: Path, cells: list[dict[str, Any]], before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the worker for the first cell, with all of them in its hint, after statements."""
    hint = folder / "hint.json"
    hint.write_text(
        json.dumps({"load_once_per": "checkpoint", "store": str(folder / "cells"), "cells": cells})
    )
    job = {**cells[0], "cells": str(folder / "cells"), "hint": str(hint), "threads": 1}
    return subprocess.run(
        [sys.executable, "-c", before + WORKER, canonical_json(job)],
        capture_output=True,
        text=True,
        check=False,
    )


def cell_of(checkpoint: Path, requests: Path, task: str, weights: str) -> dict[str, Any]:
    return {
        "name": f"m/c/{requests.stem}",
        "checkpoint": str(checkpoint),
        "requests": str(requests),
        "identity": tiny.identity(task, weights=weights, backend="fake"),
    }


def test_the_log_of_a_job_shows_progress_inside_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = (
        "from ebbtide import logs; logs.QUIET_SECONDS = 0; from ebbtide.jobs import progress;"
        "progress.WRITTEN_SECONDS = 0; from ebbtide.scoring import model_scorer;"
        "model_scorer.chunk_size = lambda *_: 2;"
    )
    monkeypatch.chdir(tmp_path)
    marker = tiny.checkpoint(tmp_path / "checkpoint") / "config.json"
    weights, tokenizer = identities(marker.parent)
    (tmp_path / "cells").mkdir()
    cells = []
    for name in ("first", "second"):
        requests = tiny.requests(tmp_path / f"{name}.parquet", task=name)
        cell = cell_of(marker, requests, name, weights)
        del cell["identity"]["backend"]
        cell["identity"]["tokenizer"] = tokenizer
        cells.append(cell)
    done = run(tmp_path, marker, cells, often)
    assert done.returncode == 0, done.stderr
    for name in ("first", "second"):
        found = re.findall(
            rf"m/c/{name}: (\d+) of (\d+) tokens \(\d+ %\), [\d,]+ tokens/s, about", done.stderr
        )
        assert len(found) > 1, done.stderr
        assert [int(tokens) for tokens, _ in found] == list(range(2, int(found[0][1]), 2))
    assert list(tmp_path.glob("resources/ahead/progress/*")) == [], "a worker that ends leaves nothing"


def test_every_kind_of_task_is_scored_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ebbtide.tasks.kinds import KINDS as KNOWN

    assert set(KINDS) == set(KNOWN)
    monkeypatch.chdir(tmp_path)
    marker = tiny.hollow_checkpoint(tmp_path / "checkpoint") / "config.json"
    weights = identities(marker.parent)[0]
    (tmp_path / "cells").mkdir()
    cells = []
    for kind in KINDS:
        requests = tmp_path / f"{kind}.frozen.parquet"
        cells.append(cell_of(marker, requests, freeze(kind, requests), weights))
    done = run(tmp_path, marker, cells)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    assert "are made up and do not measure a model" in done.stderr
    for kind, cell in zip(KINDS, cells, strict=True):
        path, asked = (
            store.path_of(tmp_path / "cells", cell["identity"]),
            read_footer(cell["requests"], REQUESTS),
        )
        rows, footer = read_cell(path, cell["identity"], asked["content_sha256"])
        assert footer["identity"]["backend"] == footer["implementation"] == "fake"
        requests = per_row(read_parquet(cell["requests"], REQUESTS), footer)
        metrics, _ = measured(with_choices(rows, footer), requests, {"kind": kind})
        place = dict.fromkeys(("model", "checkpoint", "task"), "x") | {"step": 0, "tokens": 0}
        placed = metrics_rows(metrics, footer, {**place, "parameters_nominal": 0})
        assert set(placed["source"]) == {"fake"}
        assert np.isfinite(metrics["value"]).all(), kind
        assert (rows["loglikelihood"].to_numpy() < 0).all()


def test_cells_of_another_back_end_are_left_to_their_own_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process loads the weights once, with one back end."""
    monkeypatch.chdir(tmp_path)
    marker = tiny.checkpoint(tmp_path / "checkpoint") / "config.json"
    weights, tokenizer = identities(marker.parent)
    (tmp_path / "cells").mkdir()
    cells = []
    for number in range(4):
        requests = tiny.requests(tmp_path / f"t{number}.parquet", task=f"t{number}")
        cell = cell_of(marker, requests, f"t{number}", weights)
        cell["identity"] |= {"backend": "transformers", "tokenizer": tokenizer}
        if number % 2 == 0:
            del cell["identity"]["backend"]
        cells.append(cell)
    paths = [store.path_of(tmp_path / "cells", cell["identity"]) for cell in cells]
    for first, scored in ((0, [True, False] * 2), (1, [True] * 4)):
        done = run(tmp_path, marker, cells[first:] + cells[:first])
        assert done.returncode == 0, done.stderr
        assert "scored 2 cells with 1 loads of weights" in done.stderr
        assert [path.exists() for path in paths] == scored
    found = [read_footer(path, CELL)["implementation"] for path in paths]
    assert found == ["ebbtide", "transformers"] * 2


def test_weights_are_not_read_but_must_have_been_made(tmp_path: Path) -> None:
    """The marker is what the workflow makes; what stands beside it may be anything."""
    marker = tmp_path / "checkpoint/trained-0.json"
    requests = tiny.requests(tmp_path / "t.parquet")
    (tmp_path / "cells").mkdir()
    cell = cell_of(marker, requests, "task-1", "trained:0")
    missing = run(tmp_path, marker, [cell])
    assert missing.returncode == 1
    assert f"CheckpointError: {marker} does not exist; run snakemake again." in missing.stderr
    marker.parent.mkdir()
    marker.write_text("{}")
    (marker.parent / "model.safetensors").write_bytes(b"no weights at all")
    done = run(tmp_path, marker, [cell])
    assert done.returncode == 0, done.stderr
    assert read_footer(store.path_of(tmp_path / "cells", cell["identity"]), CELL)["requests"] == len(
        tiny.ROWS
    )
