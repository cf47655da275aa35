"""Early warning: a signal that falls first is found, one that falls with accuracy is not."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from curves import drawn, trajectory
from ebbtide.errors import FigureError
from ebbtide.figures import plot_early_warning, plot_trends
from ebbtide.metrics.direction import with_properties
from ebbtide.statistics.trends.early_warning import SIGNALS, fall_of, lead_table, leads

X = np.log10(1024 * 2.0 ** np.arange(10))


def fall(middle: float, high: float = 0.7, low: float = 0.35) -> np.ndarray:
    return low + (high - low) / (1 + np.exp((X - middle) / 0.2))


def study(lead: float, n: int = 400, seed: int = 0, task_fall: bool = True) -> list[dict]:
    middle = float(X.mean())
    accuracy = drawn(fall(middle) if task_fall else np.full(len(X), 0.5), n, seed)
    rng = np.random.default_rng(seed + 1000)
    margin = 3 * fall(middle - lead)[:, None] + rng.normal(0, 1, (len(X), n)) + rng.normal(0, 1, n)
    return list(leads(trajectory(accuracy, margin=margin, coverage=np.ones_like(margin)), 0.05))


def test_half_of_a_fall() -> None:
    x = np.array([0.0, 1.0, 2.0, 4.0])
    found = fall_of(np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 4.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]]), x)
    assert found.half[:2].tolist() == [1.5, 1.5] and np.isnan(found.half[2])
    assert found.size.tolist() == [1.0, 3.0, 0.0]
    assert (found.peak[1], found.low[1]) == (1, 2)
    scaled = fall_of(7 * np.array([[0.0, 4.0, 1.0, 2.0]]) - 3, x)
    assert scaled.half.tolist() == [1.5]


def test_a_signal_that_falls_first_leads() -> None:
    margin, coverage = study(0.3, 1000)
    assert margin["lead"] == pytest.approx(0.3, abs=0.15) and margin["p"] < 0.01
    assert margin["low"] < margin["lead"] < margin["high"]
    assert margin["half"] > margin["signal_half"]
    assert coverage["note"] == "coverage is constant" and np.isnan(coverage["p"])
    behind, _ = study(-0.3, 1000)
    assert behind["lead"] < 0 and behind["p"] < 0.01


def test_a_ripple_in_a_rise_is_no_fall() -> None:
    n, accuracy = 400, drawn(fall(float(X.mean())), 400)
    means = np.linspace(0, 6, len(X)) - np.where(np.arange(len(X)) == 4, 2, 0)
    coverage = means[:, None] + np.random.default_rng(0).normal(0, 0.2, (len(X), n))
    [row] = leads(trajectory(accuracy, coverage=coverage), 0.05)
    assert row["p_signal_fall"] < 0.05 and "less than half of its range" in row["note"] and np.isnan(row["p"])


def test_where_accuracy_does_not_fall_there_is_nothing_to_warn_of() -> None:
    assert {row["note"] for row in study(0.3, task_fall=False)} == {"accuracy does not fall"}


def test_a_lead_of_nothing_is_found_as_often_as_stated() -> None:
    runs = 60
    false = sum(study(0.0, 200, seed)[0]["p"] < 0.05 for seed in range(runs))
    assert binomtest(false, runs, 0.05, alternative="greater").pvalue > 1e-3


def test_few_checkpoints_are_said_in_words() -> None:
    values = np.ones((2, 5))
    [row] = leads(trajectory(values, margin=values), 0.05)
    assert "fewer than three checkpoints" in row["note"]
    assert list(leads(trajectory(values, metric="margin"), 0.05)) == []
    assert lead_table([]).empty


def test_the_figures_draw_what_the_tables_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    table = lead_table(study(0.3))
    metrics = pd.DataFrame(
        [
            {"model": "m", "task": "t", "metric": metric, "checkpoint": f"step{2**i}", "tokens": 1024 * 2**i}
            | {"value": value}
            for metric in ("accuracy", *SIGNALS)
            for i, value in enumerate(fall(float(X.mean())))
        ]
    )
    figure = plot_early_warning(metrics, table).draw()
    assert len(figure.axes) == 1
    drawn_lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(X)]
    assert len(drawn_lines) == 2  # accuracy and margin; coverage has no lead
    monkeypatch.setattr("ebbtide.figures.early_warning.PANELS", 1)
    more = plot_early_warning(metrics, pd.concat([table, table.assign(task="u", fall=0.0)]))
    assert more.labels.caption == "Drawn: the 1 largest of 2 falls; early_warning.tsv has all."
    none = table.assign(
        lead=np.nan, note=["accuracy does not fall"] * (len(table) - 1) + ["margin is constant"]
    )
    reason = (
        f"nothing to compare: accuracy does not fall ({len(table) - 1} of {len(table)} signals); margin is "
        f"constant (1 of {len(table)} signals)."
    )
    with pytest.raises(FigureError, match=re.escape(reason)):
        plot_early_warning(metrics, none)
    reason = (
        "results by example of accuracy and of one of its signals (margin, coverage, choice_probability); "
    )
    with pytest.raises(FigureError, match=re.escape(f"{reason}the metrics are loss.")):
        plot_early_warning(metrics.assign(metric="loss"), table.iloc[:0])


def test_a_forest_has_a_panel_per_task_and_no_slope_is_an_error() -> None:
    rows = pd.DataFrame(
        {
            "model": ["a", "b", "a"],
            "parameters_non_embedding": [10, 1000, 10],
            "task": ["t", "t", "u"],
            "metric": "accuracy",
            "slope": [0.1, -0.1, 0.0],
            "low": [0.0, -0.2, -0.1],
            "high": [0.2, 0.0, 0.1],
            "class": ["rising", "falling", "flat"],
            "ability": ["improves", "worsens", "flat"],
            "checkpoints": 4,
            "note": "training tokens are unknown: no slope; no change is significant",
        }
    )
    rows = with_properties(rows)
    plot = plot_trends(rows)
    figure = plot.draw()
    assert plot.labels.x == "Accuracy (share, higher is better): change per tenfold of training tokens"
    assert plot.labels.caption.startswith("Bars: 95 % interval of the slope over all checkpoints")
    assert len(figure.axes) == 2
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["b (1K)", "a (10)"]
    reason = "no row has a slope: training tokens are unknown: no slope (set tokens_per_step)."
    with pytest.raises(FigureError, match=re.escape(reason)):
        plot_trends(rows.assign(slope=np.nan))
    with pytest.raises(FigureError, match="no model has results by example"):
        plot_trends(rows.iloc[:0])


def test_a_forest_of_several_metrics_names_them_in_its_panels() -> None:
    rows = pd.DataFrame(
        {
            "model": "a",
            "parameters_non_embedding": 10,
            "task": ["t", "u"],
            "metric": ["accuracy", "loss"],
            "slope": [0.1, -0.1],
            "low": [0.0, -0.2],
            "high": [0.2, 0.0],
            "class": ["rising", "falling"],
            "ability": "improves",
        }
    )
    plot = plot_trends(with_properties(rows))
    assert plot.labels.x == "Metric of the panel: change per tenfold of training tokens"
    assert [" ".join(panel.split()) for panel in plot.data["panel"]] == [
        "T Accuracy (share, higher is better)",
        "U Loss (nats per token, lower is better)",
    ]
    assert list(plot.data["ability"].cat.categories) == [
        "improves"
    ]  # a loss that falls has the look of a gain
