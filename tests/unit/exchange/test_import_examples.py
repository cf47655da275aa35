"""Imported samples have the rights of cells: trajectories, alarms, trends, forgetting."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ebbtide.errors import CellError, ConfigError
from ebbtide.exchange.examples import ExamplesOnDisk
from ebbtide.exchange.imports import import_results
from ebbtide.statistics.alarms.alarms import alarms
from ebbtide.statistics.example_tables import read_parts
from ebbtide.statistics.forgetting.tables import texts_of
from ebbtide.statistics.panel import Trajectory, models_of, not_compared, read_trajectories
from ebbtide.study.checks import find_baselines
from ebbtide.tables import REQUESTS, read_frame, write_parquet
from ebbtide.tasks.texts import text_digests
from lm_eval_files import Line, curve_lines, write_run

SETTINGS = {
    "metrics": ["accuracy"],
    "alpha": 0.05,
    "against": ["predecessor", "best", "baseline"],
    "family": "study",
    "effects": {"moderate": 0.1, "severe": 0.2},
}


def imported(
    tmp_path: Path, runs: Mapping[str, Mapping[str, Sequence[Line]]], frozen: Sequence[Path] = ()
) -> Path:
    """Import runs, by `model_args`; returns the directory of examples."""
    for number, (args, tasks) in enumerate(runs.items()):
        write_run(tmp_path / f"run{number}", args, tasks)
    sink = ExamplesOnDisk(tmp_path / "examples", tmp_path / "requests", frozen)
    import_results([{"format": "lm_eval_samples", "files": [f"{tmp_path}/run*/samples_*"]}], sink=sink.write)
    return tmp_path / "examples"


def pythia(step: int, model: str = "pythia-70m") -> str:
    return f"pretrained=EleutherAI/{model},revision=step{step}"


def test_a_table_that_was_deleted_is_missed(tmp_path: Path) -> None:
    """Snakemake sees the directory, and would compare the other checkpoints without a word."""
    runs = {pythia(step): {"t": curve_lines(20, right)} for step, right in {1000: 12, 2000: 6}.items()}
    directory = imported(tmp_path, runs)
    assert len(read_parts([directory])) == 2
    (directory / "000001.parquet").unlink()
    with pytest.raises(CellError, match=r"lacks 000001\.parquet; delete .*/examples and run snakemake"):
        read_parts([directory])
    (directory / "count.json").unlink()
    with pytest.raises(CellError, match=r"count\.json does not exist; delete .*/examples and run snakemake"):
        read_parts([directory])


def test_the_same_examples_at_every_revision_are_compared(tmp_path: Path) -> None:
    right = {1000: 100, 2000: 140, 4000: 150, 8000: 90}
    directory = imported(tmp_path, {pythia(step): {"t": curve_lines(200, n)} for step, n in right.items()})
    [found] = read_trajectories([directory])
    assert found.checkpoints["step"].tolist() == list(right)
    assert found.values["accuracy"].sum(axis=1).tolist() == list(right.values())
    assert found.parameters["nominal"] == 70_000_000
    baselines = {m: c.name for m, c in find_baselines(models_of(read_parts([directory])), 1000, "f").items()}
    table = alarms([found], SETTINGS, baselines)
    assert table.groupby("against").size().to_dict() == {"baseline": 3, "best": 3, "predecessor": 3}
    last = table[table["checkpoint"] == "step8000"].set_index("against")
    assert last.loc["best", "severity"] == "severe" and last.loc["best", "reference"] == "step4000"
    assert last["n"].tolist() == [200] * 3
    assert not_compared(read_parts([directory])) == []


def test_a_baseline_may_be_another_imported_model(tmp_path: Path) -> None:
    runs = {pythia(1000): {"t": curve_lines(50, 20)}, pythia(1000, "pythia-160m"): {"t": curve_lines(50, 45)}}
    parts = read_parts([imported(tmp_path, runs)])
    found = find_baselines(models_of(parts), "pythia-160m/step1000", "f")
    others = [p for p in parts if p.place["model"] == found["pythia-70m"].model]
    table = alarms(read_trajectories(parts), SETTINGS, {}, list(read_trajectories(others)))
    assert set(table["reference"]) == {"pythia-160m/step1000"}
    with pytest.raises(
        ConfigError, match=r"alarms\.baseline: found 7, but pythia-70m has no such checkpoint"
    ):
        find_baselines(models_of(parts), 7, "f")


@pytest.mark.parametrize(
    ("odd", "found"),
    [
        ({"count": 30, "right": 10}, "step2000 (30) are not the 40 of 3 checkpoints"),
        (
            {"count": 40, "right": 10, "context": "Other shots. "},
            "step2000 (40) are not the 40 of 3 checkpoints",
        ),
        ({"count": 40, "right": 10, "delimiter": ""}, "step2000 (40) are not the 40 of 3 checkpoints"),
    ],
)
def test_other_examples_at_one_revision_are_left_out_and_said(
    odd: dict[str, Any], found: str, tmp_path: Path
) -> None:
    runs = {
        pythia(step): {
            "t": curve_lines(**odd) if step == 2000 else curve_lines(40, 20),
            "u": curve_lines(9, 4),
        }
        for step in (1000, 2000, 4000, 8000)
    }
    directory = imported(tmp_path, runs)
    by_task = {one.task: one for one in read_trajectories([directory])}
    assert by_task["t"].checkpoints["step"].tolist() == [1000, 4000, 8000]
    assert by_task["u"].checkpoints["step"].tolist() == [1000, 2000, 4000, 8000]
    [notice] = not_compared(read_parts([directory]))
    assert found in notice.detail
    assert (notice.severity, notice.kind, notice.checkpoint) == ("warning", "not_compared", "step2000")


def test_the_same_number_with_another_text_is_another_example(tmp_path: Path) -> None:
    """Between models, examples are matched by name; so names stand for texts."""
    runs = {
        pythia(1000): {"t": curve_lines(4, 2)},
        pythia(1000, "pythia-160m"): {"t": curve_lines(4, 2, context="Five shots. ")},
    }
    one, other = read_trajectories([imported(tmp_path, runs)])
    assert one.examples.tolist() == ["0", "1", "2", "3"]
    assert not set(one.examples) & set(other.examples)
    texts = texts_of(sorted((tmp_path / "requests").glob("*.parquet")))["t"]
    assert set(texts["example"]) == {*one.examples, *other.examples}
    assert texts.set_index("example")["prompt"][other.examples[0]] == "Five shots. Question 0?"


def test_the_same_text_with_another_number_is_the_same_example(tmp_path: Path) -> None:
    """A text may occur twice, and a number may stand for another text."""

    def lines(numbers: Sequence[int], right: int) -> list[Line]:
        return [{**line, "doc_id": n} for n, line in zip(numbers, curve_lines(4, right), strict=True)]

    numbers = {1000: [0, 1, 2, 3], 2000: [10, 11, 12, 13], 4000: [3, 2, 1, 0]}
    runs = {pythia(step): {"t": lines(n, 2)} for step, n in numbers.items()}
    directory = imported(tmp_path, runs)
    [found] = read_trajectories([directory])
    assert found.examples.tolist() == ["0", "1", "2", "3"]
    assert found.values["accuracy"].tolist() == [[1, 1, 0, 0]] * 3
    assert not_compared(read_parts([directory])) == []


def test_a_model_may_be_partly_scored_and_partly_imported(tmp_path: Path) -> None:
    """Scored parts of other checkpoints join imported ones if the texts are those of the frozen task."""
    runs = {pythia(step): {"t": curve_lines(4, 2)} for step in (1000, 2000)}
    imported(tmp_path, runs)
    [texts] = (tmp_path / "requests").glob("*.parquet")
    frozen = tmp_path / "frozen.parquet"
    asked = read_frame(texts, REQUESTS)
    for context, joined in (("", True), ("Scored otherwise. ", False)):
        table = asked.assign(context=context + asked["context"])
        write_parquet(table, frozen, REQUESTS, {"task": "t", "definition": {"kind": "choice"}})
        second = tmp_path / f"again{joined}"
        directory = imported(second, {pythia(4000): {"t": curve_lines(4, 2)}}, [frozen])
        [found] = read_trajectories([directory])
        assert (found.examples.tolist() == list(text_digests(table))) is joined


def test_a_task_at_some_checkpoints_has_a_trajectory_of_these(tmp_path: Path) -> None:
    runs = {
        pythia(s): {"t": curve_lines(4, 2), **({"u": curve_lines(5, 2)} if s > 1 else {})} for s in (1, 2, 3)
    }
    by_task: dict[str, Trajectory] = {t.task: t for t in read_trajectories([imported(tmp_path, runs)])}
    assert by_task["t"].checkpoints["step"].tolist() == [1, 2, 3]
    assert by_task["u"].checkpoints["step"].tolist() == [2, 3]


def test_without_tokens_steps_give_the_order(tmp_path: Path) -> None:
    runs = {f"pretrained=lab/m,revision=step{s}": {"t": curve_lines(4, s)} for s in (3, 1, 2)}
    [found] = read_trajectories([imported(tmp_path, runs)])
    assert found.checkpoints["step"].tolist() == [1, 2, 3]
