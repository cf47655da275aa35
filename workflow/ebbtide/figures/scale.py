"""Metrics over training compute: a panel per task, a line per series and number of shots."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import (
    SIZE_TITLES,
    Grid,
    key_columns,
    labeller,
    lines_of,
    metric_labels,
    panel_grid,
)
from ebbtide.figures.theme import GREY, PAGE_CM, POINTS, powers_of_ten, theme_paper, wrapped

Z = 1.96
SHARE_LIMITS = (-0.02, 1.02)  # of the y axis for shares, as in the Inverse Scaling Prize
# By class of the curve; filled shapes are easier to distinguish in print.
SHAPES = {
    "standard": "^",
    "inverse": "v",
    "rising": "^",
    "falling": "v",
    "U-shaped": "s",
    "inverted-U": "D",
    "flat": "P",
    "undecided": "o",
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")  # Okabe & Ito 2008
MOST_TICKS = 5
DASHES = ("solid", "dashed", "dotted", "dashdot")


def plot_scale(
    points: pd.DataFrame,
    trends: pd.DataFrame,
    metric: str,
    parameters: str = "non_embedding",
    titles: Mapping[str, str] | None = None,
    *,
    share_y: bool = False,
    width_cm: float = PAGE_CM,
) -> p9.ggplot:
    """Draw `metric` against training FLOPs, with shapes by the class of the curve.

    The line goes through the mean of models of equal compute. The y axis is logarithmic where lower values
    are better (losses).

    Parameters
    ----------
    points
        Table of scale_points.tsv with the columns of `metrics.direction.with_properties`.
    trends
        Table of scale_trends.tsv.
    parameters
        The parameter count in the compute, for the axis title.
    titles
        Titles of panels by task.
    share_y
        Whether the y axis of shares goes from 0 to 1 in all panels. Otherwise, each panel shows the range of
        its own values.
    width_cm
        `PAGE_CM` or `COLUMN_CM`; see `frame.panel_grid`.

    Raises
    ------
    FigureError
        No model of known compute has a value of `metric`.
    """
    rows = _rows_of(points, metric)
    grid = panel_grid(rows["asked"].nunique(), width_cm, own=not share_y)
    rows = _with_factors(rows, trends[trends["metric"] == metric], titles, grid.panel_cm)
    share = bool(rows["is_share"].all())
    logarithmic = not share and bool(rows["lower_is_better"].all() and (rows["value"] > 0).all())
    rows["low"], rows["high"] = _interval(rows, share=share, logarithmic=logarithmic)
    guides, legends_cm = _guides(rows, grid)
    title_cm = 0.5 + 0.3 * lines_of({panel: panel for panel in rows["panel"].cat.categories})
    wanted_cm = 3.2 if grid.one_column else 6.0 if grid.columns == 1 else 3.7
    others_cm = 1.4 + legends_cm
    height = grid.deep * (grid.panel_height(wanted_cm, title_cm, others_cm) + title_cm) + others_cm
    y_title = _axis(metric_labels(rows)[metric], logarithmic)
    plot = (
        p9.ggplot(rows, p9.aes("flops", "value", color="series"))
        + _layers(rows)
        + p9.facet_wrap("panel", ncol=grid.columns, scales="fixed" if share and share_y else "free_y")
        + _scales(rows)
        + p9.labs(x=wrapped(_compute(parameters), grid.panels_cm), y=wrapped(y_title, height - 1.5))
        + theme_paper(grid.width_cm, height)
        + p9.theme(
            legend_box="vertical" if grid.one_column else "horizontal",
            legend_key_width=18,
            legend_text=p9.element_text(size=POINTS - 1),
        )
        + guides
    )
    if share and share_y:
        return plot + p9.scale_y_continuous(expand=(0, 0)) + p9.coord_cartesian(ylim=SHARE_LIMITS)
    return (
        plot + p9.scale_y_log10(labels=lambda ticks: [f"{tick:g}" for tick in ticks]) if logarithmic else plot
    )


def _rows_of(points: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the points of a metric whose compute is known. Raises `FigureError` if there are none."""
    rows = points[(points["metric"] == metric) & points["flops"].notna()].copy()
    if rows.empty:
        of_metric = int((points["metric"] == metric).sum())
        found = ", ".join(points["metric"].unique()) or "none"
        unknown = f"the training compute of all {of_metric} points is unknown; set tokens_per_step and sizes"
        raise FigureError(
            f"scale_points.tsv: nothing to draw of {metric}: "
            + (unknown if of_metric else f"no model of the series has it (metrics found: {found})")
            + "."
        )
    return rows


def _with_factors(
    rows: pd.DataFrame, trends: pd.DataFrame, titles: Mapping[str, str] | None, panel_cm: float
) -> pd.DataFrame:
    """Add what the figure tells apart, with levels in the order of legends and panels.

    These are panel, series, prompt, the class of the curve (of `trends`), and the curve itself.
    """
    keys = ["series", "asked", "shots"]
    rows = rows.merge(trends.rename(columns={"task": "asked"})[[*keys, "class"]], on=keys, how="left")
    given = labeller(titles)

    def name(task: str) -> str:
        return wrapped(given(task), panel_cm, bold=True)

    asked = list(rows["asked"].unique())
    panels = [name(task) for task in dict.fromkeys([*(t for t in titles or {} if t in asked), *asked])]
    rows["panel"] = pd.Categorical(rows["asked"].map(name), panels, ordered=True)
    rows["prompt"] = _ordered(rows["shots"].map(shots_in_words), sorted(rows["shots"].unique(), key=_rank))
    rows["series"] = pd.Categorical(rows["series"], list(rows["series"].unique()), ordered=True)
    seen = [c for c in SHAPES if c in set(rows["class"])]
    rows["class"] = pd.Categorical(rows["class"], seen, ordered=True)
    rows["curve"] = rows["series"].astype(str) + "/" + rows["shots"]
    return rows


def _interval(rows: pd.DataFrame, *, share: bool, logarithmic: bool) -> tuple[pd.Series, pd.Series]:
    """Return the ends of the 95 % intervals, as far as the y axis goes."""
    low, high = rows["value"] - Z * rows["stderr"], rows["value"] + Z * rows["stderr"]
    if share:
        low, high = low.clip(lower=0), high.clip(upper=1)
    if logarithmic:  # an interval that reaches 0 cannot be drawn on this axis
        low = pd.Series(np.maximum(low, rows["value"] / 2))
    return low, high


def _layers(rows: pd.DataFrame) -> list[Any]:
    """Return the chance level, intervals, lines through the means of equal compute, and points."""
    lines = rows.groupby(["panel", "series", "prompt", "curve", "flops"], observed=True)["value"].mean()
    chance = rows[rows["chance"].notna()].groupby("panel", observed=True)["chance"].mean().reset_index()
    return [
        p9.geom_hline(p9.aes(yintercept="chance"), chance, linetype="dotted", color=GREY, size=0.6),
        p9.geom_linerange(p9.aes(ymin="low", ymax="high"), rows[rows["low"].notna()], size=0.4),
        *_lines(lines.reset_index()),
        p9.geom_point(p9.aes(shape="class", fill="series"), size=1.9, stroke=0.2),
    ]


def _lines(means: pd.DataFrame) -> list[Any]:
    """Return the lines of the curves; none of a curve with one point."""
    several = means.groupby(["panel", "curve"], observed=True)["flops"].transform("size") > 1
    line = p9.aes(linetype="prompt", group="curve")
    return [p9.geom_line(line, means[several], size=0.6)] if several.any() else []


def _guides(rows: pd.DataFrame, grid: Grid) -> tuple[p9.guides, float]:
    """Return the legends, one above the other in a column, and their height in cm."""
    factors = {"color": "series", "shape": "class", "linetype": "prompt"}
    if not grid.one_column:
        return p9.guides(**{key: p9.guide_legend(nrow=2) for key in factors}), 1.6
    keys = {
        key: list(map(str, rows[name].cat.remove_unused_categories().cat.categories))
        for key, name in factors.items()
    }
    across = {key: key_columns(names, grid.width_cm - 0.5) for key, names in keys.items()}
    legends = {key: p9.guide_legend(ncol=count) for key, count in across.items()}
    return p9.guides(**legends), sum(0.9 + 0.4 * -(-len(keys[key]) // across[key]) for key in keys)


def _scales(rows: pd.DataFrame) -> list[Any]:
    """Return the scales of everything but the y axis."""
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(rows["series"].cat.categories))]
    shapes = [SHAPES[c] for c in rows["class"].cat.categories]
    return [
        p9.scale_x_log10(breaks=_powers, labels=powers_of_ten, minor_breaks=[]),
        p9.scale_color_manual(colours, name="Series"),
        p9.scale_fill_manual(colours, name="Series", guide=None),
        p9.scale_shape_manual(shapes, name="Class over scale"),
        p9.scale_linetype_manual(DASHES[: rows["prompt"].nunique()], name="Examples in the prompt"),
    ]


def shots_in_words(shots: str) -> str:
    """`0` → zero-shot, `5` → 5 shots; names of other prompts in words."""
    named = {"0": "zero-shot", "1": "1 shot", "prefix": "fixed examples", "own": "as in lm-eval"}
    return named.get(shots, f"{shots} shots")


def _rank(shots: str) -> tuple[bool, int]:
    return (not shots.isdigit(), int(shots) if shots.isdigit() else 0)


def _ordered(words: pd.Series, shots: list[str]) -> pd.Categorical:
    return pd.Categorical(words, [shots_in_words(s) for s in shots], ordered=True)


def _compute(parameters: str) -> str:
    words = SIZE_TITLES[parameters].removeprefix("Model (").removesuffix(")")
    return f"Training compute 6 N D (FLOPs; N: {words})"


def _axis(label: str, logarithmic: bool) -> str:
    return f"{label}, log scale" if logarithmic else label


def _powers(limits: tuple[float, float]) -> list[float]:
    """Powers of ten within the limits, at most five; with fewer than two, also 2 and 5 times a power."""
    low, high = (float(np.log10(limit)) for limit in limits)
    tens = np.arange(np.ceil(low), np.floor(high) + 1)
    if len(tens) > 1:
        return [float(10.0**p) for p in tens[:: -(-len(tens) // MOST_TICKS)]]
    around = [m * 10.0**p for p in np.arange(np.floor(low), np.ceil(high) + 1) for m in (1, 2, 5)]
    return [tick for tick in around if limits[0] <= tick <= limits[1]] or [float(limits[0])]
