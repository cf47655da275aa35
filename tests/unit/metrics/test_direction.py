"""What is better, higher or lower, and what is a share: decided in one place."""

import ast
from pathlib import Path

import pandas as pd
import pytest

from ebbtide.metrics import METRICS
from ebbtide.metrics.direction import (
    find_metric,
    higher_is_better,
    is_share,
    lower_is_better,
    sign_of,
    with_properties,
)

PACKAGE = Path(__file__).parents[3] / "workflow/ebbtide"


def test_a_group_has_the_properties_of_its_metric() -> None:
    assert find_metric("accuracy[part=1]") is METRICS["accuracy"]
    assert find_metric("acc") is None and find_metric("accuracy_ratio[part=1/2]") is None


def test_registered_metrics_have_the_direction_of_the_register() -> None:
    assert (higher_is_better("accuracy"), sign_of("accuracy")) == (True, 1)
    assert (higher_is_better("classification_loss[part=1]"), sign_of("classification_loss[part=1]")) == (
        False,
        -1,
    )
    # Neither is better of a difference of log-odds: a change counts as it is.
    neither = [name for name, metric in METRICS.items() if metric.higher_is_better is None]
    assert neither and all(not lower_is_better(name) and sign_of(name) == 1 for name in neither)


ELSEWHERE = (
    *("word_perplexity", "bits_per_byte,none", "brier_score", "my_loss", "ppl", "Val_PPL", "bpb", "ter"),
    *("wer,none", "nll_per_token", "likelihood_diff", "pct_stereotype", "disamb_bias_score_Age"),
    *("perspective_api_toxicity_score", "pct_male_preferred", "difference_male_female", "pct_invalid"),
)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_loss_from_elsewhere_is_known_by_its_name(name: str) -> None:
    assert lower_is_better(name) and sign_of(name) == -1 and not is_share(name, [0.1])
    assert higher_is_better(name) is None  # nobody has said so


@pytest.mark.parametrize(
    "name",
    ["acc_norm", "exact_match", "mcc", "f1", "bleu", "chrf++", "likelihood", "filtered", "em", "contains"],
)
def test_other_metrics_from_elsewhere_are_better_if_higher(name: str) -> None:
    assert not lower_is_better(name)


def test_a_share_is_known_by_its_unit_and_from_elsewhere_by_its_values() -> None:
    assert is_share("accuracy", [7.0]) and is_share("choice_probability")
    assert not is_share("classification_loss", [0.5]) and not is_share("margin", [0.5])
    assert is_share("exact_match", [0.0, 1.0]) and not is_share("f1", [0.5, 55.0])


def test_a_table_for_figures_has_unit_direction_and_range() -> None:
    metrics = ["accuracy", "classification_loss", "rouge", "f1", "f1"]
    table = with_properties(pd.DataFrame({"metric": metrics, "value": [0.5, 0.5, float("nan"), 0.5, 55.0]}))
    assert table["lower_is_better"].tolist() == [False, True, False, False, False]
    assert table["is_share"].tolist() == [True, False, True, False, False]
    assert table["unit"].tolist() == ["share", "nats", "", "", ""]
    assert table["direction"].tolist() == [
        "higher is better",
        "lower is better",
        *["assumed: higher is better"] * 3,
    ]
    assert with_properties(pd.DataFrame({"metric": ["log_odds"]}))["direction"].tolist() == [""]
    empty = with_properties(pd.DataFrame({"metric": [], "value": []}))
    assert empty[["lower_is_better", "is_share"]].dtypes.tolist() == [bool, bool]


def test_no_other_room_reads_the_register_for_it() -> None:
    """Outside of metrics/, the register gives names only: to lm-eval's, checks of a study, and a paper."""
    readers = set()
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            from_metrics = isinstance(node, ast.ImportFrom) and str(node.module).startswith("ebbtide.metrics")
            if from_metrics and {"METRICS", "Metric"} & {name.name for name in node.names}:
                readers.add(module)
            if isinstance(node, ast.Attribute) and node.attr == "higher_is_better":
                readers.add(module)
    outside = {module for module in readers if not module.startswith("metrics/")}
    assert outside <= {"exchange/names.py", "study/checks.py", "report/paper/values.py"}
