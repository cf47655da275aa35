"""The share of forgotten examples against training tokens."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import SIZE_TITLES, labeller, panel_columns
from ebbtide.figures.theme import PAGE_CM, compact, palette, shapes, theme_paper

POINTS_PER_LINE = 10
FOUND, CHANCE = "forgotten", "expected in random order"


def plot_forgetting(
    curves: pd.DataFrame, parameters: str = "non_embedding", titles: Mapping[str, str] | None = None
) -> p9.ggplot:
    """Draw the share of forgotten examples (learned, and wrong now), a colour per model, a panel per task.

    Solid lines with points are observed shares; dotted lines are the shares expected if the answers of each
    example came in random order. `curves` is the table of `statistics.forgetting.tables.CURVES`; of several
    metrics, the first is drawn. `parameters` is the count that orders models; `titles` are titles of panels
    by task.

    Raises `FigureError` when no checkpoint has training tokens.
    """
    rows = curves[curves["tokens"] > 0]
    rows = rows[rows["metric"] == rows.groupby("task")["metric"].transform("first")]
    if rows.empty:
        raise FigureError(
            "forgetting: nothing to draw against training tokens; the figure needs tasks with right and "
            "wrong answers, scored by Ebbtide at two or more checkpoints with known tokens."
        )
    order = rows.groupby("model")["parameters"].max().reset_index()
    order = order.assign(parameters=order["parameters"].where(order["parameters"] > 0, np.inf))
    order = order.sort_values(["parameters", "model"])
    names = {
        model: f"{model} ({compact(size)})" if np.isfinite(size) else model
        for model, size in order[["model", "parameters"]].itertuples(index=False)
    }
    tasks = list(rows["task"].drop_duplicates())
    rows = rows.assign(
        size=pd.Categorical(rows["model"].map(names), list(names.values()), ordered=True),
        task=pd.Categorical(rows["task"], tasks, ordered=True),
    ).sort_values(["task", "size", "tokens"])
    marked = pd.concat([_spread(line) for _, line in rows.groupby(["task", "size"], observed=True)])
    columns = panel_columns(len(tasks), 3)
    key = p9.guide_legend(ncol=min(len(names), 4))
    lines = [
        p9.geom_line(p9.aes(y="forgotten_expected", linetype=f"'{CHANCE}'"), size=0.5),
        p9.geom_line(p9.aes(y="forgotten", linetype=f"'{FOUND}'"), size=0.6),
    ]
    panel_rows = -(-len(tasks) // columns)
    return (
        p9.ggplot(rows, p9.aes("tokens", color="size", shape="size", fill="size", group="size"))
        + lines
        + p9.geom_point(p9.aes(y="forgotten"), marked, size=1.7, stroke=0)
        + p9.facet_wrap("task", ncol=columns, labeller=labeller(titles))
        + p9.scale_x_log10(labels=lambda ticks: [compact(tick) for tick in ticks])
        + p9.scale_y_continuous(labels=lambda ticks: [f"{100 * tick:.0f} %" for tick in ticks])
        + p9.expand_limits(y=0)
        + p9.scale_color_manual(palette(len(names)), name=SIZE_TITLES[parameters], guide=key)
        + p9.scale_fill_manual(palette(len(names)), name=SIZE_TITLES[parameters], guide=key)
        + p9.scale_shape_manual(shapes(len(names)), name=SIZE_TITLES[parameters], guide=key)
        + p9.scale_linetype_manual({FOUND: "solid", CHANCE: "dotted"}, breaks=[FOUND, CHANCE], name="Share")
        + p9.guides(linetype=p9.guide_legend(override_aes={"shape": "None", "size": 0.6}))
        + p9.labs(x="Training tokens (log scale)", y="Examples learned once and wrong now")
        + theme_paper(PAGE_CM if columns > 1 else 11.0, panel_rows * 3.6 + 2.4 + 0.4 * -(-len(names) // 4))
    )


def _spread(line: pd.DataFrame) -> pd.DataFrame:
    """At most `POINTS_PER_LINE` evenly spaced rows of a line."""
    rows = np.linspace(0, len(line) - 1, min(len(line), POINTS_PER_LINE)).round().astype(int)
    return line.iloc[np.unique(rows)]
