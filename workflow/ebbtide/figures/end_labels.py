"""Names at the ends of lines, in place of a legend, where they fit."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import plotnine as p9
from scipy.optimize import isotonic_regression

from ebbtide.figures.theme import EXPAND, POINTS, text_cm

MOST_LINES = 5
MOST_OF_PANEL = 0.36  # share of the width of a panel that names may take
LABEL_POINTS = POINTS - 1
LINE_CM = 0.28  # between names one above the other
FARTHEST_CM = 1.2 * LINE_CM  # of a name from the end of its line, up or down
LEADER_CM = 0.35  # from the end of a line to its name, across


@dataclass(frozen=True)
class EndLabels:
    """Names at the ends of lines.

    Attributes
    ----------
    leaders
        Layers to draw below points: thin lines from the ends to the names, in the colours of the lines.
    names
        Layers to draw above all else: the names.
    right
        Room for the names: what the x axis expands at its right end, as a share of its range.
    share
        The share of the width of a panel that is left for the range of the axis.
    """

    leaders: list[object] = field(default_factory=list)
    names: list[object] = field(default_factory=list)
    right: float = EXPAND
    share: float = 1.0

    def __bool__(self) -> bool:
        return bool(self.names)

    def note(self, title: str) -> str:
        """A sentence that says what the names are, as the title of a legend would; empty without names."""
        return f"Names of lines: {title[0].lower()}{title[1:]}." if self else ""


def end_labels(
    lines: pd.DataFrame,
    panel: str,
    reach: pd.DataFrame,
    all_x: pd.Series,
    panel_cm: tuple[float, float],
    *,
    logarithmic: bool = False,
) -> EndLabels:
    """Name every line of every panel at its end; none, if not all of them fit.

    They fit if there are few lines, all of which end at the right end of the axis; if the names are narrow
    enough; and if, moved up or down by at most `FARTHEST_CM`, they keep clear of each other.

    Parameters
    ----------
    lines
        Rows of the lines: `size` (their name, and aesthetic of the colour), `x`, `y`, and column `panel`.
    panel
        Name of the column of panels.
    reach
        `low` and `high` by panel: the ends of all that is drawn on its y axis.
    all_x
        Places on the x axis of all that is drawn.
    panel_cm
        Width and height of a panel.
    logarithmic
        Whether the x axis is logarithmic.
    """
    width, height = panel_cm
    names = lines["size"].astype(str).unique()
    if len(names) > MOST_LINES or lines.empty:
        return EndLabels()
    leader = LEADER_CM / width
    name = (max(text_cm(name, LABEL_POINTS) for name in names) + 0.1) / width
    ends = lines.loc[lines.groupby([panel, "size"], observed=True)["x"].idxmax()]
    if leader + name > MOST_OF_PANEL or all_x.min() == all_x.max() or (ends["x"] < all_x.max()).any():
        return EndLabels()
    low, high = (ends[panel].astype(str).map(reach[end]).astype(float) for end in ("low", "high"))
    unit = (high - low).where(high > low, 1.0) * (1 + 2 * EXPAND) / height  # of the y axis, in 1 cm
    ends = ends.assign(high_cm=(high - low) / unit, end_cm=(ends["y"] - low) / unit)
    ends["name_cm"] = np.nan
    for _, one in ends.groupby(panel, observed=True):
        ends.loc[one.index, "name_cm"] = _apart(one["end_cm"], float(one["high_cm"].iloc[0]))
    if not ((ends["name_cm"] - ends["end_cm"]).abs() <= FARTHEST_CM).all():
        return EndLabels()
    x = np.log10(all_x) if logarithmic else all_x
    # The starts of the names belong to the range of the axis, which takes `within` of the panel.
    within = (1 - name) / (1 + EXPAND)
    start = x.max() + (x.max() - x.min()) * leader / (within - leader)
    ends = ends.assign(name_x=10**start if logarithmic else start, name_y=low + ends["name_cm"] * unit)
    lead = p9.aes("x", "y", xend="name_x", yend="name_y", color="size")
    return EndLabels(
        [p9.geom_segment(lead, ends, inherit_aes=False, size=0.3, show_legend=False)],
        [
            p9.geom_label(
                p9.aes("name_x", "name_y", label="size"),
                ends,
                inherit_aes=False,
                size=LABEL_POINTS,
                ha="left",
                va="center",
                fill="white",  # over the line of the chance level
                label_size=0,
                label_padding=0.08,
                boxstyle="square",
                show_legend=False,
            ),
        ],
        name / within,
        1 - leader - name,
    )


def _apart(ends_cm: pd.Series, high_cm: float) -> pd.Series:
    """Places of names, `LINE_CM` apart, in the order of the ends and as near to them as can be.

    No place is below 0 or above `high_cm`; if there is no room for all, all are missing.
    """
    ordered = ends_cm.sort_values(kind="stable")
    steps = LINE_CM * np.arange(len(ordered))
    if steps[-1] > high_cm:
        return ends_cm * np.nan
    # With the steps taken off, the places have only to be in order, which is an isotonic regression.
    places = isotonic_regression(ordered.to_numpy() - steps).x.clip(0, high_cm - steps[-1]) + steps
    return pd.Series(places, ordered.index)
