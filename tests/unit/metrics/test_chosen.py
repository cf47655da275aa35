"""The metrics by which a study looks at its tasks."""

import pandas as pd
import pytest

from ebbtide.errors import ConfigError
from ebbtide.metrics.chosen import chosen_metrics, drawn_metrics, main_metric
from ebbtide.metrics.of_cell import is_followed
from ebbtide.metrics.registry import METRICS as REGISTER


@pytest.mark.parametrize(
    ("found", "main"),
    [
        (["margin", "accuracy", "accuracy[part=1]"], "accuracy"),
        (["mc2", "mc1"], "mc1"),
        (["perplexity", "bits_per_byte", "loss"], "loss"),
        (["perplexity", "bits_per_byte"], "bits_per_byte"),
        (["byte_perplexity", "perplexity"], "perplexity"),
        (["absolute_log_odds", "log_odds"], "log_odds"),
        (["rmse", "bias"], "rmse"),
        (["coverage", "rmse", "mse"], "mse"),
        (["f1", "rouge"], "f1"),  # neither is registered
        (["f1", "margin"], "margin"),
        (["accuracy[part=1]"], "accuracy[part=1]"),
        (["sample_loss", "exact_match[filter=b]", "exact_match[filter=a]"], "exact_match[filter=b]"),
        (["accuracy[filter=a]", "accuracy"], "accuracy"),
        (["exact_match[filter=a][part=1]", "exact_match[filter=a]"], "exact_match[filter=a]"),
    ],
)
def test_the_main_metric_is_the_first_of_the_register(found: list[str], main: str) -> None:
    assert main_metric(found) == main


@pytest.mark.parametrize("kind", sorted({kind for m in REGISTER.values() for kind in m.kinds}))
def test_tables_of_metrics_and_of_examples_have_the_same_main_metric(kind: str) -> None:
    metrics = [m for m in REGISTER.values() if kind in m.kinds]
    main = main_metric(m.name for m in metrics)
    assert main == main_metric(m.name for m in metrics if is_followed(m))
    assert REGISTER[main].main


METRICS = pd.DataFrame(
    [
        ("choices", "margin", 0.1),
        ("choices", "accuracy", 0.5),
        ("choices", "accuracy[part=1]", 0.5),
        ("documents", "bits_per_byte", 1.0),
        ("documents", "loss", 2.0),
        ("broken", "accuracy", float("nan")),
        ("broken", "margin", 1.0),
    ],
    columns=["task", "metric", "value"],
)


def test_a_study_that_names_none_looks_at_main_metrics() -> None:
    found = {"choices": ["accuracy"], "documents": ["loss"], "broken": ["accuracy"]}
    assert chosen_metrics(METRICS) == found
    assert drawn_metrics(METRICS) == found | {"broken": ["margin"]}  # what has no value is not drawn


def test_a_named_metric_is_asked_of_all_and_drawn_where_it_is() -> None:
    of = {"documents": ["bits_per_byte", "loss"]}
    assert list(chosen_metrics(METRICS, "margin").values()) == [["margin"]] * 3
    assert drawn_metrics(METRICS, "margin")["documents"] == ["loss"]
    assert drawn_metrics(METRICS, "accuracy[part=1]")["choices"] == ["accuracy[part=1]"]
    assert chosen_metrics(METRICS, "margin", of)["documents"] == of["documents"]
    with pytest.raises(ConfigError, match=r"found 'document', which is not .*did you mean 'documents'"):
        chosen_metrics(METRICS, None, {"document": ["loss"]})
