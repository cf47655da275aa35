"""Names at the ends of lines: beside their ends and clear of each other, or a legend."""

import matplotlib.pyplot as plt
import pandas as pd
import plotnine as p9
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from drawn_texts import drawn_texts, unreadable
from ebbtide.figures import plot_curves
from ebbtide.figures.end_labels import FARTHEST_CM
from ebbtide.figures.forgetting import plot_forgetting
from ebbtide.figures.runs import plot_run_curves
from ebbtide.figures.theme import COLUMN_CM, PAGE_CM, drawn
from figure_tables import SHAPES, differences, shares

TITLE = "Model (non-embedding parameters)"
NAMES = ("ladder-d8 (888)", "ladder-d16 (6.59K)", "ladder-d32 (25.5K)", "ladder-d64 (150K)")
GRID = SHAPES["demo"].grid()[lambda rows: rows["task"].isin(["memo_trap", "fact_qa"])]
ONE = GRID[GRID["task"] == "memo_trap"]


def texts_of(plot: p9.ggplot) -> list[str]:
    return [text.text for text in drawn_texts(plot)[0]]


def test_lines_are_named_in_every_panel_and_the_note_says_what_the_names_are() -> None:
    texts = texts_of(plot_curves(GRID))
    assert [texts.count(name) for name in NAMES] == [2, 2, 2, 2]
    assert TITLE not in texts and "Names of lines: model (non-embedding parameters)." in texts
    assert unreadable(plot_curves(GRID)) == []


@pytest.mark.parametrize("width_cm", [PAGE_CM, COLUMN_CM])
def test_names_are_beside_the_ends_of_their_lines_and_inside_the_panel(width_cm: float) -> None:
    last = ONE[ONE["step"] == ONE["step"].max()].set_index("model")["value"]
    with drawn(plot_curves(ONE, width_cm=width_cm)) as figure:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        (panel,) = figure.axes
        end = max(float(line.get_xdata().max()) for line in panel.lines)
        boxes = {
            text.get_text(): text.get_window_extent(canvas.get_renderer())
            for text in panel.findobj(Text)
            if text.get_text() in NAMES
        }
        for name in NAMES:
            x, y = panel.transData.transform((end, last[name.split(" ")[0]]))
            away_cm = abs((boxes[name].y0 + boxes[name].y1) / 2 - y) / figure.dpi * 2.54
            assert away_cm < FARTHEST_CM + 0.1
            assert x < boxes[name].x0 and boxes[name].x1 < panel.get_window_extent().x1
    plt.close(figure)
    assert len(boxes) == len(NAMES)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(ONE[(ONE["model"] != "ladder-d8") | (ONE["step"] < 1024)], id="ends early"),
        pytest.param(ONE.assign(value=0.3), id="ends at one place"),
        pytest.param(ONE.assign(model="a-name-of-half-the-width-of-it-" + ONE["model"]), id="long names"),
        pytest.param(SHAPES["mixed"].grid()[lambda r: r["task"] == "memo_trap"], id="six models"),
        pytest.param(GRID.assign(task=GRID["task"] + GRID["step"].mod(3).astype(str)), id="narrow panels"),
    ],
)  # fmt: skip
def test_names_that_do_not_fit_are_in_a_legend(rows: pd.DataFrame) -> None:
    texts = texts_of(plot_curves(rows))
    assert TITLE in texts and not any("Names of lines" in text for text in texts)


def test_a_dropped_checkpoint_behind_the_ends_keeps_the_legend() -> None:
    def with_drop(tokens: int) -> list[str]:
        dropped = pd.DataFrame({"model": ["ladder-d8"], "checkpoint": ["bad"], "tokens": [tokens]})
        return texts_of(plot_curves(ONE, dropped=dropped))

    assert TITLE not in with_drop(2**18)
    assert TITLE in with_drop(2**22)


def test_forgetting_keeps_the_legend_of_its_kinds_of_lines() -> None:
    rows = shares(SHAPES["demo"])
    plot = plot_forgetting(rows[rows["task"].isin(["memo_trap", "fact_qa"])], pd.DataFrame({"note": [""]}))
    texts = texts_of(plot)
    assert texts.count(NAMES[0]) == 2 and TITLE not in texts
    assert "expected in random order" in texts
    assert unreadable(plot) == []


def test_short_names_of_runs_fit_three_panels() -> None:
    rows = differences(SHAPES["demo"])
    rows = rows[rows["size"].isin(rows["size"].unique()[:2]) & rows["task"].isin(rows["task"].unique()[:3])]
    plot = plot_run_curves(rows)
    texts = texts_of(plot)
    panels = rows[["arm", "task", "suite", "metric"]].drop_duplicates()
    assert [texts.count(size) for size in rows["size"].unique()] == [len(panels)] * 2
    assert "Size (parameters)" not in texts
    assert unreadable(plot) == []
