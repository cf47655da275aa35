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
    """Add `place` (the number of the checkpoint in the order of training), `panel` and ordered `model`.

    A panel is a task, or one metric of it where several are watched. Models and panels are in the order of
    the table, the first model on top. Raises `FigureError` when nothing was compared.
    """
    if comparisons.empty:
        raise FigureError(
            "alarms: nothing was compared; this figure needs two checkpoints with the same examples, and "
            "imported results have means only."
        )
    places = {key: i for i, key in enumerate(sorted(set(_keys(comparisons))))}
    several = comparisons.groupby("task")["metric"].nunique().max() > 1
    name = labeller(titles)
    panels = [
        f"{name(task)}: {title(metric).lower()}" if several else name(task)
        for task, metric in zip(comparisons["task"], comparisons["metric"], strict=True)
    ]
    return comparisons.assign(
        place=[places[key] for key in _keys(comparisons)],
        panel=pd.Categorical(panels, list(dict.fromkeys(panels)), ordered=True),
        model=pd.Categorical(comparisons["model"], comparisons["model"].unique()[::-1], ordered=True),
    )


def columns_of(rows: pd.DataFrame) -> int:
    """Panels side by side: as many as leave each checkpoint some room."""
    places, panels = rows["place"].nunique(), rows["panel"].nunique()
    return int(min(panels, 3 if places <= 16 else 2 if places <= 40 else 1))


def axis(rows: pd.DataFrame, *, before: bool = False) -> p9.scale_x_continuous:
    """The axis of checkpoints, named by training tokens; by their own names where these are not known.

    `before` leaves room for the first checkpoint, at -1.
    """
    named = rows.drop_duplicates("place").sort_values("place")
    every = max(1, -(-len(named) * columns_of(rows) // (TICKS * 2)))
    shown = named.iloc[::-1].iloc[::every]  # the last checkpoint always has its name
    labels = [
        compact(tokens) if tokens > 0 else name
        for tokens, name in zip(shown["tokens"], shown["checkpoint"], strict=True)
    ]
    last = int(rows["place"].max())
    return p9.scale_x_continuous(
        breaks=[*shown["place"], *([-1] * before)],
        labels=[*labels, *(["first"] * before)],
        limits=(-0.5 - before, last + 0.5),
        expand=(0, 0),
    )


def extent(rows: pd.DataFrame, row_cm: float) -> tuple[float, float]:
    """Width and height in cm: rows of models, titles of panels, the axis and the legend."""
    models = rows["model"].nunique()
    deep = -(-rows["panel"].nunique() // columns_of(rows))
    return PAGE_CM, deep * (max(models, 2) * row_cm + 0.65) + 2.6


def row_height(rows: pd.DataFrame) -> float:
    """Centimetres of one row: lower where there are many, so that the figure stays on its page."""
    deep = -(-rows["panel"].nunique() // columns_of(rows)) * rows["model"].nunique()
    return max(0.17, min(0.42, 18.0 / deep))


def small_names(rows: pd.DataFrame) -> p9.theme:
    """Model names that fit their rows."""
    return p9.theme(
        axis_text_y=p9.element_text(size=min(POINTS - 1, row_height(rows) * 22)),
        axis_text_x=p9.element_text(rotation=90, ha="center", va="top"),
        panel_grid_major_x=p9.element_blank(),
    )


def _keys(rows: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(rows["tokens"], rows["step"], strict=True))
