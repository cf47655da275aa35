"""Notices of the regressions."""

import numpy as np
import pandas as pd

from ebbtide.notices import Notice
from ebbtide.statistics.regression import regress
from ebbtide.statistics.regression.notices import regression_notices
from metrics_tables import grid, noisy, table

PARAMETERS, TOKENS = grid()


def test_a_clean_study_has_none() -> None:
    metrics = noisy(np.random.default_rng(0))
    assert regression_notices(regress(metrics), metrics) == []


def test_a_task_without_the_metric_is_said_with_what_it_has() -> None:
    loss = table("documents", np.log10(TOKENS), PARAMETERS, TOKENS, "loss")
    metrics = pd.concat([noisy(np.random.default_rng(0)), loss])
    assert regression_notices(regress(metrics, metric="accuracy"), metrics) == [
        Notice(
            "note",
            "not_compared",
            "There is no regression of documents: the task has no metric accuracy.",
            "It has loss (set regression.metrics: {documents: [loss]}).",
            task="documents",
        )
    ]


def test_tasks_with_one_reason_are_one_notice() -> None:
    rng = np.random.default_rng(0)
    metrics = pd.concat([noisy(rng, task=f"t{i}") for i in range(7)])
    metrics = metrics[metrics["model"] == metrics["model"].iloc[0]]
    [notice] = regression_notices(regress(metrics), metrics)
    assert notice.count == 7
    assert notice.detail == (
        "There is no regression of t0, t1, t2, t3, t4 and 2 more: one model size only, but the regression is "
        "over sizes."
    )
    assert notice.remedy == "See summary.txt for the trend of each model."


def test_a_constant_metric_is_suspicious() -> None:
    metrics = table("t", np.full(len(TOKENS), 0.25), PARAMETERS, TOKENS)
    [notice] = regression_notices(regress(metrics), metrics)
    assert (notice.severity, notice.kind) == ("warning", "suspicious")
    assert notice.detail == "There is no regression of t: the metric is 0.25 in every cell."


def test_cells_that_are_left_out_are_said_by_model() -> None:
    metrics = noisy(np.random.default_rng(1))
    sizeless = metrics.iloc[:2].assign(model="b", parameters_non_embedding=0)
    untrained = metrics.iloc[:1].assign(model="c", step=0, tokens=0)
    metrics = pd.concat([metrics, sizeless, untrained])
    found = regression_notices(regress(metrics), metrics)
    assert [(n.model, n.count, n.remedy) for n in found] == [
        ("b", 2, "Set regression.parameters to a count that b has, or its parameters if it is imported."),
    ]
    assert found[0].detail == (
        "2 cells are in no regression, because their non-embedding parameters are unknown; the first is "
        f"{sizeless['checkpoint'].iloc[0]}, t."
    )


def test_directions_that_are_assumed_or_missing_are_said() -> None:
    rng = np.random.default_rng(2)
    metrics = pd.concat(
        [noisy(rng, task=m).assign(metric=m) for m in ("f1", "word_loss", "log_odds", "loss")]
    )
    assert [n.detail for n in regression_notices(regress(metrics), metrics)] == [
        "f1 is not a metric of Ebbtide, so its direction is assumed: higher is better.",
        "word_loss is not a metric of Ebbtide, so its direction is assumed: lower is better.",
        "Neither a higher nor a lower log_odds is better, so no change of it is a verdict.",
    ]
