"""Metrics along training in the form of *Emergent inabilities?* (Michaelov & Bergen)."""

from collections.abc import Mapping

import pandas as pd
import plotnine as p9

from ebbtide.figures.frame import choose, panel_titles, panel_width, prune, shared_label
from ebbtide.figures.theme import CM_PER_INCH, DPI, FONT, footnote, palette, shapes, text_cm
from ebbtide.figures.training_axis import on_training_axis

WIDTH_CM, HEIGHT_CM = 10 * CM_PER_INCH, 6 * CM_PER_INCH
COLUMNS = 4
SMALL = 8.8  # points of ticks, keys and titles of panels


def plot_paper(
    metrics: pd.DataFrame, *, parameters: str = "nominal", titles: Mapping[str, str] | None = None
) -> p9.ggplot:
    """Draw metrics along training, a line per model, four panels side by side.

    `metrics` is the table of `tables.METRICS` with the columns of `metrics.direction.with_properties`, one
    metric per task. The axis is that of `training_axis`. Every panel has its own y axis. Models are ordered
    by `parameters`, from dark to light. `titles` are titles of panels by task.

    Raises `FigureError` when no row has a value.
    """
    rows, axis = on_training_axis(choose(metrics, parameters))
    # The legend has names without sizes, in the order of sizes.
    order = rows.sort_values("size")["model"].unique()
    rows = prune(rows).assign(line=pd.Categorical(rows["model"], order, ordered=True))
    lines = rows[rows.groupby(["task", "line"], observed=True)["x"].transform("size") > 1]
    tasks = rows["task"].nunique()
    columns, deep = min(COLUMNS, tasks), -(-tasks // COLUMNS)
    keys = max(text_cm(str(model), SMALL) for model in order) + 1.5
    panel_cm = panel_width(columns, WIDTH_CM - keys, 1.1, own=True)
    strips = panel_titles(rows, titles, 0.85 * panel_cm)  # its font is larger, but not bold
    note, _ = footnote(axis.left_out, WIDTH_CM)
    return (
        p9.ggplot(rows, p9.aes("x", "value", color="line", shape="line", group="line"))
        + ([] if lines.empty else [p9.geom_line(data=lines, size=0.7)])
        + p9.geom_point(size=1.7)
        + p9.facet_wrap("task", ncol=COLUMNS, scales="free_y", labeller=lambda task: strips[task])
        + axis.scale(rows["x"], panel_cm, SMALL)
        + p9.scale_color_manual(palette(len(order)), name="Model")
        + p9.scale_shape_manual(shapes(len(order)), name="Model")
        + p9.labs(x=axis.title, y=shared_label(rows))
        + p9.theme_minimal(base_size=11, base_family=FONT)
        + p9.theme(
            figure_size=(WIDTH_CM / CM_PER_INCH, (HEIGHT_CM * max(1.0, deep / 2)) / CM_PER_INCH),
            dpi=DPI,
            strip_text=p9.element_text(ma="center", linespacing=1.1),
            plot_caption=p9.element_text(ha="left", ma="left"),
        )
        + note
    )
