"""Accuracy against training tokens in the form of *Emergent inabilities?* (Michaelov & Bergen)."""

from collections.abc import Mapping

import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import choose, labeller, prune
from ebbtide.figures.theme import CM_PER_INCH, DPI, FONT, compact, palette, shapes
from ebbtide.titles import title

WIDTH_CM, HEIGHT_CM = 10 * CM_PER_INCH, 6 * CM_PER_INCH
COLUMNS = 4

# Eight of Paul Tol's `muted` scheme, distinguishable with colour blindness; neighbours also differ in
# lightness. The ninth, sand, is too pale on white paper.
COLOURS = ("#332288", "#88CCEE", "#117733", "#999933", "#882255", "#CC6677", "#44AA99", "#AA4499")


def plot_paper(
    metrics: pd.DataFrame,
    metric: str = "accuracy",
    *,
    parameters: str = "nominal",
    titles: Mapping[str, str] | None = None,
) -> p9.ggplot:
    """Draw `metric` against training tokens (log axis), a line per model, four panels side by side.

    `metrics` is the table of `tables.METRICS`. Every panel has its own y axis. Models are ordered by
    `parameters`; up to eight models have fixed colours, more have a scale from dark to light. `titles` are
    titles of panels by task.

    Raises `FigureError` when `metric` does not occur or no checkpoint has training tokens.
    """
    rows = choose(metrics, metric, parameters)
    rows = rows[rows["tokens"] > 0]
    if rows.empty:
        raise FigureError(
            f"metrics: {metric} against training tokens needs a checkpoint with tokens above 0. "
            "Set tokens_per_step of the models."
        )
    # The legend has names without sizes, in the order of sizes.
    order = rows.sort_values("size")["model"].unique()
    rows = prune(rows).assign(line=pd.Categorical(rows["model"], order, ordered=True))
    colours = list(COLOURS[: len(order)]) if len(order) <= len(COLOURS) else palette(len(order))
    return (
        p9.ggplot(rows, p9.aes("tokens", "value", color="line", shape="line", group="line"))
        + p9.geom_line(size=0.7)
        + p9.geom_point(size=1.7)
        + p9.facet_wrap("task", ncol=COLUMNS, scales="free_y", labeller=labeller(titles))
        + p9.scale_x_log10(labels=lambda ticks: [compact(tick) for tick in ticks])
        + p9.scale_color_manual(colours, name="Model")
        + p9.scale_shape_manual(shapes(len(order)), name="Model")
        + p9.labs(x="Training tokens (log scale)", y=title(metric))
        + p9.theme_minimal(base_size=11, base_family=FONT)
        + p9.theme(figure_size=(WIDTH_CM / CM_PER_INCH, HEIGHT_CM / CM_PER_INCH), dpi=DPI)
    )
