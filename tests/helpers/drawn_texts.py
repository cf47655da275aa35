"""Texts of a drawn figure: where they are, and which of them cannot be read."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import plotnine as p9
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from ebbtide.figures.theme import drawn

DOTS = 100  # per inch
POINT = 0.5  # pixels of tolerance


@dataclass(frozen=True)
class Drawn:
    """A text and its box in pixels."""

    text: str
    box: Bbox


def drawn_texts(plot: p9.ggplot) -> tuple[list[Drawn], Bbox]:
    """All visible texts of a plot, in the order of drawing, and the box of the page."""
    with drawn(plot + p9.theme(dpi=DOTS)) as figure:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        texts = [
            Drawn(text.get_text(), text.get_window_extent(canvas.get_renderer()))
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip()
        ]
        page = figure.bbox.frozen()
    plt.close(figure)
    return texts, page


def unreadable(plot: p9.ggplot) -> list[str]:
    """What a reader could not read: texts over the edge of the figure, and texts over other texts."""
    texts, page = drawn_texts(plot)
    problems = [f"over the edge: {t.text!r}" for t in texts if not _within(t.box, page)]
    for i, one in enumerate(texts):
        problems += [
            f"overlap: {one.text!r} and {other.text!r}"
            for other in texts[i + 1 :]
            if _overlap(one.box, other.box)
        ]
    return problems


def _within(box: Bbox, page: Bbox) -> bool:
    return (
        box.x0 >= page.x0 - POINT
        and box.y0 >= page.y0 - POINT
        and box.x1 <= page.x1 + POINT
        and box.y1 <= page.y1 + POINT
    )


def _overlap(one: Bbox, other: Bbox) -> bool:
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    down = min(one.y1, other.y1) - max(one.y0, other.y0)
    return across > 1 and down > 1
