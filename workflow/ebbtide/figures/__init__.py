"""Figures: one function per figure, from tidy metrics to a plot; `save` writes it for print and screen."""

from ebbtide.figures.accuracy import plot_accuracy
from ebbtide.figures.heat import plot_heat
from ebbtide.figures.robustness import plot_robustness
from ebbtide.figures.theme import save, sentence, theme_paper, title

__all__ = ["plot_accuracy", "plot_heat", "plot_robustness", "save", "sentence", "theme_paper", "title"]
