"""Slopes over training as a forest plot: a panel per task, a row per model, a shape per outcome."""

from collections.abc import Mapping

import pandas as pd
import plotnine as p9
from mizani.breaks import breaks_extended

from ebbtide.errors import FigureError
from ebbtide.figures.frame import (
    key_columns,
    labeller,
    metric_labels,
    panel_grid,
    panel_title,
)
from ebbtide.figures.theme import (
    GREY,
    PAGE_CM,
    PAGE_HEIGHT_CM,
    POINTS,
    compact,
    footnote,
    text_cm,
    theme_paper,
    wrapped,
)

# Colours of Okabe & Ito (2008), distinguishable with colour blindness; the shapes are without colour.
LOOKS = {
    "improves": ("^", "#0072b2"),
    "worsens": ("v", "#d55e00"),
    "worsens, then improves": ("s", "#009e73"),
    "improves, then worsens": ("D", "#cc79a7"),
    # Of metrics of which neither more nor less is better.
    "rises": ("^", "#4d4d4d"),
    "falls": ("v", "#4d4d4d"),
    "falls, then rises": ("s", "#4d4d4d"),
    "rises, then falls": ("D", "#4d4d4d"),
    "flat": ("P", "#000000"),
    "undecided": ("o", "#8c8c8c"),
}
ROW_CM, LOWEST_ROW_CM = 0.36, 0.24  # of a model


def plot_trends(
    trends: pd.DataFrame,
    alpha: float = 0.05,
    titles: Mapping[str, str] | None = None,
    width_cm: float = PAGE_CM,
) -> p9.ggplot:
    """Draw `slope` with `low` and `high` (at 1 - `alpha`) of every row of trends.tsv.

    `trends` has the columns of `metrics.direction.with_properties`. Models are ordered by their non-embedding
    parameters, the smallest at the top; panels are in order of first appearance, with `titles` by task. If
    tasks have different metrics, each panel has its own axis. `width_cm` is that of a page or of a column.

    Raises `FigureError` when no row has a slope.
    """
    rows = trends[trends["slope"].notna()].copy()
    if rows.empty:
        raise FigureError(f"trends.tsv: no row has a slope: {_why_no_slope(trends)}.")
    labels, name = metric_labels(rows), labeller(titles)
    one_metric = len(labels) == 1
    rows["row"], models = _rows(rows)
    names_cm = max(text_cm(model, POINTS - 1) for model in rows["row"].cat.categories)
    pairs = len(rows[["task", "metric"]].drop_duplicates())
    grid = panel_grid(pairs, width_cm, names_cm + 0.2, alone_cm=12.5)
    width, panel_cm = grid.width_cm, grid.panel_cm
    named = pd.Series(
        [
            panel_title(name(task), "" if one_metric else labels[metric], panel_cm)
            for task, metric in zip(rows["task"], rows["metric"], strict=True)
        ],
        rows.index,
    )
    rows["panel"] = pd.Categorical(named, named.unique(), ordered=True)
    outcomes = [name for name in LOOKS if name in set(rows["ability"])]
    rows["ability"] = pd.Categorical(rows["ability"], outcomes, ordered=True)
    panels = list(rows["panel"].cat.categories)
    looks = [LOOKS[name] for name in outcomes]
    across = next(iter(labels.values())) if one_metric else "Metric of the panel"
    parts = [f"{across}:", "change per tenfold of training tokens"]
    one_line = text_cm(" ".join(parts)) <= grid.panels_cm
    x_title = (" " if one_line else "\n").join(wrapped(part, grid.panels_cm) for part in parts)
    keys = key_columns(outcomes, grid.keys_cm)
    note, note_cm = footnote(
        f"Bars: {100 * (1 - alpha):g} % interval of the slope over all checkpoints, for each curve alone. "
        "Colour: significant rises and falls between any two checkpoints, tested for all curves together. So "
        "a curve that rises in a part of training may have an interval that includes 0, and the interval of "
        "an undecided curve may exclude it.",
        width,
    )
    lines = max(panel.count("\n") for panel in panels) + 1
    others_cm = 1.6 + 0.3 * x_title.count("\n") + 0.4 * -(-len(outcomes) // keys) + note_cm
    row_cm = min(ROW_CM, max(LOWEST_ROW_CM, ((PAGE_HEIGHT_CM - others_cm) / grid.deep - 1.4) / models))
    height = grid.deep * (0.8 + 0.3 * lines + row_cm * max(models, 2)) + others_cm
    return (
        p9.ggplot(rows, p9.aes("slope", "row", color="ability", shape="ability"))
        + p9.geom_vline(xintercept=0, linetype="dashed", color=GREY, size=0.4)
        + p9.geom_segment(
            p9.aes(x="low", xend="high", yend="row"), rows[rows["low"].notna()], size=0.5, show_legend=False
        )
        + p9.geom_point(size=1.9)
        + p9.facet_wrap("panel", ncol=grid.columns, scales="fixed" if one_metric else "free_x")
        + p9.scale_x_continuous(
            breaks=lambda ends: _ticks(ends, max(3, min(5, int(panel_cm // 1.2)))),
            labels=lambda ticks: [f"{tick:.2g}" for tick in ticks],
            expand=(0.09, 0),
        )
        + p9.scale_color_manual([colour for _, colour in looks], name="With training, the model")
        + p9.scale_shape_manual([shape for shape, _ in looks], name="With training, the model")
        + p9.labs(x=x_title, y="Model")
        + theme_paper(width, height)
        + p9.guides(color=p9.guide_legend(ncol=keys), shape=p9.guide_legend(ncol=keys))
        + note
    )


def _ticks(ends: tuple[float, float], wanted: int) -> list[float]:
    """About `wanted` round numbers within the ends of an axis, and at least two: one tick is no scale."""
    inside: list[float] = []
    for count in range(wanted, wanted + 4):
        inside = [tick for tick in breaks_extended(count)(ends) if ends[0] <= tick <= ends[1]]
        if len(inside) > 1:
            break
    return inside


def _why_no_slope(trends: pd.DataFrame) -> str:
    """The reasons in the notes, the first of each row."""
    if trends.empty:
        return "no model has results by example; score its checkpoints, or import samples instead of means"
    first = trends["note"].str.partition(";")[0]
    known = (trends["checkpoints"] > 1).all() and first.str.contains("tokens are unknown").all()
    return "; ".join(first[first != ""].unique()[:3]) + (" (set tokens_per_step)" if known else "")


def _rows(rows: pd.DataFrame) -> tuple[pd.Categorical, int]:
    """The model of each row with its size, the smallest at the top; and the number of models."""
    sizes = rows.groupby("model")["parameters_non_embedding"].max()
    order = sizes.where(sizes > 0).reset_index().sort_values(["parameters_non_embedding", "model"])["model"]
    names = {m: f"{m} ({compact(sizes[m])})" if sizes[m] > 0 else m for m in order}
    upwards = list(names.values())[::-1]
    return pd.Categorical(rows["model"].map(names), upwards, ordered=True), len(upwards)
