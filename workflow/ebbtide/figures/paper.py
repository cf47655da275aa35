"""Metrics along training in the form of *Emergent inabilities?* (Michaelov & Bergen)."""

from collections.abc import Mapping

import pandas as pd
import plotnine as p9

from ebbtide.figures.frame import choose, panel_titles, prune, shared_label
from ebbtide.figures.theme import CM_PER_INCH, DPI, FONT, footnote, palette, shapes
from ebbtide.figures.training_axis import on_training_axis

WIDTH_CM, HEIGHT_CM = 10 * CM_PER_INCH, 6 * CM_PER_INCH
COLUMNS = 4
STRIP_WIDTH = 28  # characters per line of a panel title

# Eight of Paul Tol's `muted` scheme, distinguishable with colour blindness; neighbours also differ in
# lightness. The ninth, sand, is too pale on white paper.
COLOURS = ("#332288", "#88CCEE", "#117733", "#999933", "#882255", "#CC6677", "#44AA99", "#AA4499")


def plot_paper(
    metrics: pd.DataFrame, *, parameters: str = "nominal", titles: Mapping[str, str] | None = None
) -> p9.ggplot:
    """Draw metrics along training, a line per model, four panels side by side.

    `metrics` is the table of `tables.METRICS` with the columns of `metrics.direction.with_properties`, one
    metric per task. The axis is that of `training_axis`. Every panel has its own y axis. Models are ordered
    by `parameters`; up to eight models have fixed colours, more have a scale from dark to light. `titles` are
    titles of panels by task.

    Raises `FigureError` when no row has a value.
    """
    rows, axis = on_training_axis(choose(metrics, parameters))
    # The legend has names without sizes, in the order of sizes.
    order = rows.sort_values("size")["model"].unique()
    rows = prune(rows).assign(line=pd.Categorical(rows["model"], order, ordered=True))
    colours = list(COLOURS[: len(order)]) if len(order) <= len(COLOURS) else palette(len(order))
    lines = rows[rows.groupby(["task", "line"], observed=True)["x"].transform("size") > 1]
    strips = panel_titles(rows, titles, width=STRIP_WIDTH)
    note, _ = footnote(axis.left_out, WIDTH_CM)
    return (
        p9.ggplot(rows, p9.aes("x", "value", color="line", shape="line", group="line"))
        + ([] if lines.empty else [p9.geom_line(data=lines, size=0.7)])
        + p9.geom_point(size=1.7)
        + p9.facet_wrap("task", ncol=COLUMNS, scales="free_y", labeller=lambda task: strips[task])
        + axis.scale(rows["x"])
        + p9.scale_color_manual(colours, name="Model")
        + p9.scale_shape_manual(shapes(len(order)), name="Model")
        + p9.labs(x=axis.title, y=shared_label(rows))
        + p9.theme_minimal(base_size=11, base_family=FONT)
        + p9.theme(
            figure_size=(WIDTH_CM / CM_PER_INCH, HEIGHT_CM / CM_PER_INCH),
            dpi=DPI,
            strip_text=p9.element_text(ma="center", linespacing=1.1),
            plot_caption=p9.element_text(ha="left", ma="left"),
        )
        + note
    )
