"""Figures: one function per figure, from a tidy frame to a plot; `save` writes it for print and screen.

Figures know frames only: what a metric means (`unit`, `direction`, `lower_is_better`, `is_share`) are columns
of the frame.
"""

from ebbtide.figures.alarms import plot_alarms
from ebbtide.figures.changes import plot_changes
from ebbtide.figures.curves import plot_curves
from ebbtide.figures.early_warning import plot_early_warning
from ebbtide.figures.frame import ability_rows, ability_titles
from ebbtide.figures.heat import plot_heat
from ebbtide.figures.paper import plot_paper
from ebbtide.figures.robustness import plot_robustness
from ebbtide.figures.scale import plot_scale
from ebbtide.figures.theme import save, theme_paper, write
from ebbtide.figures.trends import plot_trends

__all__ = [
    "ability_rows",
    "ability_titles",
    "plot_alarms",
    "plot_changes",
    "plot_curves",
    "plot_early_warning",
    "plot_heat",
    "plot_paper",
    "plot_robustness",
    "plot_scale",
    "plot_trends",
    "save",
    "theme_paper",
    "write",
]
