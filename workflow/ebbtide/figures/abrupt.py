"""Right answers and log-probabilities over sizes, a column per task."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import panel_grid
from ebbtide.figures.theme import GREY, PAGE_CM, compact, footnote, palette, theme_paper, wrapped

FORMS = ("outcome", "signal")
MEASURED, PUBLISHED = "#0072b2", GREY
Z95 = 1.96


def plot_abrupt(
    verdicts: pd.DataFrame,
    points: pd.DataFrame,
    published: pd.DataFrame | None = None,
    titles: Mapping[str, str] | None = None,
    width_cm: float = PAGE_CM,
) -> p9.ggplot:
    """Draw the points of curves over sizes; of each task, right answers above minus the loss, or beside it.

    Parameters
    ----------
    verdicts, points
        Rows of abrupt.tsv and abrupt_points.tsv.
    published
        `task, series, parameters, value` of other models, for right answers; see `abrupt.published`.
    titles
        Titles of tasks.
    width_cm
        `PAGE_CM` or `COLUMN_CM`; see `frame.panel_grid`.

    Raises
    ------
    FigureError
        No curve is over sizes.
    """
    rows = points[points["over"] == "size"]
    if rows.empty:
        raise FigureError("abrupt_points.tsv: no task has models of several sizes.")
    tasks = list(rows["task"].unique())
    grid = panel_grid(len(tasks), width_cm, own=True)
    across = grid.columns
    if len(tasks) % across:  # a last row that is not full would move panels from under those of their task
        grid, across = panel_grid(2 * len(tasks), width_cm, own=True, most=2), 1
    else:
        grid = replace(grid, deep=2 * grid.deep)
    names = dict(titles or {})
    judged = verdicts[(verdicts["over"] == "size") & (verdicts["form"] == "outcome")]
    verdict = judged.drop_duplicates("task").set_index("task")["verdict"]
    signal = rows[rows["form"] == "signal"].drop_duplicates("task").set_index("task")["metric"]

    def title(task: str, form: str) -> str:
        what = f"right answers ({verdict[task]})" if form == "outcome" else f"−{signal[task]}"
        return wrapped(f"{names.get(task, task)}: {what}", grid.panel_cm, bold=True)

    # Row by row: the right answers of some tasks, then their log-probabilities.
    groups = [tasks[i : i + across] for i in range(0, len(tasks), across)]
    order = [title(task, form) for group in groups for form in FORMS for task in group]
    arms = list(dict.fromkeys(rows["arm"].fillna("").map(lambda arm: arm or "measured")))
    rows = rows.assign(
        panel=pd.Categorical(
            [title(task, form) for task, form in zip(rows["task"], rows["form"], strict=True)], order
        ),
        series=pd.Categorical(rows["arm"].fillna("").map(lambda arm: arm or "measured"), arms),
        low=rows["value"] - Z95 * rows["stderr"],
        high=rows["value"] + Z95 * rows["stderr"],
    )
    layers: list[object] = []
    note: list[p9.labs] = []
    note_cm = 0.0
    if published is not None and not published.empty:
        others = published[published["task"].isin(tasks)]
        others = others.assign(
            panel=pd.Categorical([title(task, "outcome") for task in others["task"]], order),
            series=others["series"],
            x=others["parameters"],
        )
        if not others.empty:
            note, note_cm = footnote(f"Squares: {', '.join(others['series'].unique())}.", grid.width_cm)
            layers = [
                p9.geom_line(p9.aes(group="series"), others, color=PUBLISHED, linetype="dotted", size=0.5),
                p9.geom_point(data=others, color=PUBLISHED, fill="white", shape="s", size=1.6, stroke=0.5),
            ]
    colours = palette(len(arms)) if len(arms) > 1 else [MEASURED]
    lines = max(text.count("\n") for text in order) + 1
    title_cm, others_cm = 0.35 * lines, 1.6 + note_cm + (0.6 if len(arms) > 1 else 0)
    height = grid.deep * (grid.panel_height(3.0, title_cm, others_cm) + title_cm) + others_cm
    y_title = wrapped("Mean over examples (higher is better)", height - 1.5)
    return (
        p9.ggplot(rows, p9.aes("x", "value"))
        + layers
        + p9.geom_linerange(p9.aes(ymin="low", ymax="high", color="series"), size=0.5, show_legend=False)
        + p9.geom_line(p9.aes(color="series"), size=0.6, show_legend=len(arms) > 1)
        + p9.geom_point(p9.aes(color="series"), size=1.6, stroke=0, show_legend=len(arms) > 1)
        + p9.facet_wrap("panel", ncol=grid.columns, scales="free_y")
        + p9.scale_x_log10(labels=lambda ticks: [compact(tick) for tick in ticks])
        + p9.scale_color_manual(colours, name="Arm")
        + p9.labs(x="Non-embedding parameters (log scale)", y=y_title)
        + theme_paper(grid.width_cm, height)
        + note
    )
