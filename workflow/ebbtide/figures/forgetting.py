"""The share of forgotten examples along training."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.end_labels import EndLabels, end_labels
from ebbtide.figures.frame import SIZE_TITLES, key_columns, lines_of, panel_grid, panel_titles
from ebbtide.figures.theme import PAGE_CM, compact, footnote, line_looks, theme_paper
from ebbtide.figures.training_axis import on_training_axis

POINTS_PER_LINE = 10
PANEL_CM = 3.2  # height of a panel
FOUND, CHANCE = "forgotten", "expected in random order"


def plot_forgetting(
    curves: pd.DataFrame,
    summary: pd.DataFrame,
    parameters: str = "non_embedding",
    titles: Mapping[str, str] | None = None,
    *,
    share_y: bool = False,
    width_cm: float = PAGE_CM,
) -> p9.ggplot:
    """Draw the share of forgotten examples (learned, and wrong now), a colour per model, a panel per task.

    Solid lines with points are observed shares; dotted lines are the shares expected if the answers of each
    example came in random order. The axis is that of `training_axis`. Lines are named at their ends if the
    names fit, else in a legend.

    Parameters
    ----------
    curves, summary
        Tables of forgetting_curves.tsv and forgetting.tsv; of several metrics of a task, the first is drawn.
        `curves` has the columns of `metrics.direction.with_properties`.
    parameters
        The count that orders models.
    titles
        Titles of panels by task.
    share_y
        Whether panels share their y axis.
    width_cm
        `PAGE_CM` or `COLUMN_CM`; see `frame.panel_grid`.

    Raises
    ------
    FigureError
        There are no curves; the notes of `summary` give the reason.
    """
    if curves.empty:
        notes = "; ".join(summary.loc[summary["note"] != "", "note"].unique()[:3])
        raise FigureError(
            "forgetting.tsv: nothing to draw: "
            f"{notes or 'no model has results by example; score its checkpoints, or import samples'}."
        )
    rows = curves[curves["metric"] == curves.groupby("task")["metric"].transform("first")]
    rows, axis = on_training_axis(rows)
    order = rows.groupby("model")["parameters"].max().reset_index()
    order = order.assign(parameters=order["parameters"].where(order["parameters"] > 0, np.inf))
    order = order.sort_values(["parameters", "model"])
    looks = line_looks(order["parameters"].replace(np.inf, np.nan).tolist())
    names = {
        model: f"{model} ({compact(size)})" if np.isfinite(size) else model
        for model, size in order[["model", "parameters"]].itertuples(index=False)
    }
    tasks = list(rows["task"].drop_duplicates())
    rows = rows.assign(
        size=pd.Categorical(rows["model"].map(names), list(names.values()), ordered=True),
        task=pd.Categorical(rows["task"], tasks, ordered=True),
    ).sort_values(["task", "size", "x"])
    marked = pd.concat([_spread(line) for _, line in rows.groupby(["task", "size"], observed=True)])
    grid = panel_grid(len(tasks), width_cm, 1.0, own=not share_y)
    width = grid.width_cm
    strips = panel_titles(rows, titles, grid.panel_cm)
    keys = key_columns(list(names.values()), width)
    title_cm, others_cm = 0.2 + 0.3 * lines_of(strips), 3.3 + 0.45 * -(-len(names) // keys)
    panel_height = grid.panel_height(PANEL_CM, title_cm, others_cm + 0.6)
    lines = [
        p9.geom_line(p9.aes(y="forgotten_expected", linetype=f"'{CHANCE}'"), size=0.5),
        p9.geom_line(p9.aes(y="forgotten", linetype=f"'{FOUND}'"), size=0.6),
    ]
    named = EndLabels()
    if axis.logarithmic:
        highest = rows[["forgotten", "forgotten_expected"]].max(axis=1)
        high = highest.groupby(rows["task"].astype(str)).max()
        reach = pd.DataFrame({"low": 0.0, "high": high.max() if share_y else high}, high.index)
        ends = rows.assign(y=rows["forgotten"])
        named = end_labels(ends, "task", reach, rows["x"], (grid.panel_cm, panel_height), logarithmic=True)
    key = None if named else p9.guide_legend(ncol=keys, order=1)
    note, note_cm = footnote(f"{named.note(SIZE_TITLES[parameters])} {axis.left_out}".strip(), width)
    height = grid.deep * (panel_height + title_cm) + (2.3 if named else others_cm) + note_cm
    return (
        p9.ggplot(rows, p9.aes("x", color="size", shape="size", fill="size", group="size"))
        + lines
        + named.leaders
        + p9.geom_point(p9.aes(y="forgotten"), marked, size=1.7, stroke=0)
        + named.names
        + p9.facet_wrap(
            "task",
            ncol=grid.columns,
            labeller=lambda task: strips[task],
            scales="fixed" if share_y else "free_y",
        )
        + axis.scale(rows["x"], named.share * grid.panel_cm, right=named.right)
        + p9.scale_y_continuous(labels=lambda ticks: [f"{100 * tick:.3g} %" for tick in ticks])
        + p9.expand_limits(y=0)
        + p9.scale_color_manual(looks.colours, name=SIZE_TITLES[parameters], guide=key)
        + p9.scale_fill_manual(looks.colours, name=SIZE_TITLES[parameters], guide=key)
        + p9.scale_shape_manual(looks.shapes, name=SIZE_TITLES[parameters], guide=key)
        + p9.scale_linetype_manual({FOUND: "solid", CHANCE: "dotted"}, breaks=[FOUND, CHANCE], name="Share")
        + p9.guides(linetype=p9.guide_legend(override_aes={"shape": "None", "size": 0.6}, order=2))
        + p9.labs(x=axis.title, y="Examples learned once\nand wrong now")
        + theme_paper(width, height)
        + p9.theme(legend_box="vertical", legend_box_just="center")
        + note
    )


def _spread(line: pd.DataFrame) -> pd.DataFrame:
    """At most `POINTS_PER_LINE` evenly spaced rows of a line."""
    rows = np.linspace(0, len(line) - 1, min(len(line), POINTS_PER_LINE)).round().astype(int)
    return line.iloc[np.unique(rows)]
