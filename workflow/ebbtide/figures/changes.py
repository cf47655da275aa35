"""A map of changes: from each checkpoint to the next, a row per model, a panel per task."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.along import (
    axis,
    axis_title,
    extent,
    got_worse,
    lay_out,
    row_height,
    theme_along,
)
from ebbtide.figures.heat import COLOURS, theme_tiles
from ebbtide.figures.theme import PAGE_CM, theme_paper


def plot_changes(
    comparisons: pd.DataFrame,
    alpha: float = 0.05,
    titles: Mapping[str, str] | None = None,
    width_cm: float = PAGE_CM,
) -> p9.ggplot:
    """Draw the change from the checkpoint before as tiles, with a dot where p_adjusted is below `alpha`.

    `comparisons` is the table of alarms with the columns of `with_properties`. The colour is the effect size
    (Cohen's h for shares, else standard deviations of examples): blue is better, orange is worse. Panels of
    one metric share a scale; of several metrics, each panel states its own. `titles` are titles of panels by
    task; `width_cm` is that of a page or of a column.

    Raises `FigureError` when no checkpoint was compared with the one before.
    """
    rows = comparisons[comparisons["against"] == "predecessor"]
    if rows.empty and not comparisons.empty:
        raise FigureError(
            "alarms.against: found no predecessor, which this figure shows. Add predecessor to it."
        )
    rows, grid = lay_out(rows, titles, width_cm)
    turned = np.where(got_worse(rows), -1, 1) * rows["effect"].abs().to_numpy()
    finite = pd.Series(np.where(np.isfinite(turned), np.abs(turned), 0.0), rows.index)
    reach = [max(0.1, math.ceil(r * 10) / 10) for r in finite.groupby(rows["metric"]).transform("max")]
    rows = rows.assign(turned=turned, shade=np.clip(turned / np.asarray(reach), -1, 1))
    one = rows["metric"].nunique() == 1
    if not one:
        rows["panel"] = _with_reach(rows["panel"], reach)
    ends = (f"−{reach[0]:.1f} (worse)", f"+{reach[0]:.1f} (better)") if one else ("worse", "better")
    height = row_height(rows, grid)
    dot = min(1.1, 2.8 * grid.panel_cm / rows["position"].nunique(), height * 3)
    return (
        p9.ggplot(rows, p9.aes("position", "model"))
        + p9.geom_tile(p9.aes(fill="shade"), width=1.0, height=1.0)
        + p9.geom_point(data=rows[rows["p_adjusted"] < alpha], size=dot, stroke=0, color="black")
        + p9.facet_wrap("panel", ncol=grid.columns)
        + axis(rows, grid)
        + p9.scale_y_discrete(expand=(0, 0))
        + p9.scale_fill_gradientn(
            COLOURS,
            limits=(-1, 1),
            breaks=[-1, 0, 1],
            labels=[ends[0], "0", ends[1]],
            name="Change from the checkpoint before (effect)"
            + ("" if one else ",\non the scale of each panel"),
        )
        + p9.labs(x=axis_title(rows), y="Model")
        + theme_paper(*extent(rows, grid, height, 2.0 if grid.one_column else 1.2))
        + theme_along()
        + theme_tiles()
        + (p9.theme(legend_title_position="top") if grid.one_column else [])
    )


def _with_reach(panels: pd.Series, reach: list[float]) -> "pd.Categorical[str]":
    """Titles of panels with the effect at the ends of their scales."""
    order = {panel: i for i, panel in enumerate(panels.cat.categories)}
    named = [f"{panel}\neffect: ±{end:g}" for panel, end in zip(panels, reach, strict=True)]
    ordered = sorted(set(named), key=lambda name: order[name.rpartition("\n")[0]])
    return pd.Categorical(named, ordered, ordered=True)
