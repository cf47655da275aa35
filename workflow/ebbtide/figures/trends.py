"""Slopes over training as a forest plot: a panel per task, a row per model, a shape per class of curve."""

from collections.abc import Mapping

import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import labeller, panel_columns
from ebbtide.figures.theme import GREY, PAGE_CM, compact, theme_paper
from ebbtide.titles import title

# Colours of Okabe & Ito (2008), distinguishable with colour blindness; the shapes are without colour.
LOOKS = {
    "rising": ("^", "#0072b2"),
    "falling": ("v", "#d55e00"),
    "U-shaped": ("s", "#009e73"),
    "inverted-U": ("D", "#cc79a7"),
    "flat": ("P", "#000000"),
    "undecided": ("o", "#8c8c8c"),
}


def plot_trends(trends: pd.DataFrame, titles: Mapping[str, str] | None = None) -> p9.ggplot:
    """Draw `slope` with `low` and `high` of every row of trends.tsv.

    Models are ordered by their non-embedding parameters, the smallest at the top; panels are in order of
    first appearance, with `titles` by task. If tasks have different metrics, each panel has its own axis.

    Raises `FigureError` when no row has a slope.
    """
    rows = trends[trends["slope"].notna()].copy()
    if rows.empty:
        raise FigureError(
            "trends.tsv: no row has a slope; a slope needs two checkpoints with training tokens and two "
            "examples."
        )
    one_metric = rows["metric"].nunique() == 1
    tasks = rows["task"].map(labeller(titles))
    named = tasks if one_metric else tasks + ": " + rows["metric"].map(title)
    rows["panel"] = pd.Categorical(named, named.unique(), ordered=True)
    rows["row"], models = _rows(rows)
    classes = [name for name in LOOKS if name in set(rows["class"])]
    rows["class"] = pd.Categorical(rows["class"], classes, ordered=True)
    panels = len(rows["panel"].cat.categories)
    columns = panel_columns(panels, 3)
    looks = [LOOKS[name] for name in classes]
    across = title(rows["metric"].iloc[0]) if one_metric else "Metric"
    height = -(-panels // columns) * (1.1 + 0.36 * models) + 1.8
    return (
        p9.ggplot(rows, p9.aes("slope", "row", color="class", shape="class"))
        + p9.geom_vline(xintercept=0, linetype="dashed", color=GREY, size=0.4)
        + p9.geom_segment(
            p9.aes(x="low", xend="high", yend="row"), rows[rows["low"].notna()], size=0.5, show_legend=False
        )
        + p9.geom_point(size=1.9)
        + p9.facet_wrap("panel", ncol=columns, scales="fixed" if one_metric else "free_x")
        + p9.scale_color_manual([colour for _, colour in looks], name="Class of the curve")
        + p9.scale_shape_manual([shape for shape, _ in looks], name="Class of the curve")
        + p9.labs(x=f"{across}: change per tenfold of training tokens", y="Model (non-embedding parameters)")
        + theme_paper(PAGE_CM if columns > 1 else 11.0, max(height, 4.5))
        + p9.guides(color=p9.guide_legend(nrow=1), shape=p9.guide_legend(nrow=1))
    )


def _rows(rows: pd.DataFrame) -> tuple[pd.Categorical, int]:
    """The model of each row with its size, the smallest at the top; and the number of models."""
    sizes = rows.groupby("model")["parameters_non_embedding"].max()
    order = sizes.where(sizes > 0).reset_index().sort_values(["parameters_non_embedding", "model"])["model"]
    names = {m: f"{m} ({compact(sizes[m])})" if sizes[m] > 0 else m for m in order}
    upwards = list(names.values())[::-1]
    return pd.Categorical(rows["model"].map(names), upwards, ordered=True), len(upwards)
