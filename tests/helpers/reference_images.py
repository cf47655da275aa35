"""Reference images: one figure of each kind, from made-up tables and with fonts that come with matplotlib.

`make images` (`python tests/helpers/reference_images.py`) draws them again, in tests/samples/figures/. Look
at what changed before you commit it.
"""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import plotnine as p9
from matplotlib.font_manager import fontManager
from matplotlib.testing.compare import compare_images
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from ebbtide.figures.theme import drawn
from figure_tables import LONG, Shape, figures_of, figures_of_laws

REFERENCES = Path(__file__).parents[1] / "samples/figures"
DOTS = 60  # per inch
BITS = 5  # of each colour, which halves the files
# Root mean square of the differences of pixels, of 255. Equal versions draw equal pixels; a grid that is
# missing makes 0.4, a letter that is missing 5.
TOLERANCE = 0.3
VERSIONS = "Software"  # key of the metadata of an image
REMEDY = "If the change is intended, run `make images` and look at the images before you commit them."

# A small study, so that the images are small, with a name that is wrapped.
SHAPE = Shape(
    {"ladder-d8": 888, "ladder-d16": 6592, "ladder-d64": 150080},
    dict.fromkeys(("memo_trap", LONG), "accuracy"),
    (0, 16, 64, 256, 1024),
    1024,
)
FIGURES: dict[str, Callable[[], p9.ggplot]] = {
    **figures_of(SHAPE),
    **{name: figures_of_laws()[name] for name in ("scaling_laws", "scaling_tradeoff")},
}


def versions() -> str:
    """The versions of what draws."""
    return ", ".join(f"{name} {version(name)}" for name in ("matplotlib", "plotnine"))


def draw(plot: Callable[[], p9.ggplot], path: Path) -> None:
    """Draw a figure as the product does, but with `DOTS` per inch and without fonts of the system."""
    canvas = io.BytesIO()
    with bundled_fonts(), drawn(plot() + p9.theme(dpi=DOTS)) as figure:
        figure.savefig(canvas, dpi=DOTS)
    plt.close(figure)
    metadata = PngInfo()
    metadata.add_text(VERSIONS, versions())
    with Image.open(canvas) as image:
        small = ImageOps.posterize(image.convert("RGB"), BITS)
    small.save(path, "PNG", optimize=True, pnginfo=metadata)


def difference(name: str, plot: Callable[[], p9.ggplot], directory: Path) -> str:
    """Draw a figure into a directory and compare it with its reference.

    Returns an empty text if they are alike, or else the paths of both and of an image of their difference.
    """
    reference, found = REFERENCES / f"{name}.png", directory / f"{name}.png"
    draw(plot, found)
    if not reference.exists():
        return f"{name}: {reference} does not exist. {REMEDY}"
    expected = directory / f"{name}-expected.png"  # a copy: nothing is written beside the references
    with Image.open(reference) as before, Image.open(found) as after:
        made_with = before.info.get(VERSIONS, "unknown versions")
        size = max(before.width, after.width), max(before.height, after.height)
        for image, path in ((before, expected), (after, found)):
            same_size = Image.new("RGB", size, "magenta")  # so that another size is seen, too
            same_size.paste(image)
            same_size.save(path)
    problem = compare_images(str(expected), str(found), TOLERANCE)
    if problem is None:
        return ""
    made = "" if made_with == versions() else f"\n  Expected was made with {made_with}; here is {versions()}."
    return f"{name}: {problem}{made}\n  {REMEDY}"


@contextmanager
def bundled_fonts() -> Iterator[None]:
    """Find no other fonts than those in matplotlib's own directory."""
    before = fontManager.ttflist
    fontManager.ttflist = []
    try:
        for file in sorted((Path(mpl.get_data_path()) / "fonts/ttf").glob("DejaVuSans*.ttf")):
            fontManager.addfont(file)  # which also forgets the fonts that were found before
        yield
    finally:
        fontManager.ttflist = before


def main() -> int:
    """Draw all references again, and remove those of figures that are no more."""
    REFERENCES.mkdir(parents=True, exist_ok=True)
    for path in REFERENCES.glob("*.png"):
        if path.stem not in FIGURES:
            path.unlink()
    for name, plot in FIGURES.items():
        draw(plot, REFERENCES / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
