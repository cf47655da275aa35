"""Comparisons laid out along training: a column per checkpoint, a row per model, a panel per task."""

from collections.abc import Mapping

import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import labeller
from ebbtide.figures.theme import PAGE_CM, POINTS, compact
from ebbtide.titles import title

TICKS = 8  # labels under one panel across the page


def lay_out(comparisons: pd.DataFrame, titles: Mapping[str, str] | None) -> pd.DataFrame:
    """Add `position` (the number of the checkpoint in the order of training), `panel` and ordered `model`.

    A panel is a task, or one metric of it if there are several. Models and panels are in the order of the
    table, the first model at the top. Raises `FigureError` when nothing was compared.
    """
    if comparisons.empty:
        raise FigureError(
            "alarms: found no comparison; this figure needs two checkpoints with the same examples. "
            "Imported results have means only."
        )
    positions = {key: i for i, key in enumerate(sorted(set(_keys(comparisons))))}
    several = comparisons.groupby("task")["metric"].nunique().max() > 1
    name = labeller(titles)
    panels = [
        f"{name(task)}: {title(metric).lower()}" if several else name(task)
        for task, metric in zip(comparisons["task"], comparisons["metric"], strict=True)
    ]
    return comparisons.assign(
        position=[positions[key] for key in _keys(comparisons)],
        panel=pd.Categorical(panels, list(dict.fromkeys(panels)), ordered=True),
        model=pd.Categorical(comparisons["model"], comparisons["model"].unique()[::-1], ordered=True),
    )


def columns_of(rows: pd.DataFrame) -> int:
    """Panels side by side: fewer where there are many checkpoints."""
    positions, panels = rows["position"].nunique(), rows["panel"].nunique()
    return int(min(panels, 3 if positions <= 16 else 2 if positions <= 40 else 1))


def got_worse(rows: pd.DataFrame) -> pd.Series:
    """Whether `change` is for the worse: down, or up for metrics where `lower_is_better`."""
    return rows["change"].where(~rows["lower_is_better"], -rows["change"]) < 0


def axis(rows: pd.DataFrame, *, before: bool = False) -> p9.scale_x_continuous:
    """The axis of checkpoints, labelled by training tokens, or by name where these are unknown.

    `before` leaves room for the first checkpoint, at -1.
    """
    named = rows.drop_duplicates("position").sort_values("position")
    every = max(1, -(-len(named) * columns_of(rows) // (TICKS * 2)))
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


def extent(rows: pd.DataFrame, row_cm: float) -> tuple[float, float]:
    """Width and height in cm: rows of models, panel titles, axis, legend."""
    models = rows["model"].nunique()
    deep = -(-rows["panel"].nunique() // columns_of(rows))
    return PAGE_CM, deep * (max(models, 2) * row_cm + 0.65) + 2.6


def row_height(rows: pd.DataFrame) -> float:
    """Height of one row in cm: less where there are many, so that the figure fits its page."""
    deep = -(-rows["panel"].nunique() // columns_of(rows)) * rows["model"].nunique()
    return max(0.17, min(0.42, 18.0 / deep))


def small_names(rows: pd.DataFrame) -> p9.theme:
    """A theme whose model names fit their rows."""
    return p9.theme(
        axis_text_y=p9.element_text(size=min(POINTS - 1, row_height(rows) * 22)),
        axis_text_x=p9.element_text(rotation=90, ha="center", va="top"),
        panel_grid_major_x=p9.element_blank(),
    )


def _keys(rows: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(rows["tokens"], rows["step"], strict=True))
