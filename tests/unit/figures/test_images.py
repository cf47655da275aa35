"""Figures look like their reference images, and what would spoil one is seen."""

import re
from pathlib import Path

import matplotlib as mpl
import plotnine as p9
import pytest
from matplotlib.font_manager import FontEntry, FontProperties, findfont, fontManager
from PIL import Image

import reference_images
from drawn_texts import unreadable
from ebbtide.figures.theme import FONT
from reference_images import FIGURES, REFERENCES, bundled_fonts, difference, versions

TTF = Path(mpl.get_data_path()) / "fonts/ttf"
IMAGES = ("Expected", "Actual", "Difference")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_looks_like_its_reference(name: str, tmp_path: Path) -> None:
    assert not (problem := difference(name, FIGURES[name], tmp_path)), problem


def test_there_is_a_small_reference_of_each_kind_of_figure() -> None:
    files = {path.stem: path.stat().st_size for path in REFERENCES.iterdir()}
    assert files.keys() == FIGURES.keys(), "run `make images`"
    assert len(files) <= 15 and max(files.values()) <= 25_000


def clipped() -> p9.ggplot:
    """The last label of the axis of tokens is over the edge."""
    return FIGURES["forgetting"]() + p9.theme(plot_margin_right=-0.02)


def recoloured() -> p9.ggplot:
    """One of three colours is another."""
    return FIGURES["run_matrix"]() + p9.scale_fill_manual(["#2171b5", "#6baed6", "#cccccc", "#fdae6b"] * 2)


def without_grid() -> p9.ggplot:
    return FIGURES["trends"]() + p9.theme(panel_grid_major=p9.element_blank())


def higher() -> p9.ggplot:
    return FIGURES["heat"]() + p9.theme(figure_size=(5.5, 3.0))


@pytest.mark.filterwarnings("ignore:Scale for")
@pytest.mark.parametrize(
    ("name", "spoiled"),
    [("forgetting", clipped), ("run_matrix", recoloured), ("trends", without_grid), ("heat", higher)],
)
def test_a_spoiled_figure_is_seen_and_the_message_names_three_images(name, spoiled, tmp_path: Path) -> None:
    problem = difference(name, spoiled, tmp_path)
    found = [re.search(rf"{kind}:\s+(\S+\.png)", problem) for kind in IMAGES]
    sizes = {Image.open(match[1]).size for match in found if match}
    assert all(found) and len(sizes) == 1
    assert "make images" in problem and "made with" not in problem


def test_the_planted_clip_is_one() -> None:
    assert unreadable(FIGURES["forgetting"]()) == []
    assert any(problem.startswith("over the edge") for problem in unreadable(clipped()))


def test_a_reference_of_other_versions_or_none_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reference_images, "versions", lambda: "plotnine 99")
    problem = difference("heat", higher, tmp_path)
    assert f"made with {versions()}; here is plotnine 99" in problem
    assert "does not exist" in difference("a_new_figure", FIGURES["heat"], tmp_path)


def test_a_font_of_the_system_is_not_used(tmp_path: Path, monkeypatch) -> None:
    own = FontEntry(fname=str(TTF / "DejaVuSerif.ttf"), name=FONT, weight=400, size="scalable")
    monkeypatch.setattr(fontManager, "ttflist", [own, *fontManager.ttflist])
    assert findfont(FontProperties(family=FONT, size=7.123)) == own.fname  # a size not asked for before
    with bundled_fonts():
        for weight, file in (("normal", "DejaVuSans.ttf"), ("bold", "DejaVuSans-Bold.ttf")):
            assert findfont(FontProperties(family=FONT, weight=weight)) == str(TTF / file)
    assert not difference("heat", FIGURES["heat"], tmp_path)
