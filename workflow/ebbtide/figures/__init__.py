"""Figures: one function per figure, from tidy metrics to a plot; `save` writes it for print and screen."""

from ebbtide.figures.accuracy import plot_accuracy
from ebbtide.figures.alarms import plot_alarms
from ebbtide.figures.changes import plot_changes
from ebbtide.figures.early_warning import plot_early_warning
from ebbtide.figures.frame import as_they_are, shown
from ebbtide.figures.heat import plot_heat
from ebbtide.figures.paper import plot_paper
from ebbtide.figures.robustness import plot_robustness
from ebbtide.figures.scale import plot_scale
from ebbtide.figures.theme import save, theme_paper, write
from ebbtide.figures.trends import plot_trends

__all__ = [
    "as_they_are",
    "plot_accuracy",
    "plot_alarms",
    "plot_changes",
    "plot_early_warning",
    "plot_heat",
    "plot_paper",
    "plot_robustness",
    "plot_scale",
    "plot_trends",
    "save",
    "shown",
    "theme_paper",
    "write",
]
