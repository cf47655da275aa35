"""Comparisons laid out along training: a column per checkpoint, a row per model, a panel per task."""

from collections.abc import Mapping

import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import Grid, labeller, metric_labels, panel_columns, panel_grid, panel_title
from ebbtide.figures.theme import PAGE_CM, PAGE_HEIGHT_CM, POINTS, compact, text_cm

TICK_CM = 1.0  # from one label of a checkpoint to the next
LOWEST_ROW_CM = 0.24  # of a model, whose name must fit
TITLE_CM, OTHERS_CM = 1.0, 3.2  # above a panel, and below all
COLUMN_OF_CHECKPOINT_CM = 0.15  # at least; of 16 models, dots are then as wide as high


def lay_out(
    comparisons: pd.DataFrame, titles: Mapping[str, str] | None, width_cm: float
) -> tuple[pd.DataFrame, Grid]:
    """Add `position` (the number of the checkpoint in the order of training), `panel` and ordered `model`.

    Also returns the grid of panels: the more checkpoints, the fewer are side by side.

    A panel is one metric of a task, which its title names if the table has several. Models and panels are in
    the order of the table, the first model at the top. Raises `FigureError` when nothing was compared.
    """
    if comparisons.empty:
        raise FigureError(
            "alarms.tsv: nothing was compared, because no model has two trained checkpoints with results by "
            "example. Add checkpoints to the models, or import samples instead of means."
        )
    order = dict.fromkeys(_keys(comparisons))  # of checkpoints of which neither is known, that of the table
    positions = {key: i for i, key in enumerate(sorted(order, key=lambda key: key[:2]))}
    labels, name = metric_labels(comparisons), labeller(titles)
    names_cm = max(text_cm(str(model), POINTS - 1) for model in comparisons["model"].unique())
    pairs = len(comparisons[["task", "metric"]].drop_duplicates())
    grid = panel_grid(
        pairs,
        width_cm,
        names_cm + 0.2,
        most=_most(len(positions), pairs, comparisons["model"].nunique()),
        least_cm=max(2.2, COLUMN_OF_CHECKPOINT_CM * len(positions)),
        alone_cm=PAGE_CM,
    )
    panels = [
        panel_title(name(task), labels[metric] if len(labels) > 1 else "", grid.panel_cm)
        for task, metric in zip(comparisons["task"], comparisons["metric"], strict=True)
    ]
    rows = comparisons.assign(
        position=[positions[key] for key in _keys(comparisons)],
        panel=pd.Categorical(panels, list(dict.fromkeys(panels)), ordered=True),
        model=pd.Categorical(comparisons["model"], comparisons["model"].unique()[::-1], ordered=True),
    )
    return rows, grid


def axis_title(rows: pd.DataFrame) -> str:
    """The title of the axis of checkpoints; with one metric for all panels, also names the metric."""
    tokens = (
        "training tokens" if (rows["tokens"] > 0).any() else "training tokens unknown: set tokens_per_step"
    )
    labels = list(metric_labels(rows).values())
    return f"Checkpoint ({tokens})" + (f"\nMetric: {labels[0]}" if len(labels) == 1 else "")


def got_worse(rows: pd.DataFrame) -> pd.Series:
    """Whether `change` is for the worse: down, or up for metrics where `lower_is_better`."""
    return rows["change"].where(~rows["lower_is_better"], -rows["change"]) < 0


def axis(rows: pd.DataFrame, grid: Grid, *, before: bool = False) -> p9.scale_x_continuous:
    """The axis of checkpoints, labelled by training tokens, or by name where these are unknown.

    `before` leaves room for the first checkpoint, at -1.
    """
    named = rows.drop_duplicates("position").sort_values("position")
    every = max(1, -(-len(named) // max(1, int(grid.panel_cm / TICK_CM))))
    labelled = named.iloc[::-1].iloc[::every]  # the last checkpoint always has a label
    labels = [
        compact(tokens) if tokens > 0 else name
        for tokens, name in zip(labelled["tokens"], labelled["checkpoint"], strict=True)
    ]
    last = int(rows["position"].max())
    return p9.scale_x_continuous(
        breaks=[*labelled["position"], *([-1] * before)],
        labels=[*labels, *(["first"] * before)],
        limits=(-0.5 - before, last + 0.5),
        expand=(0, 0),
    )


def extent(rows: pd.DataFrame, grid: Grid, row_cm: float, below_cm: float) -> tuple[float, float]:
    """Width and height in cm: rows of models, panel titles, axis, and what is below it."""
    models = rows["model"].nunique()
    lines = rows["panel"].astype(str).str.count("\n").max() + 1
    return grid.width_cm, grid.deep * (max(models, 2) * row_cm + 0.35 + 0.3 * lines) + 1.9 + below_cm


def row_height(rows: pd.DataFrame, grid: Grid) -> float:
    """Height of one row in cm: less where there are many, so that the figure fits its page."""
    room = (PAGE_HEIGHT_CM - OTHERS_CM) / grid.deep - TITLE_CM
    return max(LOWEST_ROW_CM, min(0.42, room / rows["model"].nunique()))


def theme_along() -> p9.theme:
    """What the axis of checkpoints needs beside `theme_paper`."""
    return p9.theme(
        axis_text_x=p9.element_text(rotation=90, ha="center", va="top"),
        panel_grid_major_x=p9.element_blank(),
    )


def _most(checkpoints: int, panels: int, models: int) -> int:
    """Panels side by side: the fewer, the more checkpoints there are, unless the figure is then too high."""
    wanted = 3 if checkpoints <= 16 else 2 if checkpoints <= 40 else 1
    panel_cm = max(models, 2) * LOWEST_ROW_CM + TITLE_CM
    for most in range(wanted, 3):
        if -(-panels // panel_columns(panels, most)) * panel_cm + OTHERS_CM <= PAGE_HEIGHT_CM:
            return most
    return 3


def _keys(rows: pd.DataFrame) -> list[tuple[int, int, str]]:
    """What makes a column: tokens and step, and the name of the checkpoint if neither is known."""
    names = rows["checkpoint"].where((rows["tokens"] <= 0) & (rows["step"] <= 0), "")
    return list(zip(rows["tokens"], rows["step"], names, strict=True))
