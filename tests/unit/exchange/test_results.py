"""The results of a whole study, from cells on disk to a directory of exports."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tiny
from ebbtide.cells.cell import write_cell
from ebbtide.errors import CellError
from ebbtide.exchange.formats import FORMATS
from ebbtide.exchange.imports import import_metrics, write_imported_cells
from ebbtide.exchange.results import CSV, OF_CHECKPOINTS, TABLES, CellFiles, export_results
from ebbtide.metrics.of_cell import measured, metrics_rows
from ebbtide.tables import METRICS, REQUESTS, read_footer, read_frame, write_parquet

COUNTS = {"parameters_total": 90, "parameters_non_embedding": 70}


def study(directory: Path, steps: tuple[int, ...] = (1, 2)) -> tuple[Path, list[CellFiles]]:
    """Two tasks at every step: cells, frozen tasks, and the table of metrics."""
    requests = pd.DataFrame(tiny.ROWS, columns=["example", "choice", "context", "continuation", "gold"])
    cells, metrics = [], []
    for step in steps:
        for number, task in enumerate(("zebra", "ants")):
            frozen, cell = directory / f"{task}.requests.parquet", directory / f"{step}-{task}.parquet"
            write_parquet(
                requests, frozen, REQUESTS, {"definition": {"kind": "choice", "metrics": ["margin"]}}
            )
            rows = requests[["example", "choice"]].assign(
                loglikelihood=-np.random.default_rng(10 * step + number).exponential(5, len(requests)),
                **{"tokens": 2, "bytes": 4, "characters": 4, "greedy": False},
                **{"first_token_loglikelihood": 0.0, "context_tokens": 3, "truncated": False},
            )
            identity = {"weights": f"w{step}", "task": task}
            sha256 = read_footer(frozen, REQUESTS)["content_sha256"]
            footer = {**COUNTS, "requests": len(rows), "requests_sha256": sha256}
            write_cell(rows, cell, identity, footer)
            where = {
                "model": "m",
                "checkpoint": f"step{step}",
                "step": step,
                "tokens": 100 * step,
                "task": task,
            }
            metrics.append(
                pd.DataFrame(
                    metrics_rows(measured(rows, requests)[0], COUNTS, {**where, "parameters_nominal": 100})
                )
            )
            files = {"cell": str(cell), "requests": str(frozen), "identity": identity}
            cells.append(CellFiles(**where, **files, version="v", measuring={"metrics": ["accuracy"]}))
    write_parquet(pd.concat(metrics, ignore_index=True), directory / "metrics.parquet", METRICS)
    return directory / "metrics.parquet", cells


def test_everything_is_exported_and_comes_back(tmp_path: Path) -> None:
    metrics, cells = study(tmp_path)
    to = tmp_path / "to"
    found = export_results(metrics, cells, to, "s")
    table = read_frame(metrics, METRICS)
    counts = {"rows of metrics.csv": len(table), "rows of examples.parquet": 4 * len(tiny.ROWS)}
    assert found["tables"].counts == counts and found["lm-eval"].counts == {"cells": 4}
    assert sorted(p.relative_to(to).as_posix() for p in to.rglob("*.*")) == [
        "examples.parquet",
        *(
            f"m__step{step}/{name}_step{step}{suffix}"
            for step in (1, 2)
            for name, suffix in (
                ("results", ".json"),
                ("samples_ants", ".jsonl"),
                ("samples_zebra", ".jsonl"),
            )
        ),
        "metrics.csv",
        "reliability.csv",
    ]
    back = import_metrics({"format": "lm_eval_results", "files": [f"{to}/*/results_*.json"]})
    keys = list(METRICS.key)
    expected = table.dropna(subset="value").set_index(keys)["value"].sort_index()
    pd.testing.assert_series_equal(back.set_index(keys)["value"].sort_index(), expected, check_dtype=False)
    assert pd.read_parquet(to / "examples.parquet")["task"].unique().tolist() == ["zebra", "ants"]
    assert set(pd.read_csv(to / "reliability.csv")["checkpoint"]) == {"step1", "step2"}


def test_only_the_formats_that_were_asked_for_are_written(tmp_path: Path) -> None:
    metrics, cells = study(tmp_path, steps=(1,))
    assert {*OF_CHECKPOINTS, TABLES, CSV} == set(FORMATS)
    roots = {
        "lm-eval": {"m__step1"},
        "every-eval-ever": {"data"},
        "inspect": {"inspect"},
        "tables": {"metrics.csv", "reliability.csv", "examples.parquet"},
        "csv": {"metrics.csv", "reliability.csv", "examples.csv"},
    }
    for name in FORMATS:
        to = tmp_path / "to" / name
        assert list(export_results(metrics, cells, to, "s", [name])) == [name]
        assert {path.name for path in to.iterdir()} == roots[name]
    sheet = pd.read_csv(tmp_path / "to/csv/examples.csv", dtype={"example": str})
    parquet = pd.read_parquet(tmp_path / "to/tables/examples.parquet")
    pd.testing.assert_frame_equal(sheet, parquet, check_dtype=False)


def test_samples_have_the_metrics_that_the_study_wants_now(tmp_path: Path) -> None:
    """How a task is measured may have changed since it was frozen."""
    metrics, cells = study(tmp_path, steps=(1,))
    export_results(metrics, cells, tmp_path / "to", "s")
    sample = pd.read_json(tmp_path / "to/m__step1/samples_ants_step1.jsonl", lines=True).iloc[0]
    assert sample["metrics"] == ["acc"]


def test_a_stale_cell_is_refused(tmp_path: Path) -> None:
    metrics, cells = study(tmp_path, steps=(1,))
    stale = CellFiles(**{**vars(cells[1]), "identity": {"weights": "others", "task": "ants"}})
    with pytest.raises(CellError, match=r"1-ants\.parquet is stale: weights is 'w1', expected 'others'"):
        export_results(metrics, [cells[0], stale], tmp_path / "to", "s")


def test_samples_become_cells_with_their_requests(tmp_path: Path) -> None:
    metrics, cells = study(tmp_path)
    export_results(metrics, cells, tmp_path / "to", "s")
    rows = [
        {"format": "lm_eval_results", "files": [f"{tmp_path}/to/*/results_*.json"]},
        {"format": "lm_eval_samples", "files": [f"{tmp_path}/to/*/samples_*.jsonl"]},
    ]
    assert write_imported_cells(rows, tmp_path / "back") == 4
    for cell in cells:
        back = tmp_path / f"back/m/{cell.checkpoint}/{cell.task}"
        found, expected = pd.read_parquet(f"{back}.parquet"), pd.read_parquet(cell.cell)
        assert found["loglikelihood"].tolist() == expected["loglikelihood"].tolist()
        assert len(pd.read_parquet(f"{back}.requests.parquet")) == len(tiny.ROWS)
