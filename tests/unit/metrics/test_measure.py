"""From the cells of one checkpoint to its two tables."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ebbtide.cells.cell import write_cell
from ebbtide.cells.provenance import provenance_of
from ebbtide.errors import CellError, ConfigError
from ebbtide.metrics.measure import measure_checkpoint
from ebbtide.metrics.of_cell import loglikelihoods_sha256, measured
from ebbtide.notices import from_records
from ebbtide.tables import CELL, EXAMPLES, METRICS, REQUESTS, read_footer, read_frame, write_parquet
from ebbtide.tasks.texts import text_digests, texts_record

CHECKPOINT = {"model": "m", "checkpoint": "step8", "step": 8, "tokens": 800, "parameters_nominal": 10}
REQUESTS_OF = pd.DataFrame(
    {
        "example": ["a", "a", "b", "b"],
        "choice": [0, 1, 0, 1],
        "context": "Q",
        "continuation": [" yes", " no", " left", " right"],
        "gold": [1.0, 0.0, 1.0, 0.0],
    }
)


def scores(*loglikelihoods: float) -> pd.DataFrame:
    return REQUESTS_OF[["example", "choice"]].assign(
        loglikelihood=list(loglikelihoods),
        tokens=1,
        bytes=4,
        characters=4,
        greedy=False,
        first_token_loglikelihood=-1.0,
        context_tokens=1,
        truncated=False,
    )


CELLS = {"songs": scores(-1.0, -2.0, -3.0, -2.0), "tales": scores(-1.0, -2.0, -1.0, -2.0)}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Arguments of `measure_checkpoint` for two tasks."""
    cells, requests = [], []
    for task, rows in CELLS.items():
        path = tmp_path / f"{task}.requests.parquet"
        record = {"task": task, "definition": {"kind": "choice"}}
        write_parquet(REQUESTS_OF, path, REQUESTS, record)
        footer = {
            "requests": len(rows),
            "requests_sha256": read_footer(path, REQUESTS)["content_sha256"],
            "parameters_total": 9,
            "parameters_non_embedding": 5,
        }
        write_cell(rows, tmp_path / f"{task}.parquet", {"task": task}, footer)
        cells.append(tmp_path / f"{task}.parquet")
        requests.append(path)
    return {
        "cells": cells,
        "requests": requests,
        "expected": {**CHECKPOINT, "cells": [{"task": t, "identity": {"task": t}} for t in CELLS]},
        "to": tmp_path / "metrics.parquet",
        "examples": tmp_path / "examples.parquet",
    }


def test_both_tables_have_every_task(files: dict[str, Any]) -> None:
    measure_checkpoint(**files)
    metrics = read_frame(files["to"], METRICS)
    accuracy = metrics[metrics["metric"] == "accuracy"].set_index("task")["value"]
    assert accuracy.to_dict() == {"songs": 0.5, "tales": 1.0}
    places = metrics[[*CHECKPOINT, "parameters_total", "source"]].drop_duplicates()
    assert places.to_dict("records") == [{**CHECKPOINT, "parameters_total": 9, "source": "scored"}]
    expected, _ = measured(CELLS["songs"], REQUESTS_OF, {"kind": "choice"})
    assert metrics.loc[metrics["task"] == "songs", "metric"].tolist() == expected["metric"].tolist()

    examples = read_frame(files["examples"], EXAMPLES)
    assert examples.loc[examples["task"] == "songs", "accuracy"].tolist() == [1.0, 0.0]
    assert examples.groupby("task").size().to_dict() == {"songs": 2, "tales": 2}


def test_footers_record_digests_and_the_checkpoint(files: dict[str, Any]) -> None:
    measure_checkpoint(**files)
    digests = {task: loglikelihoods_sha256(rows) for task, rows in CELLS.items()}
    footer = read_footer(files["to"], METRICS)
    assert footer["loglikelihoods"] == digests
    made = {**CHECKPOINT, **provenance_of([read_footer(cell, CELL) for cell in files["cells"]])}
    assert footer["provenance"] == made
    place = read_footer(files["examples"], EXAMPLES)["place"]
    sizes = {"parameters_total": 9, "parameters_non_embedding": 5, "parameters_active": 5}
    assert place == {**CHECKPOINT, **sizes}


def test_measuring_of_the_study_replaces_that_of_freezing(files: dict[str, Any]) -> None:
    files["expected"]["cells"][0]["measuring"] = {"metrics": ["margin"]}
    measure_checkpoint(**files)
    metrics = read_frame(files["to"], METRICS)
    assert metrics.loc[metrics["task"] == "songs", "metric"].tolist() == ["margin"]


def test_a_cell_of_another_identity_is_refused(files: dict[str, Any]) -> None:
    files["expected"]["cells"][1]["identity"] = {"task": "another"}
    with pytest.raises(CellError, match=r"tales\.parquet is stale: task is 'tales', expected 'another'"):
        measure_checkpoint(**files)
    assert not files["to"].exists() and not files["examples"].exists()


def test_arguments_that_do_not_fit_are_sentences(files: dict[str, Any]) -> None:
    without = {key: value for key, value in files["expected"].items() if key != "tokens"}
    with pytest.raises(ConfigError, match="--expected: found no 'tokens'; allowed: JSON with model, "):
        measure_checkpoint(**{**files, "expected": without})
    with pytest.raises(ConfigError, match="found 1 --cells, 2 --requests, 2 cells in --expected; allowed"):
        measure_checkpoint(**{**files, "cells": files["cells"][:1]})


def test_the_footer_has_the_notices_about_cells(files: dict[str, Any]) -> None:
    tied = CELLS["songs"].assign(loglikelihood=-1.0)
    footer = read_footer(files["cells"][0], CELL)
    footer.pop("content_sha256")
    write_cell(tied, files["cells"][0], {"task": "songs"}, footer)
    measure_checkpoint(**files)
    [notice] = from_records(read_footer(files["to"], METRICS)["notices"])
    assert (notice.kind, notice.model, notice.checkpoint, notice.task) == ("tied", "m", "step8", "songs")
    assert "in 2 of 2 examples (the first is 'a')" in notice.detail
    assert "accuracy is 1.000, with ties as wrong answers 0.000, with random answers 0.500" in notice.detail
    metrics = read_frame(files["to"], METRICS).set_index(["task", "metric"])["value"]
    assert metrics.xs("ties", level="metric").to_dict() == {"songs": 1.0, "tales": 0.0}


def with_texts_in_footers(files: dict[str, Any]) -> dict[str, Any]:
    """Freeze the tasks again, as freezing does now."""
    record = texts_record(text_digests(REQUESTS_OF))
    for path, of in zip(files["requests"], files["expected"]["cells"], strict=True):
        footer = {"task": of["task"], "definition": {"kind": "choice"}, "texts": record}
        write_parquet(REQUESTS_OF, path, REQUESTS, footer)
    return record


def test_the_digest_of_texts_is_that_of_freezing_or_computed(files: dict[str, Any]) -> None:
    measure_checkpoint(**files)
    computed = read_footer(files["examples"], EXAMPLES)["requests"]
    record = with_texts_in_footers(files)
    measure_checkpoint(**files)
    assert read_footer(files["examples"], EXAMPLES)["requests"] == computed == dict.fromkeys(CELLS, record)


def test_measuring_needs_neither_texts_nor_large_imports(files: dict[str, Any]) -> None:
    """A study has thousands of these jobs, so their start counts."""
    with_texts_in_footers(files)
    table = pq.read_table(files["requests"][0])
    other = pa.array(["other"] * len(table), pa.large_string())
    place = table.column_names.index("context")
    pq.write_table(table.set_column(place, table.schema.field("context"), other), files["requests"][0])
    program = """
import json, sys
from ebbtide.cli import main
status = main(json.loads(sys.argv[1]))
print(status, [name for name in ("pandas", "pyarrow.compute", "scipy", "torch") if name in sys.modules])
"""
    arguments = ["measure", *("--cells", *map(str, files["cells"]))]
    arguments += ["--requests", *map(str, files["requests"]), "--expected", json.dumps(files["expected"])]
    arguments += ["--to", str(files["to"]), "--examples", str(files["examples"])]
    command = [sys.executable, "-c", program, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "0 []\n", done.stderr
    assert read_footer(files["to"], METRICS)["loglikelihoods"].keys() == CELLS.keys()


def test_a_changed_right_answer_is_refused(files: dict[str, Any]) -> None:
    with_texts_in_footers(files)
    table = pq.read_table(files["requests"][0])
    place = table.column_names.index("gold")
    gold = table.set_column(place, table.schema.field("gold"), pa.array([0.0, 1.0, 0.0, 1.0]))
    pq.write_table(gold, files["requests"][0])
    with pytest.raises(CellError, match=r"songs\.requests\.parquet: the column 'gold' has the sha256"):
        measure_checkpoint(**files)
