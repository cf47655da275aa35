"""Accuracy estimated from a sample: coverage, what is saved, and that no estimate is taken for a cell."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tiny
from adaptive import _made_up as made_up
from ebbtide import cli
from ebbtide.cells.cell import check_cell, write_cell
from ebbtide.errors import CellError
from ebbtide.jobs.score_files import score_requests_file
from ebbtide.metrics.of_cell import per_example
from ebbtide.statistics.small_evaluation.evaluate import read_run
from ebbtide.statistics.small_evaluation.sampling import Sample, strata_of
from ebbtide.tables import CELL, REQUESTS, read_footer, read_frame, write_parquet

RULES: dict[str, Any] = {"encoding": "harness", "bos": "tokenizer", "truncation": "left", "max_length": None}
EXAMPLES = 400


@pytest.mark.parametrize("change", ["none", "drop of 0.2"])
def test_intervals_contain_the_accuracy_on_all_examples(change: str) -> None:
    found = made_up(150, 2000, 0.9, 2.0, 0.95, change=change)
    assert 0.9 <= found["coverage"] <= 1.0
    assert abs(found["bias"]) < 0.0025


def test_settled_answers_need_a_fifth_of_the_examples_and_others_do_not_hurt() -> None:
    assert made_up(20, 2000, 0.9, 2.0, 0.95)["times_fewer_examples"] > 5
    assert made_up(20, 2000, 0.6, 0.5, 0.0)["times_fewer_examples"] >= 1


def sampled(margins: np.ndarray, values: np.ndarray, half_width: float) -> tuple[Sample, list[int]]:
    sample = Sample(strata_of(margins, (margins > 0).astype(float)), half_width, np.random.default_rng(0))
    scored: list[int] = []
    while len(drawn := sample.draw()):
        scored += drawn.tolist()
        sample.add(values[drawn])
    return sample, scored


def test_every_example_is_scored_at_most_once_and_then_the_accuracy_is_exact() -> None:
    rng = np.random.default_rng(1)
    values = (rng.random(300) < 0.3).astype(float)
    sample, scored = sampled(rng.standard_normal((4, 300)), values, 0.001)
    assert sorted(scored) == list(range(300))
    value, half_width, count = sample.estimate()
    assert (value, half_width, count) == (pytest.approx(values.mean()), 0, 300)


def test_uncertain_examples_are_sampled_more_often() -> None:
    margins = np.concatenate([np.full(2700, 5.0), np.zeros(300)]) + 0.3 * np.random.default_rng(
        2
    ).standard_normal((6, 3000))
    sample, scored = sampled(margins, (margins[-1] > 0).astype(float), 0.01)
    near = np.mean([i >= 2700 for i in scored])
    assert near > 0.3  # they are a tenth of the examples
    assert sample.estimate().half_width <= 0.01


@pytest.mark.parametrize("n", [1, 2, 9])
def test_tiny_tasks_are_scored_completely(n: int) -> None:
    sample, scored = sampled(np.ones((2, n)), np.ones(n), 0.1)
    assert sorted(scored) == list(range(n))
    assert sample.estimate() == (1.0, 0.0, n)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Requests, four checkpoints with made-up numbers, and cells of the first three."""
    words = ["old", "young", "tall", "short"]
    rows = [
        (
            str(i),
            k,
            f"the {words[i % 4]} {'boat ' * (i // 40)}{words[i // 4 % 4]} is",
            f" {words[(i + k) % 4]}",
            k == i % 2,
        )
        for i in range(EXAMPLES)
        for k in (0, 1)
    ]
    columns = ["example", "choice", "context", "continuation", "gold"]
    definition = {"definition": {"kind": "choice"}, "identity": "t"}
    write_parquet(pd.DataFrame(rows, columns=columns), tmp_path / "t.parquet", REQUESTS, definition)
    for k in range(4):
        tiny.hollow_checkpoint(tmp_path / f"step{k}", k)
        to = tmp_path / ("whole.parquet" if k == 3 else f"{k}.parquet")
        score_requests_file(str(tmp_path / f"step{k}"), tmp_path / "t.parquet", to, RULES, backend="fake")
    return tmp_path


def estimated(run: Path, *more: str, model: str = "step3", cells: tuple[str, ...] = ("0", "1", "2")) -> int:
    paths = [str(run / f"{cell}.parquet") for cell in cells]
    options = ["--model", str(run / model), "--requests", str(run / "t.parquet"), "--cells", *paths]
    return cli.main(["estimate", *options, "--to", str(run / "estimate.json"), "--gpus", "0", *more])


def test_the_estimate_of_a_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert estimated(run, "--half-width", "0.05") == 0
    found = json.loads((run / "estimate.json").read_text())
    cell = read_frame(run / "whole.parquet", CELL)
    joined = cell.merge(read_frame(run / "t.parquet", REQUESTS), on=["example", "choice"])
    whole = per_example(joined)["accuracy"]

    assert found["kind"] == "estimate"
    assert 0 < found["scored_examples"] == len(found["answers"]) < found["examples"] == EXAMPLES
    assert found["answers"] == {name: whole[name] for name in found["answers"]}
    assert found["rounds"] > 1
    assert found["half_width"] <= 0.05
    assert found["low"] <= found["value"] <= found["high"]
    assert found["weights"] == read_footer(run / "whole.parquet", CELL)["identity"]["weights"]
    assert [Path(c["file"]).name for c in found["cells"]] == ["0.parquet", "1.parquet", "2.parquet"]
    assert sum(of["examples"] * of["mean"] for of in found["strata"]) / EXAMPLES == pytest.approx(
        found["value"]
    )
    said = capsys.readouterr().out
    assert f"on all {EXAMPLES} examples, estimated from {found['scored_examples']} of them" in said

    assert estimated(run, "--half-width", "0.05") == 0  # the same sample again
    assert json.loads((run / "estimate.json").read_text())["answers"] == found["answers"]


def test_tokens_are_counted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k, name in enumerate(("a", "b", "c")):
        directory = tiny.checkpoint(run / f"real{name}", scale=1 + 0.01 * k)
        score_requests_file(str(directory), run / "t.parquet", run / f"{name}.parquet", RULES)
    assert estimated(run, "--half-width", "0.1", model="realc", cells=("a", "b")) == 0
    found = json.loads((run / "estimate.json").read_text())
    of_all = read_footer(run / "c.parquet", CELL)["forwarded_tokens"]
    assert 0 < found["forwarded_tokens"] <= of_all == found["forwarded_tokens_of_last_cell"]
    assert f"with {found['forwarded_tokens']:,} of {of_all:,} tokens" in capsys.readouterr().out


def test_an_estimate_from_all_examples_says_that_it_is_exact(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert estimated(run, "--half-width", "0.001") == 0
    assert "exact, because all 400 examples had to be scored" in capsys.readouterr().out


def test_an_estimate_is_not_a_cell(run: Path) -> None:
    assert estimated(run, "--half-width", "0.05") == 0
    with pytest.raises(CellError):
        check_cell(run / "estimate.json")
    with pytest.raises(CellError):
        read_run([run / "0.parquet", run / "estimate.json"], run / "t.parquet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "step1"}, "has the weights of .*1.parquet, which has the answers to all examples"),
        (
            {"model": "trained", "cells": ("0", "own")},
            "has the weights of .*own.parquet, which has",
        ),
        ({"model": "wide"}, "wide has [0-9,]+ parameters, but .*2.parquet is of a model with [0-9,]+; name"),
        ({"cells": ("0", "1", "0")}, "0.parquet and .*0.parquet have the same weights; name each"),
        ({"cells": ("wide", "1")}, "wide.parquet is of a model with [0-9,]+ parameters, but .*1.parquet of"),
        ({"cells": ("0",)}, "--cells: found 1, allowed: cells of 2 or more checkpoints"),
        ({"cells": ("0", "other")}, "other.parquet: its requests are .*name cells of this task only"),
        ({"cells": ("long", "1")}, "max_length is 40 in .*long.parquet, but None in the last"),
        ({"cells": ("0", "missing")}, "missing.parquet does not exist"),
    ],
)
def test_what_cannot_be_estimated_is_refused_before_scoring(
    run: Path, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.requests(run / "two.parquet")
    score_requests_file(str(run / "step0"), run / "two.parquet", run / "other.parquet", RULES, backend="fake")
    trained, wide = (tiny.hollow_checkpoint(run / name, 9) for name in ("trained", "wide"))
    (trained / "checkpoint.json").write_text(json.dumps({"weights": "abc", "files": {"config.json": "0"}}))
    config = json.loads((wide / "config.json").read_text())
    (wide / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))
    for name in ("trained", "wide"):
        score_requests_file(
            str(run / name), run / "t.parquet", run / f"{name}.parquet", RULES, backend="fake"
        )
    rows, footer = check_cell(run / "trained.parquet")  # as a study that trains it writes it
    write_cell(rows, run / "own.parquet", {**footer["identity"], "weights": "trained:abc"}, footer)
    longer = {**RULES, "max_length": 40}
    score_requests_file(str(run / "step0"), run / "t.parquet", run / "long.parquet", longer, backend="fake")
    assert estimated(run, **changes) == 2
    assert re.search(message, capsys.readouterr().err, re.DOTALL)
    assert not (run / "estimate.json").exists()


def test_the_inputs_are_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert estimated(run, "--to", str(run / "0.parquet")) == 2
    assert "which is one of the inputs" in capsys.readouterr().err
    check_cell(run / "0.parquet")


def test_a_directory_is_refused_before_cells_are_read(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert estimated(run, "--to", str(run / "step0"), cells=("none",)) == 2
    assert "step0, which is a directory; give the name of a file." in capsys.readouterr().err


def test_cells_of_several_models_of_one_size_are_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k, model in enumerate(("a", "b")):
        (run / f"scores/{model}/step1").mkdir(parents=True)
        (run / f"{k}.parquet").rename(run / f"scores/{model}/step1/t.parquet")
    assert estimated(run, cells=("scores/a/step1/t", "scores/b/step1/t")) == 0
    assert "--cells: found cells of the models a, b; the sample is" in capsys.readouterr().err


def test_a_task_without_accuracy_is_refused(run: Path) -> None:
    rows = pd.DataFrame(
        [(str(i), 0, "the old", " child", True) for i in range(3)],
        columns=["example", "choice", "context", "continuation", "gold"],
    )
    write_parquet(rows, run / "s.parquet", REQUESTS, {"definition": {"kind": "sequence"}, "identity": "s"})
    for k in range(2):
        score_requests_file(
            str(run / f"step{k}"), run / "s.parquet", run / f"s{k}.parquet", RULES, backend="fake"
        )
    with pytest.raises(CellError, match=r"have no .*margin, which an estimate needs"):
        read_run([run / "s0.parquet", run / "s1.parquet"], run / "s.parquet")


def test_the_half_width_must_be_sensible(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("0", "0.5", "narrow", "nan"):
        with pytest.raises(SystemExit):
            estimated(run, "--half-width", wrong)
        assert "allowed: a number above 0 and below 0.5" in capsys.readouterr().err
