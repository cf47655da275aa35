"""What `ebbtide export` writes is read by lm-evaluation-harness's own tools."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebbtide.exchange.export import export_checkpoint
from ebbtide.exchange.exported import Exported
from ebbtide.exchange.specification import CheckpointRow, sizes
from ebbtide.metrics.of_cell import measure
from ebbtide.tables import METRICS

pytest.importorskip("lm_eval")

CHECKPOINT = CheckpointRow("m", "step_5", 5, 500, sizes({"total": 90}))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of two tasks at one checkpoint."""
    requests = pd.DataFrame(
        [(str(e), c, f"Q{e}", text, c == 0) for e in range(8) for c, text in enumerate((" ab", " c"))],
        columns=["example", "choice", "context", "continuation", "gold"],
    )
    rows = requests[["example", "choice"]].assign(
        loglikelihood=-np.random.default_rng(1).exponential(5, len(requests)),
        **{"tokens": 2, "bytes": 3, "characters": 3, "greedy": False, "context_tokens": 3},
        **{"first_token_loglikelihood": -1.0, "truncated": False},
    )
    definition = {"kind": "choice"}
    cells = []
    for task in ("first_task", "second"):
        metrics = measure(rows, requests, definition)
        metrics = metrics.assign(**CHECKPOINT.columns(), task=task, source="scored")
        cells.append(Exported(task, rows, requests, metrics[list(METRICS.columns)], definition, {}, "id"))
    to = tmp_path_factory.mktemp("export")
    export_checkpoint(cells, CHECKPOINT, to)
    return to / "m__step_5"


def document(directory: Path) -> dict[str, Any]:
    [path] = directory.glob("results_*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_its_table_has_our_tasks_and_values(directory: Path) -> None:
    from lm_eval.utils import make_table

    results = document(directory)
    table = make_table(results)
    for task in ("first_task", "second"):
        [row] = [line for line in table.splitlines() if f"|{task}" in line.replace(" ", "")]
        assert row
        assert f"{results['results'][task]['acc,none']:.4f}" in table
    assert "acc_bytes" in table and "↑" in table


def test_its_tools_find_the_files_and_their_tasks(directory: Path) -> None:
    from lm_eval.utils import (
        get_file_datetime,
        get_file_task_name,
        get_results_filenames,
        get_sample_results_filenames,
    )

    paths = [str(path) for path in directory.iterdir()]
    assert [Path(path).name for path in get_results_filenames(paths)] == ["results_step-5.json"]
    samples = sorted(Path(path).name for path in get_sample_results_filenames(paths))
    assert [get_file_task_name(name) for name in samples] == ["first_task", "second"]
    assert {get_file_datetime(name) for name in samples} == {"step-5"}


def test_samples_hash_to_the_digest_of_the_results(directory: Path) -> None:
    from lm_eval.utils import hash_string

    results = document(directory)
    for task in ("first_task", "second"):
        lines = (directory / f"samples_{task}_step-5.jsonl").read_text().splitlines()
        samples = [json.loads(line) for line in lines]
        joined = "".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in samples)
        assert hash_string(joined) == results["task_hashes"][task]
        accuracy = np.mean([sample["acc"] for sample in samples])
        assert accuracy == pytest.approx(results["results"][task]["acc,none"])
