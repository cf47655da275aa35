"""Comparisons laid out along training: a column per checkpoint, a row per model, a panel per task."""

from collections.abc import Mapping

import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import labeller, metric_labels, panel_columns, panel_title, panel_width
from ebbtide.figures.theme import PAGE_CM, POINTS, compact, text_cm

TICKS = 8  # labels under one panel across the page


def lay_out(comparisons: pd.DataFrame, titles: Mapping[str, str] | None) -> pd.DataFrame:
    """Add `position` (the number of the checkpoint in the order of training), `panel` and ordered `model`.

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
    columns = _columns(len(positions), len(comparisons[["task", "metric"]].drop_duplicates()))
    names_cm = max(text_cm(str(model), POINTS - 1) for model in comparisons["model"].unique())
    width = panel_width(columns, PAGE_CM, names_cm + 0.2)
    panels = [
        panel_title(name(task), labels[metric] if len(labels) > 1 else "", width)
        for task, metric in zip(comparisons["task"], comparisons["metric"], strict=True)
    ]
    return comparisons.assign(
        position=[positions[key] for key in _keys(comparisons)],
        panel=pd.Categorical(panels, list(dict.fromkeys(panels)), ordered=True),
        model=pd.Categorical(comparisons["model"], comparisons["model"].unique()[::-1], ordered=True),
    )


def columns_of(rows: pd.DataFrame) -> int:
    """Panels side by side: fewer where there are many checkpoints."""
    return _columns(rows["position"].nunique(), rows["panel"].nunique())


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
    lines = rows["panel"].astype(str).str.count("\n").max() + 1
    return PAGE_CM, deep * (max(models, 2) * row_cm + 0.35 + 0.3 * lines) + 3.1


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


def _columns(positions: int, panels: int) -> int:
    return panel_columns(panels, 3 if positions <= 16 else 2 if positions <= 40 else 1)


def _keys(rows: pd.DataFrame) -> list[tuple[int, int, str]]:
    """What makes a column: tokens and step, and the name of the checkpoint if neither is known."""
    names = rows["checkpoint"].where((rows["tokens"] <= 0) & (rows["step"] <= 0), "")
    return list(zip(rows["tokens"], rows["step"], names, strict=True))
