"""Figures of runs compared: the number is the difference, the colour is its evidence."""

import pandas as pd
import pytest

from ebbtide.errors import FigureError
from ebbtide.figures.runs import EVIDENCE, plot_run_curves, plot_run_matrix
from ebbtide.metrics.direction import with_properties


def verdicts(*rows: tuple) -> pd.DataFrame:
    names = ["task", "suite", "size", "metric", "difference", "verdict", "p_adjusted", "reason"]
    table = pd.DataFrame(rows, columns=names)
    return with_properties(table.assign(arm="new", reference="old"))


ROWS = [
    ("", "all", "70M", "accuracy", -0.031, "loses", 0.0004, ""),
    ("qa", "", "70M", "accuracy", 0.1234, "wins", 0.02, ""),
    ("qa", "", "1B", "accuracy", -0.0001, "equivalent", 0.9, ""),
    ("text", "", "1B", "loss", -0.1234, "undecided", 0.2, "the noise of seeds is not known, so …"),
]


def differences(sizes: list[str]) -> pd.DataFrame:
    rows = [
        ("qa", "", size, scope, tokens, 0.01 * tokens, 0.01 * tokens - 0.1, 0.01 * tokens + 0.1)
        for size in sizes
        for scope, tokens in (("point", 1.0), ("point", 2.0), ("last", 2.0))
    ]
    names = ["task", "suite", "size", "scope", "tokens", "difference", "low", "high"]
    table = pd.DataFrame(rows, columns=names).assign(arm="new", reference="old", metric="accuracy")
    return with_properties(table.assign(source_of_noise="examples, checkpoints; not seeds"))


def test_tiles_have_the_difference_as_number_and_the_evidence_as_colour() -> None:
    plot = plot_run_matrix(verdicts(*ROWS))
    assert plot.data["text"].tolist() == ["−3.1 ▼", "+12.3 ▲", "0.0 ≈", "−0.12"]  # points only for shares
    assert plot.data["evidence"].tolist() == ["loses, p ≤ 0.001", "wins", "equivalent", "undecided"]
    assert set(plot.data["evidence"]) <= set(EVIDENCE)
    downwards = list(plot.data["row"].cat.categories)[::-1]
    assert downwards == ["QA\nAccuracy", "Text\nLoss", "All (suite)\nAccuracy"]  # suites last
    assert list(plot.data["size"].cat.categories) == ["70M", "1B"]
    caption = " ".join(plot.labels.caption.split())
    assert "noise of seeds is unknown" in caption and "Lower is better: Loss" in caption
    plot.draw()


def test_with_known_seeds_the_matrix_does_not_doubt_them() -> None:
    plot = plot_run_matrix(verdicts(*ROWS[:3]))
    assert "seeds" not in plot.labels.caption
    assert plot.data["row"].iloc[1] == "QA"  # one metric needs no name


def test_curves_are_in_points_with_bands_and_without_the_mean_of_the_last() -> None:
    plot = plot_run_curves(differences(["70M", "1B"]))
    assert plot.data["difference"].tolist() == [1.0, 2.0, 1.0, 2.0]
    assert "not seeds" in plot.labels.caption
    (band,) = [layer for layer in plot.layers if type(layer.geom).__name__ == "geom_ribbon"]
    assert set(band._data["size"]) == {"70M", "1B"}
    assert band._data["low"].iloc[0] == pytest.approx(-9.0)
    plot.draw()


def test_with_many_sizes_only_the_largest_has_a_band_and_the_note_says_so() -> None:
    plot = plot_run_curves(differences(["70M", "160M", "410M", "1B"]))
    (band,) = [layer for layer in plot.layers if type(layer.geom).__name__ == "geom_ribbon"]
    assert set(band._data["size"]) == {"1B"} and "only of 1B" in plot.labels.caption


def test_without_rows_there_is_a_reason() -> None:
    with pytest.raises(FigureError, match=r"run_verdicts\.tsv: no row"):
        plot_run_matrix(verdicts())
    with pytest.raises(FigureError, match="set tokens_per_step"):
        plot_run_curves(differences(["70M"]).assign(tokens=0))
