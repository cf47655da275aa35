"""Figures: one function per figure, from tidy metrics to a plot; `save` writes it for print and screen."""

from ebbtide.figures.accuracy import plot_accuracy
from ebbtide.figures.early_warning import plot_early_warning
from ebbtide.figures.heat import plot_heat
from ebbtide.figures.theme import save, sentence, theme_paper, title
from ebbtide.figures.trends import plot_trends

__all__ = [
    "plot_accuracy",
    "plot_early_warning",
    "plot_heat",
    "plot_trends",
    "save",
    "sentence",
    "theme_paper",
    "title",
]
