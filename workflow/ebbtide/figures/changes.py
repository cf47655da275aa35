"""A map of changes: from each checkpoint to the next, a row per model, a panel per task."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.along import axis, columns_of, extent, got_worse, lay_out, row_height, small_names
from ebbtide.figures.heat import COLOURS, theme_tiles
from ebbtide.figures.theme import theme_paper


def plot_changes(
    comparisons: pd.DataFrame, alpha: float = 0.05, titles: Mapping[str, str] | None = None
) -> p9.ggplot:
    """Draw the change from the checkpoint before as tiles, with a dot where p_adjusted is below `alpha`.

    `comparisons` is the table of alarms with the column `lower_is_better`. The colour is the effect size
    (Cohen's h for shares, else standard deviations of examples): blue is better, orange is worse, on one
    scale for all panels. `titles` are titles of panels by task.

    Raises `FigureError` when no checkpoint was compared with the one before.
    """
    rows = comparisons[comparisons["against"] == "predecessor"]
    if rows.empty and not comparisons.empty:
        raise FigureError(
            "alarms.against: found no predecessor, which this figure shows. Add predecessor to it."
        )
    rows = lay_out(rows, titles)
    turned = np.where(got_worse(rows), -1, 1) * rows["effect"].abs().to_numpy()
    reach = max(0.1, math.ceil(float(np.abs(turned[np.isfinite(turned)]).max(initial=0.0)) * 10) / 10)
    rows = rows.assign(turned=np.clip(turned, -reach, reach))
    height = row_height(rows)
    dot = min(1.1, 45 / (columns_of(rows) * rows["position"].nunique()), height * 3)
    return (
        p9.ggplot(rows, p9.aes("position", "model"))
        + p9.geom_tile(p9.aes(fill="turned"), width=1.0, height=1.0)
        + p9.geom_point(data=rows[rows["p_adjusted"] < alpha], size=dot, stroke=0, color="black")
        + p9.facet_wrap("panel", ncol=columns_of(rows))
        + axis(rows)
        + p9.scale_y_discrete(expand=(0, 0))
        + p9.scale_fill_gradientn(
            COLOURS,
            limits=(-reach, reach),
            breaks=[-reach, 0, reach],
            labels=[f"−{reach:.1f} (worse)", "0", f"+{reach:.1f}"],
            name="Change from the checkpoint before (effect)",
        )
        + p9.labs(x="Checkpoint (training tokens)", y="Model")
        + theme_paper(*extent(rows, height))
        + small_names(rows)
        + theme_tiles()
    )
