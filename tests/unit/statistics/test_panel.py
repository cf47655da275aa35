"""Trajectories: what is read back, in which order, and what random draws make of it."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ebbtide.errors import CellError
from ebbtide.metrics.of_cell import measure, measured
from ebbtide.statistics.panel import is_binary, read_trajectories
from ebbtide.statistics.resampling import bootstrap, cluster_sums, signs
from ebbtide.tables import EXAMPLES, Schema, read_parquet, write_parquet


def part(directory: Path, step: int, rows: pd.DataFrame, model: str = "m") -> Path:
    place = {"model": model, "checkpoint": f"step{step}", "step": step, "tokens": 10 * step}
    sizes = {f"parameters_{name}": 7 for name in ("total", "non_embedding", "active", "nominal")}
    path = directory / f"{model}-{step}.parquet"
    write_parquet(rows, path, EXAMPLES, {"place": {**place, **sizes}})
    return path


def rows(values: Sequence[float], task: str = "t", **more: Sequence[float]) -> pd.DataFrame:
    names = [f"e{i}" for i in range(len(values))]
    return pd.DataFrame({"task": task, "example": names, "cluster": names, "accuracy": values, **more})


def test_trajectories_are_in_the_order_of_training(tmp_path: Path) -> None:
    shuffled = rows([1.0, 0.0, 1.0]).iloc[[2, 0, 1]]
    parts = [part(tmp_path, 1000, rows([0.0, 0.0, 1.0])), part(tmp_path, 20, shuffled)]
    [found] = read_trajectories([*parts])
    assert found.checkpoints["step"].tolist() == [20, 1000]
    assert found.examples.tolist() == ["e0", "e1", "e2"]
    assert found.values["accuracy"].tolist() == [[1, 0, 1], [0, 0, 1]]
    assert found.parameters == {"total": 7, "non_embedding": 7, "active": 7, "nominal": 7}
    assert len(set(found.clusters)) == 3


def test_a_metric_of_another_task_is_not_one_of_this(tmp_path: Path) -> None:
    both = pd.concat([rows([1.0, 0.0], margin=[0.5, -1.0]), rows([0.25, 0.5], "u")], ignore_index=True)
    t, u = read_trajectories([part(tmp_path, 1, both)])
    assert list(t.values) == ["accuracy", "margin"] and list(u.values) == ["accuracy"]
    assert u.available(["margin"]) == ["accuracy"] and t.available(["margin"]) == ["margin"]
    assert is_binary(t.values["accuracy"]) and not is_binary(u.values["accuracy"])


def test_examples_that_a_metric_leaves_out_do_not_count(tmp_path: Path) -> None:
    parts = [part(tmp_path, s, rows([1.0, 0.0, 1.0], rate=[1.0, np.nan, 0.0])) for s in (1, 2)]
    [found] = read_trajectories(parts)
    values, clusters = found.counted("rate")
    assert values.tolist() == [[1, 0], [1, 0]] and len(clusters) == 2


def test_other_examples_at_one_checkpoint_are_an_error(tmp_path: Path) -> None:
    parts = [part(tmp_path, 1, rows([1.0, 0.0])), part(tmp_path, 2, rows([1.0, 0.0, 1.0]))]
    with pytest.raises(CellError, match=r"the examples of task [tu] differ"):
        list(read_trajectories(parts))
    again = part(tmp_path / "again", 1, rows([1.0, 0.0]))
    with pytest.raises(CellError, match="two results for model m, checkpoint step1, task t"):
        list(read_trajectories([parts[0], again]))


def test_a_task_that_a_checkpoint_lacks_has_a_trajectory_of_the_others(tmp_path: Path) -> None:
    parts = [
        part(tmp_path, step, rows([1.0, 0.0], task=task)) for step, task in ((1, "t"), (2, "t"), (3, "u"))
    ]
    t, u = read_trajectories(parts)
    assert t.checkpoints["step"].tolist() == [1, 2] and u.checkpoints["step"].tolist() == [3]


def test_tables_of_one_checkpoint_join(tmp_path: Path) -> None:
    """Of a checkpoint that is partly imported, one table may not know its tokens."""
    place = {"model": "m", "checkpoint": "step2", "step": 2, "tokens": 0}
    write_parquet(rows([1.0], task="u"), tmp_path / "imported.parquet", EXAMPLES, {"place": place})
    parts = [part(tmp_path, 2, rows([1.0])), tmp_path / "imported.parquet", part(tmp_path, 1, rows([0.0]))]
    t, u = read_trajectories(parts)
    assert t.checkpoints["tokens"].tolist() == [10, 20] and u.checkpoints["tokens"].tolist() == [20]
    assert u.parameters["total"] == 7


@pytest.mark.parametrize("clustered", [False, True])
def test_draws_have_the_variance_of_their_sums(clustered: bool) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.3, 1, (3, 400))
    clusters = np.arange(400) // 4 if clustered else rng.permutation(400)
    sums = np.stack([np.bincount(clusters, weights=v) for v in values])
    drawn = signs(values, clusters, "task", 4000)
    assert np.cov(drawn.T) == pytest.approx(sums @ sums.T, rel=0.15, abs=60)
    assert abs(drawn.mean(axis=0)).max() < 2.0
    means = bootstrap(values, clusters, "task", 4000)
    assert means.mean(axis=0) == pytest.approx(values.mean(axis=1), abs=0.01)
    groups = sums.shape[1]
    assert means.std(axis=0) == pytest.approx(sums.std(axis=1) * np.sqrt(groups) / 400, rel=0.08)


def test_draws_are_the_same_for_every_model() -> None:
    values, clusters = np.eye(5), np.arange(5)
    assert (signs(values, clusters, "a") == signs(values, clusters, "a")).all()
    assert (signs(values, clusters, "a") != signs(values, clusters, "b")).any()
    shift = bootstrap(values + 1, clusters, "a") - bootstrap(values, clusters, "a")
    assert shift == pytest.approx(1.0)


def requests(kind: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(1)
    n = 30
    asked = pd.DataFrame(
        {
            "example": np.repeat([f"x{i:02}" for i in range(n)], 2),
            "choice": np.tile([0, 1], n),
            "gold": np.tile([True, False], n) if kind == "choice" else rng.permutation([True, False] * n),
            "group_part": np.repeat([f"p{i % 3}" for i in range(n)], 2),
        }
    )
    counts = {"tokens": 2, "bytes": 5, "characters": 5}
    return asked[["example", "choice"]].assign(loglikelihood=rng.normal(-3, 1, 2 * n), **counts), asked


def test_the_mean_over_examples_is_the_metric() -> None:
    cell, asked = requests("choice")
    table = pd.DataFrame(measured(cell, asked, {"cluster": "part"})[1])
    values = measure(cell, asked).set_index("metric")["value"]
    assert {"accuracy", "margin", "coverage"} <= set(table.columns)
    for name in table.columns.drop(["example", "cluster"]):
        assert table[name].mean() == pytest.approx(values[name])
    assert table["cluster"].nunique() == 3 and table["example"].is_monotonic_increasing


def test_documents_weigh_as_much_as_they_are_long() -> None:
    cell = pd.DataFrame(
        {
            "example": ["a", "b", "c"],
            "choice": 0,
            "loglikelihood": [-2.0, -9.0, -8.0],
            "tokens": [1, 2, 7],
            "bytes": [4, 9, 30],
            "characters": [4, 9, 30],
        }
    )
    table = pd.DataFrame(measured(cell, cell[["example", "choice"]], {"kind": "rolling"})[1])
    assert table["loss"].mean() == pytest.approx(19 / 10)


def test_names_that_tables_share_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a study's checkpoints, each with thousands of examples, only the values are read."""
    read: list[list[str]] = []

    def counting(path: Path, schema: Schema, **options: Any) -> pa.Table:
        table = read_parquet(path, schema, **options)
        read.append(table.column_names)
        return table

    monkeypatch.setattr("ebbtide.statistics.example_tables.read_parquet", counting)
    parts = [part(tmp_path, step, rows([1.0, 0.0]), model=m) for m in ("a", "b") for step in (1, 2, 3)]
    one, other = read_trajectories(parts)
    assert read == [["task", "example", "cluster", "accuracy"], *[["accuracy"]] * 5]
    assert one.values["accuracy"].tolist() == other.values["accuracy"].tolist() == [[1, 0]] * 3
    assert one.examples is other.examples


@pytest.mark.parametrize("clustered", [False, True])
def test_draws_that_are_kept_are_those_that_would_be_made(clustered: bool) -> None:
    values = np.random.default_rng(0).normal(0, 1, (4, 60))
    clusters = np.arange(60) // (3 if clustered else 1)
    first = signs(values, clusters, "kept", 500), bootstrap(values, clusters, "kept", 500)
    again = signs(values, clusters, "kept", 500), bootstrap(values, clusters, "kept", 500)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    groups = int(clusters.max()) + 1
    drawn = 2.0 * np.random.default_rng(zlib.crc32(b"kept")).integers(0, 2, (500, groups)) - 1.0
    assert (first[0] == drawn @ cluster_sums(values, clusters).T).all()
