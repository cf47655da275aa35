"""Every text of every figure can be read: none is over the edge of the page, and none over another text."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import plotnine as p9
import pytest
from matplotlib.font_manager import findfont
from matplotlib.text import Text

from drawn_texts import drawn_texts, unreadable
from ebbtide.figures import plot_curves, theme_paper
from ebbtide.figures.theme import (
    COLUMN_CM,
    FONT,
    PAGE_CM,
    PAGE_HEIGHT_CM,
    drawn,
    fitted,
    printed_height,
    save,
    text_cm,
    wrapped,
)
from ebbtide.figures.training_axis import token_ticks
from ebbtide.figures.trends import _ticks as trend_ticks
from ebbtide.logs import log
from figure_tables import FITTED, LONG, SHAPES, figures_of, figures_of_laws

FIGURES = {f"{shape}-{name}": draw for shape in ("one", "mixed") for name, draw in
           figures_of(SHAPES[shape]).items()} | figures_of_laws()  # fmt: skip
COLUMN = {
    f"{shape}-{name}": draw
    for shape, names in {"one": FITTED, "demo": FITTED, "mixed": ["curves"]}.items()
    for name, draw in figures_of(SHAPES[shape], COLUMN_CM).items()
    if name in names
}
MANY = {
    name: figures_of(SHAPES["many"])[name] for name in ("trends", "robustness", "run_matrix", "resolution")
}


# Five tiles side by side, and long names of choices: as wide as on a page.
WIDE = {"demo-run_matrix": 15.0, "demo-robustness": PAGE_CM}


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_clipped_or_covered(name: str) -> None:
    assert unreadable(FIGURES[name]()) == []


@pytest.mark.parametrize("name", MANY)
def test_sixteen_models_and_twelve_tasks_with_long_names_fit(name: str) -> None:
    assert unreadable(MANY[name]()) == []


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(figures_of(SHAPES["many"]).keys() - MANY.keys()))
def test_every_checkpoint_of_sixteen_models_fits(name: str) -> None:
    assert unreadable(figures_of(SHAPES["many"])[name]()) == []


@pytest.mark.parametrize("name", COLUMN)
def test_every_figure_with_panels_can_be_read_in_one_column(name: str) -> None:
    plot = COLUMN[name]()
    assert unreadable(plot) == []
    with drawn(plot) as figure:
        sizes = [t.get_fontsize() for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
        width, height = figure.get_size_inches() * 2.54
    plt.close(figure)
    assert min(sizes) >= 6 and height <= PAGE_HEIGHT_CM
    assert width == pytest.approx(WIDE.get(name, COLUMN_CM), abs=0.1)


@pytest.mark.parametrize("name", ["heat", "trends", "curves", "alarms", "forgetting", "run_curves"])
def test_figures_of_sixteen_models_and_twelve_tasks_fit_a_page(name: str) -> None:
    assert printed_height(figures_of(SHAPES["series"])[name]()) <= PAGE_HEIGHT_CM + 0.5


def test_a_figure_too_high_for_a_page_in_a_column_has_the_width_of_a_page(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def figure(tasks: int) -> Callable[[float], p9.ggplot]:
        rows = SHAPES["demo"].grid()
        rows = pd.concat([rows.assign(task=rows["task"] + str(i)) for i in range(tasks // 4)])
        return lambda width_cm: plot_curves(rows, width_cm=width_cm)

    in_column, on_page = (fitted(figure(tasks), COLUMN_CM) for tasks in (8, 32))
    assert in_column.theme.getp("figure_size")[0] * 2.54 == pytest.approx(COLUMN_CM)
    assert on_page.theme.getp("figure_size")[0] * 2.54 == pytest.approx(PAGE_CM)
    assert printed_height(in_column) <= PAGE_HEIGHT_CM
    monkeypatch.setattr(log, "propagate", True)
    save(in_column, tmp_path / "low.png")
    assert caplog.messages == []
    save(in_column, tmp_path / "high.png", height_cm=31)
    assert caplog.messages == ["high.png is 31 cm high, more than a page: draw fewer tasks or models"]


def legend_of(count: int) -> Callable[[], p9.ggplot]:
    """A figure with a legend in one row, too long for its page with many keys."""
    rows = pd.DataFrame({"x": range(count), "name": [f"a model with a long name {i}" for i in range(count)]})
    key = p9.guide_legend(nrow=1)
    return lambda: (
        p9.ggplot(rows, p9.aes("x", "x", color="name"))
        + p9.geom_point()
        + p9.scale_color_discrete(guide=key)
        + theme_paper()
    )


def test_the_measure_finds_what_is_clipped_and_what_overlaps() -> None:
    assert unreadable(legend_of(3)()) == []
    assert any(found.startswith("over the edge: 'a model") for found in unreadable(legend_of(9)()))
    crowded = legend_of(3)() + p9.scale_x_continuous(breaks=[0, 0.01], labels=["first", "second"])
    assert "overlap: 'first' and 'second'" in unreadable(crowded)


def test_the_font_comes_with_matplotlib_and_measured_widths_are_those_drawn() -> None:
    assert "matplotlib" in findfont(FONT, fallback_to_default=False)
    texts, page = drawn_texts(plot_curves(SHAPES["mixed"].grid()))
    name = "pythia-2800m-deduped (2.8B)"
    (box,) = [t.box for t in texts if t.text == name]
    assert box.width / page.width * 17 == pytest.approx(text_cm(name, 6.5), rel=0.06)


def test_titles_break_at_words_before_brackets_and_in_long_words() -> None:
    assert wrapped("Loss (nats per token)", 10) == "Loss (nats per token)"
    assert wrapped("Loss (nats per token)", 2.0).splitlines()[0] == "Loss"
    for text in (LONG, LONG.replace("_", " ")):
        lines = wrapped(text, 2.5, bold=True).splitlines()
        assert len(lines) > 2 and max(text_cm(line, bold=True) for line in lines) <= 2.5
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_ticks_have_the_ends_and_round_numbers_that_fit() -> None:
    low, high = 2097152.0, 143000 * 2097152.0
    assert token_ticks(low, high, 9.6) == [low, 1e7, 1e8, 1e9, 1e10, high]
    assert token_ticks(low, high, 9.6, with_ends=False) == [1e7, 1e8, 1e9, 1e10, 1e11]
    assert token_ticks(low, low, 4.0) == [low]
    for width in (1.0, 2.0, 4.0, 8.0, 16.0):
        ticks = token_ticks(low, high, width)
        assert ticks == sorted(set(ticks)) and ticks[-1] == high


@pytest.mark.parametrize("ends", [(-0.31, 0.39), (-0.33, 0.41), (0.0, 1e-4), (-5.0, 200.0), (-0.049, 0.049)])
@pytest.mark.parametrize("wanted", [3, 4, 5])
def test_an_axis_of_slopes_has_a_scale(ends: tuple[float, float], wanted: int) -> None:
    ticks = trend_ticks(ends, wanted)
    assert len(ticks) > 1
    assert ends[0] <= min(ticks) < max(ticks) <= ends[1]
