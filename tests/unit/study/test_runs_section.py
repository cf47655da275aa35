"""What the section `runs` refuses before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from ebbtide.errors import ConfigError
from ebbtide.grid import Checkpoint, Model
from ebbtide.schema import check, load_schema
from ebbtide.study.arms import check_runs
from ebbtide.study.checks import check_run_metrics

MODELS = [
    Model(name, (Checkpoint(name, "step1", 1, 1, "", "", "", 0, "", nominal=70_000_000),), arm=name[0])
    for name in ("a1", "a2", "b1", "b2")
]


def section(**runs: Any) -> dict[str, Any]:
    return check({"study": "s", "runs": runs}, load_schema("config"), "s.yaml")["runs"]


def refused(**runs: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        of = section(**runs)
        check_runs(of, MODELS, ["t"], [], "s.yaml: runs")
        check_run_metrics(of, "s.yaml: runs")
    return str(caught.value)


def test_a_sound_section_passes() -> None:
    of = section(
        metrics=["accuracy", "margin"],
        margin={"accuracy": 0.01},
        seed_sd={"sd": 0.012, "runs": 9, "source": "x"},
    )
    check_runs(of, MODELS, ["t"], [], "s.yaml: runs")
    check_run_metrics(of, "s.yaml: runs")


@pytest.mark.parametrize("name", [True, 1, 2.5])
def test_names_of_arms_that_yaml_reads_as_something_else(name: object) -> None:
    assert "runs.arms: found" in refused(arms={name: ["a1"], "b": ["b1"]})


def test_a_metric_that_does_not_exist() -> None:
    assert "runs.metrics: found 'acuracy'" in refused(metrics=["acuracy"])
    assert "did you mean 'accuracy'" in refused(metrics=["acuracy"])
    assert "runs.margin: found 'nope'" in refused(margin={"nope": 0.1})
    assert "runs.metrics: found 'nope'" in refused(suites={"s": {"tasks": ["t"], "metric": "nope"}})


def test_a_noise_of_seeds_in_points() -> None:
    assert "found 1.5; allowed: at most 0.5" in refused(seed_sd={"sd": 1.5, "runs": 3, "source": "x"})


def test_a_table_that_is_not_one_of_seeds(tmp_path: Path) -> None:
    file = tmp_path / "x.tsv"
    file.write_text("task\tmetric\n")
    assert "without runs, sd_seeds, size, suite" in refused(seed_sd={"table": str(file), "source": "x"})


def test_texts_and_numbers_of_rows_that_no_table_can_have() -> None:
    row = {"name": "m", "path": "p/{step}", "steps": [1], "tokens_per_step": 1}
    for wrong, key in (({"arm": "a\tb"}, "arm"), ({"arm": " "}, "arm"), ({"seed": 10**30}, "seed")):
        with pytest.raises(ConfigError, match=key):
            check({"study": "s", "models": [row | wrong]}, load_schema("config"), "s.yaml")
