"""The strip of alarms: checkpoints across, a row per task and model, coloured by the worst alarm."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.figures.along import (
    axis,
    axis_title,
    extent,
    got_worse,
    lay_out,
    row_height,
    theme_along,
)
from ebbtide.figures.frame import key_columns
from ebbtide.figures.theme import PAGE_CM, theme_paper

QUIET, UNKNOWN, BEST = "no alarm", "too few examples to tell", "best of the training"
# Light to dark as well as yellow to red: distinguishable with colour blindness, and in grey.
COLOURS = {
    QUIET: "#b8b8b8",
    UNKNOWN: "#b8b8b8",
    "minor": "#f0b323",
    "moderate": "#dd5f12",
    "severe": "#6b0f1a",
    BEST: "#1f5fa6",
}
SHAPES = {QUIET: "o", UNKNOWN: "x", "minor": "o", "moderate": "s", "severe": "D", BEST: "|"}
SEVERITIES = tuple(kind for kind in COLOURS if kind not in (QUIET, UNKNOWN, BEST))  # ascending
SIZES = {QUIET: 1.0, UNKNOWN: 1.0, "minor": 1.6, "moderate": 2.0, "severe": 2.4, BEST: 3.4}
_SMALLEST, _LARGEST = 0.25, 1.5  # grey dots


def plot_alarms(
    comparisons: pd.DataFrame, titles: Mapping[str, str] | None = None, width_cm: float = PAGE_CM
) -> p9.ggplot:
    """Draw the worst alarm of every checkpoint; grey where there is none.

    `comparisons` is the table of alarms with the columns of `with_properties`. The area of a grey dot is the
    smallest drop that would have been detected there with a power of 80 %, relative to the largest of its
    metric: a small dot means that at most a small drop was missed. A blue stroke is the high-water mark of
    the whole training (only with `against: best`). `titles` are titles of panels by task; `width_cm` is
    that of a page or of a column.

    Raises `FigureError` when nothing was compared.
    """
    laid, grid = lay_out(comparisons, titles, width_cm)
    rows, marks = _worst(laid), _marks(laid)
    height = row_height(rows, grid)
    crowded = min(1.0, 5.6 * grid.panel_cm / rows["position"].nunique(), height / 0.3)
    kinds = [kind for kind in COLOURS if kind in set(rows["kind"]) | set(marks["kind"])]
    rows = rows.assign(size=rows["size"] * crowded)
    marks = marks.assign(size=SIZES[BEST] * min(1.0, height / 0.3))
    drawn = pd.concat([marks, rows], ignore_index=True)
    drawn["kind"] = pd.Categorical(drawn["kind"], kinds, ordered=True)
    drawn = drawn.sort_values("kind", kind="stable")
    keys = key_columns(kinds, grid.keys_cm)
    key = p9.guide_legend(ncol=keys, override_aes={"size": [SIZES[kind] for kind in kinds]})
    return (
        p9.ggplot(drawn, p9.aes("position", "model", color="kind", shape="kind", size="size"))
        + p9.geom_point()
        + p9.facet_wrap("panel", ncol=grid.columns)
        + axis(laid, grid, before=bool((marks["position"] < 0).any()))
        + p9.scale_color_manual([COLOURS[kind] for kind in kinds], name="Worst alarm", guide=key)
        + p9.scale_shape_manual(
            [SHAPES[kind] for kind in kinds], name="Worst alarm", guide=p9.guide_legend(ncol=keys)
        )
        + p9.scale_size_identity()
        + p9.labs(x=axis_title(laid), y="Model")
        + theme_paper(*extent(rows, grid, height, 0.75 + 0.45 * -(-len(kinds) // keys)))
        + theme_along()
    )


def _worst(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per panel, model and checkpoint: its worst alarm and its smallest detectable drop."""
    rank = rows["severity"].map({grade: i for i, grade in enumerate(SEVERITIES)}).fillna(-1)
    largest = rows.groupby("metric")["minimum_detectable_drop"].transform("max")
    drop = np.sqrt(rows["minimum_detectable_drop"] / largest)
    by = ["panel", "model", "position"]
    worst = (
        rows.assign(rank=rank, drop=drop)
        .groupby(by, observed=True)
        .agg(rank=("rank", "max"), drop=("drop", "min"))
        .reset_index()
    )
    quiet = np.where(worst["drop"].isna(), UNKNOWN, QUIET)
    kind = np.where(worst["rank"] < 0, quiet, np.asarray(SEVERITIES)[worst["rank"].astype(int)])
    grey = _SMALLEST + (_LARGEST - _SMALLEST) * worst["drop"]
    size = np.where(kind == QUIET, grey, [SIZES[name] for name in kind])
    return worst.assign(kind=kind, size=size)[[*by, "kind", "size"]]


def _marks(rows: pd.DataFrame) -> pd.DataFrame:
    """The high-water marks: the last checkpoint if it is the best, else its reference."""
    best = rows[rows["against"] == "best"].sort_values("position")
    last = best.groupby(["panel", "model"], observed=True).tail(1)
    better = ~got_worse(last) & (last["change"] != 0)
    positions = rows.drop_duplicates(["model", "checkpoint"]).set_index(["model", "checkpoint"])["position"]
    # The first checkpoint is compared with no other, so it has no column: it is drawn before the others.
    found = [
        row.position if is_best else positions.get((row.model, row.reference), -1)
        for row, is_best in zip(last.itertuples(), better, strict=True)
    ]
    return last[["panel", "model"]].assign(position=pd.Series(found, last.index, dtype=int), kind=BEST)
