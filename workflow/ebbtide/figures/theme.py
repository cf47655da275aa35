"""What all figures share: theme, colours, shapes, number formats, and how they are saved."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import plotnine as p9
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from ebbtide.errors import FigureError
from ebbtide.files import atomic
from ebbtide.logs import log
from ebbtide.titles import among_equals, order_of_sizes

FONT = "DejaVu Sans"  # ships with matplotlib, so figures are the same on every machine
POINTS = 7.0  # size of most text: readable when printed at the width drawn
DPI = 300
PAGE_CM = 17.0  # text width of an A4 page
PAGE_HEIGHT_CM = 23.0  # of an A4 page, with room for a caption
COLUMN_CM = 8.5  # one of two columns of a journal
CM_PER_INCH = 2.54
CM_PER_POINT = CM_PER_INCH / 72
GREY = "#5a5a5a"
EXPAND = 0.05  # plotnine's room at each end of an axis, as a share of its range

WHY_EMPTY = "Description"  # key of the metadata of a PNG
# Metadata to leave out, by format: with dates and versions, equal figures would be different files.
METADATA: dict[str, dict[str, str | None]] = {
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {"Software": None},
}

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_PATHS = TextToPath()

# Filled shapes, distinguishable without colour; as many as a model family usually has sizes.
SHAPES = ("o", "s", "^", "D", "v", "P", "*", "X", "<", "p", ">", "h")
DASHES = ("solid", "dashed", "dashdot", "dotted")  # of lines of one colour


def theme_paper(width_cm: float = PAGE_CM, height_cm: float = 10.0) -> p9.theme:
    """The theme of every figure, with the size in cm at which it is printed."""
    return p9.theme_bw(base_size=POINTS, base_family=FONT) + p9.theme(
        figure_size=(width_cm / CM_PER_INCH, height_cm / CM_PER_INCH),
        dpi=DPI,
        text=p9.element_text(family=FONT, color="black"),
        axis_text=p9.element_text(size=POINTS - 1, color="#303030"),
        axis_title=p9.element_text(size=POINTS),
        axis_ticks_minor_y=p9.element_blank(),
        axis_ticks=p9.element_line(color=GREY, size=0.4),
        panel_border=p9.element_rect(color=GREY, size=0.5),
        panel_grid_major=p9.element_line(color="#e6e6e6", size=0.4),
        panel_grid_minor=p9.element_blank(),
        panel_spacing_x=0.015,
        panel_spacing_y=0.02,
        strip_background=p9.element_blank(),
        strip_text=p9.element_text(
            size=POINTS, weight="bold", ha="left", ma="left", va="bottom", color="black"
        ),
        legend_position="bottom",
        legend_title_position="top",
        legend_title=p9.element_text(size=POINTS),
        legend_text=p9.element_text(size=POINTS - 0.5),
        legend_box_spacing=0.012,
        plot_caption_position="plot",
        plot_caption=p9.element_text(size=POINTS - 1, color=GREY, ha="left", ma="left"),
        legend_background=p9.element_blank(),
        legend_key=p9.element_blank(),
    )


@lru_cache(maxsize=4096)
def text_cm(text: str, points: float = POINTS, *, bold: bool = False) -> float:
    """The width of a text in cm, that of its longest line."""
    font = FontProperties(family=FONT, size=points, weight="bold" if bold else "normal")
    lines = text.split("\n")
    return max(_PATHS.get_text_width_height_descent(line, font, False)[0] for line in lines) * CM_PER_POINT


@lru_cache(maxsize=4096)  # titles are made row by row
def wrapped(text: str, width_cm: float, points: float = POINTS, *, bold: bool = False) -> str:
    """`text` in lines of at most `width_cm`; a bracket gets its own line, and words that do not fit break."""

    def fits(line: str) -> bool:
        return text_cm(line, points, bold=bold) <= width_cm

    lines: list[str] = []
    for part in [text] if fits(text) else text.replace(" (", "\n(", 1).split("\n"):
        line = ""
        for word in part.split():
            if fits(joined := f"{line} {word}".strip()):
                line = joined
                continue
            lines += [line] if line else []
            line = word
            while len(line) > 1 and not fits(line):
                most = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or fits(line[:n]))
                lines.append(line[:most])
                line = line[most:]
        lines.append(line)
    return "\n".join(lines)


def footnote(text: str, width_cm: float) -> tuple[list[p9.labs], float]:
    """A note below a figure, wrapped to its width, and its height in cm; nothing without a text."""
    if not text:
        return [], 0.0
    note = wrapped(text, width_cm - 0.4, POINTS - 1)
    return [p9.labs(caption=note)], 0.6 + 0.3 * note.count("\n")


def printed_height(plot: p9.ggplot) -> float:
    """The height in cm at which a plot is printed."""
    return float(plot.theme.getp("figure_size")[1] * CM_PER_INCH)


def fitted(draw: Callable[[float], p9.ggplot], width_cm: float) -> p9.ggplot:
    """The figure that `draw` makes in this width, or in that of a page if it would be higher than a page."""
    plot = draw(width_cm)
    return draw(PAGE_CM) if width_cm < PAGE_CM and printed_height(plot) > PAGE_HEIGHT_CM else plot


def save(
    plot: p9.ggplot,
    path: str | Path,
    width_cm: float | None = None,
    height_cm: float | None = None,
    *,
    why_empty: str = "",
) -> None:
    """Write `plot` atomically as PDF or PNG, by the suffix of `path`, in the plot's own size unless given.

    `why_empty` is the text of a placeholder; it is kept in a PNG under `WHY_EMPTY`, for pages that show
    figures.

    Fonts are embedded as TrueType. Equal plots make equal bytes: nothing depends on the clock or on the
    user's matplotlib settings. Raises `FigureError` for another suffix.
    """
    path = Path(path)
    if path.suffix not in METADATA:
        raise FigureError(f"{path}: found suffix {path.suffix!r}, allowed: {', '.join(METADATA)}.")
    # Every file needs its own drawing: plotnine fixes the scale of a colour bar at the first rendering.
    width, height = (inches * CM_PER_INCH for inches in plot.theme.getp("figure_size"))
    size = ((width_cm or width) / CM_PER_INCH, (height_cm or height) / CM_PER_INCH)
    if (high := size[1] * CM_PER_INCH) > PAGE_HEIGHT_CM + 1:
        log.warning("%s is %.0f cm high, more than a page: draw fewer tasks or models", path.name, high)
    with drawn(plot + p9.theme(figure_size=size)) as figure, atomic(path) as temporary:
        why = {WHY_EMPTY: why_empty} if why_empty and path.suffix == ".png" else {}
        figure.savefig(temporary, dpi=DPI, metadata=METADATA[path.suffix] | why)


@contextmanager
def drawn(plot: p9.ggplot) -> Iterator[Figure]:
    """The figure of a plot, drawn with the settings of `save`, whatever the user's are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(plot.theme.rcParams)
        mpl.rcParams["text.parse_math"] = False  # titles and names are texts, also with dollar signs
        mpl.rcParams["pdf.fonttype"] = 42  # TrueType: journals refuse matplotlib's default, Type 3
        yield plot.draw()


def write(draw: Callable[[], p9.ggplot], paths: Iterable[str | Path]) -> None:
    """Save a figure under every path; if it cannot be drawn, one that says why: the run must go on."""
    why = ""
    try:
        plot = draw()
    except FigureError as error:
        log.warning("a placeholder with the reason: %s", error)
        why = str(error.args[0])
        plot = _sentence(why)
    for path in paths:
        save(plot, path, why_empty=why)


def _sentence(text: str) -> p9.ggplot:
    """A figure that consists of a sentence, in place of one that cannot be drawn."""
    wrapped = "\n".join(textwrap.wrap(text, 80))
    label = pd.DataFrame({"x": [0.0], "y": [0.0], "text": [wrapped]})
    return (
        p9.ggplot(label, p9.aes("x", "y", label="text"))
        + p9.geom_text(size=POINTS, color=GREY)
        + theme_paper(height_cm=4.0)
        + p9.theme_void()
        + p9.theme(figure_size=(PAGE_CM / CM_PER_INCH, 4.0 / CM_PER_INCH), dpi=DPI)
    )


def palette(count: int) -> list[str]:
    """`count` colours from dark to light: viridis without its yellow end, too pale on white paper."""
    viridis = mpl.colormaps["viridis"]
    last = max(count - 1, 1)
    return [mpl.colors.to_hex(viridis(0.8 * i / last)) for i in range(count)]


@dataclass(frozen=True)
class Looks:
    """Colour, shape and dash of each line."""

    colours: list[str]
    shapes: list[str]
    dashes: list[str]


def line_looks(sizes: Sequence[float]) -> Looks:
    """Looks of lines of models of these sizes, in order.

    Of three sizes or more, equal ones have one colour and differ by shape and dash, as on the page of the
    report; else each line has a colour.
    """
    order = order_of_sizes(sizes) or list(range(len(sizes)))
    members = among_equals(order)
    colours = palette(max(order) + 1)
    return Looks(
        [colours[place] for place in order],
        [SHAPES[(place + member) % len(SHAPES)] for place, member in zip(order, members, strict=True)],
        [DASHES[member % len(DASHES)] for member in members],
    )


def shapes(count: int) -> list[str]:
    """`count` point shapes; they repeat after twelve."""
    return [SHAPES[i % len(SHAPES)] for i in range(count)]


def powers_of_ten(ticks: Iterable[float]) -> list[str]:
    """Labels of ticks: 10¹², and 3·10¹² between powers."""
    labels = []
    for tick in ticks:
        power = int(np.floor(np.log10(tick) + 1e-9))
        times = f"{tick / 10.0**power:.2g}"
        labels.append(("" if times == "1" else f"{times}·") + f"10{str(power).translate(_SUPERSCRIPTS)}")
    return labels


def compact(number: float) -> str:
    """A count with three significant digits: 888, 6.59K, 1.05M, 300B."""
    rounded = float(f"{number:.3g}")
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if rounded >= size:
            return f"{rounded / size:g}{unit}"
    return f"{rounded:g}"
