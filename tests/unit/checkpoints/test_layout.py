"""Layouts of runs on disk: which directories a pattern means, and which step each has."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import tiny
from ebbtide.checkpoints.directory import tokenizer_of
from ebbtide.checkpoints.layout import formatted, paths_by_step
from ebbtide.checkpoints.on_disk import DiskModel, model_on_disk
from ebbtide.checkpoints.record import LOCATED
from ebbtide.checkpoints.verification import check_before_loading
from ebbtide.errors import ConfigError
from ebbtide.scoring.engine import load_scorer, score_requests


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        Path(name).mkdir(parents=True)


def run(name: str, steps: list[int], tokenizer: bool = True) -> None:
    """Checkpoints of a run; `name` has the step in braces."""
    for step in steps:
        directory = tiny.hollow_checkpoint(Path(name.format(step=step)), step)
        if not tokenizer:
            for file in directory.glob("tokenizer*"):
                file.unlink()


def model(path: str, steps: Any = None, **more: Any) -> DiskModel:
    row = {"name": "m", "path": path, "tokens_per_step": 10, "unit": 1, **more}
    return model_on_disk(row if steps is None else {**row, "steps": steps}, "study.yaml: models[0]")


def error(*arguments: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        model(*arguments, **more)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "pattern", "steps"),
    [
        (["checkpoint-50", "checkpoint-100", "runs"], "checkpoint-{step}", [50, 100]),
        (["iter_0000010", "iter_0000200"], "iter_{step:07d}", [10, 200]),
        (["iter_0000010", "iter_0000200"], "iter_{step}", [10, 200]),
        (["iter_0000010", "iter_20", "iter_12345678"], "iter_{step:07d}", [10, 12345678]),
        (["global_step00010", "global_step00020"], "run/../global_step{step:05d}", [10, 20]),
        (["r/2026-01/step1", "r/2026-02/step2"], "r/*/step{step}", [1, 2]),
        (["r/seed1/step1", "r/seed22/step2"], "r/seed?/step{step}", [1]),
        (["s1/model-1", "s1/model-2", "s3/model-003"], "s{step}/model-{step}", [1, 3]),
        (["step1-ema", "step1", "xstep2", "step2"], "step{step}", [1, 2]),
        (["a[1]/step1", "a1/step2"], "a[1]/step{step}", [1]),
    ],
)
def test_the_directories_of_a_pattern(names: list[str], pattern: str, steps: list[int]) -> None:
    make("run", *names)
    Path("step3").write_text("a file")
    found = paths_by_step(pattern, "models[0].path")
    assert list(found) == steps
    assert all(path.is_dir() for path in found.values())


def test_a_step_is_written_as_the_pattern_has_it() -> None:
    assert str(formatted("iter_{step:07d}", 10)) == "iter_0000010"
    assert str(formatted("checkpoint-{step}", 10)) == "checkpoint-10"


def test_two_directories_of_one_step_are_an_error() -> None:
    make("step10", "step010")
    assert error("step{step}", "all") == (
        "ConfigError: study.yaml: models[0].path: found two directories of step 10, step010 and step10; "
        "rename or remove one of them, or write a path that matches one only."
    )
    make("a/x", "b/x")
    assert "found two directories match '*/x', a/x and b/x;" in error("*/x")


@pytest.mark.parametrize("pattern", ["iter_{step:7d}", "iter_{step:07}", "iter_{steps}", "iter_{step:d}"])
def test_a_malformed_step_is_an_error(pattern: str) -> None:
    found = pattern.removeprefix("iter_")
    assert error(pattern, "all") == (
        f"ConfigError: study.yaml: models[0].path: found {found} in {pattern!r}; "
        "allowed: {step}, or {step:07d}."
    )


@pytest.mark.parametrize(
    ("steps", "chosen"),
    [
        ("all", [1, 2, 3, 4, 6]),
        ("last", [6]),
        ("log2", [2, 4, 6]),
        ({"every": 3}, [3, 6]),
        ([4, 1], [1, 4]),
    ],
)
def test_schedules_are_those_of_the_hub(steps: Any, chosen: list[int]) -> None:
    run("r/iter_{step:07d}", [1, 2, 3, 4, 6])
    found = model("r/iter_{step:07d}", steps).model().checkpoints
    assert [c.step for c in found] == chosen
    assert [(c.name, c.tokens) for c in found] == [(f"step{s}", 10 * s) for s in chosen]


def test_a_step_of_no_directory_is_an_error_with_the_nearest() -> None:
    run("r/step{step}", [10, 20, 50])
    assert error("r/step{step}", [10, 40]) == (
        "ConfigError: study.yaml: models[0].steps: found 40, but r/step{step} has no such step; "
        "nearest: 20 and 50; available: 10, 20, 50."
    )
    assert "models[0].steps.every: found 7, but r/step{step} has no multiple of it" in error(
        "r/step{step}", {"every": 7}
    )


def test_a_pattern_without_directories_is_an_error() -> None:
    assert error("runs/b/step{step}", "all") == (
        "ConfigError: study.yaml: models[0].path: no directory matches 'runs/b/step{step}'; correct the path."
    )
    assert "models[0].path: runs/b/step1 is not a directory" in error("runs/b/step{step}", [1, 2])
    assert "models[0].path: runs/b is not a directory" in error("runs/b")
    assert "allowed: all, log2, last, {every: N}, or a list of steps." in error("runs/b/step{step}")
    assert "models[0].path: found 'runs/b' for steps last; it must contain {step}." in error("runs/b", "last")


def test_the_tokenizer_of_a_trainer_is_in_the_directory_of_the_run() -> None:
    run("runs/a/checkpoint-{step}", [50, 100], tokenizer=False)
    whole = tiny.hollow_checkpoint(Path("whole"), 50)
    for file in whole.glob("tokenizer*"):
        shutil.copy(file, "runs/a")
    found = model("runs/a/checkpoint-{step}", "all")
    [first, second] = found.model().checkpoints
    assert first.tokenizer == second.tokenizer == model("whole").model().checkpoints[0].tokenizer
    assert first.weights == model("whole").model().checkpoints[0].weights

    (Path("runs/a/tokenizer_config.json")).write_text("{}")  # another tokenizer: the cells are not those
    assert model("runs/a/checkpoint-{step}", "all").model().checkpoints[0].tokenizer != first.tokenizer


def test_a_key_names_the_directory_of_the_tokenizer() -> None:
    run("runs/a/checkpoint-{step}", [50], tokenizer=False)
    tiny.hollow_checkpoint(Path("words"), 0)
    [found] = model("runs/a/checkpoint-{step}", "all", tokenizer="words").directories
    assert found.located is not None
    assert found.located.tokenizer_directory == str(Path("words").resolve())
    [bad] = model("runs/a/checkpoint-{step}", "all", tokenizer="nowhere").directories
    assert str(bad.error) == "CheckpointError: no tokenizer.json in nowhere."


@pytest.mark.parametrize("family", ["llama", "gpt2"])  # read here, and by transformers
def test_checkpoints_are_scored_with_a_tokenizer_that_lies_elsewhere(tmp_path: Path, family: str) -> None:
    whole = tiny.checkpoint(tmp_path / "whole", family)
    requests = tiny.requests(tmp_path / "requests.parquet")
    expected = score_requests(load_scorer(whole), requests).rows
    for row, place in (({}, "run"), ({"tokenizer": "words"}, "words")):
        directory = shutil.copytree(whole, tmp_path / place / "run" / "checkpoint-50")
        for file in directory.glob("tokenizer*"):
            shutil.move(file, directory.parent if place == "run" else tmp_path / place)
        [found] = model(f"{place}/run/checkpoint-{{step}}", [50], name=place, **row).model().checkpoints
        record = tmp_path / "resources/checkpoints" / place / "step50" / LOCATED
        check_before_loading(record, found.weights, found.tokenizer)
        assert tokenizer_of(record) == str(directory.parent if place == "run" else tmp_path / place)
        scorer = load_scorer(directory, tokenizer=tokenizer_of(record))
        assert score_requests(scorer, requests).rows.equals(expected)
    assert score_requests(load_scorer(tmp_path / "run/run/checkpoint-50"), requests).rows.equals(expected)
