"""Figures on the page: smaller PNGs with a palette, as data URIs, so that the page is one small file."""

import base64
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.errors import CellError, first_line

if TYPE_CHECKING:
    from PIL import Image

WIDTH = 1200  # pixels: sharp at the width of the page on a dense screen
COLOURS = 96


def not_drawn(figures: Mapping[str, str], lacking: Mapping[str, str]) -> dict[str, str]:
    """Return a sentence for each figure that is not drawn, by its name.

    Parameters
    ----------
    figures
        Name of a figure of the study → its PNG file, which may be a placeholder (`figures.theme.write`).
    lacking
        Name of a figure that the study cannot have → the reason.
    """
    reasons = dict(lacking) | {name: _why_placeholder(path) for name, path in figures.items()}
    return {name: f"No figure {name}: {why.rstrip('.')}." for name, why in reasons.items() if why}


def _why_placeholder(path: str | Path) -> str:
    with _opened(path) as image:
        return str(image.info.get("Description", ""))


def data_uri(path: str | Path) -> str:
    """Return a PNG file as a data URI, scaled to at most `WIDTH` pixels with `COLOURS` colours."""
    from PIL import Image

    with _opened(path) as image:
        width = min(WIDTH, image.width)
        small = image.convert("RGB").resize(
            (width, round(image.height * width / image.width)), Image.Resampling.LANCZOS
        )
        buffer = io.BytesIO()
        small.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@contextmanager
def _opened(path: str | Path) -> "Iterator[Image.Image]":
    """Open a picture, which is decoded later; `CellError` if it is none, or not whole."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError) as error:  # the latter for damage within a PNG
        what = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({first_line(error)})"
        raise CellError(f"The figure {path} {what}; delete it and run snakemake.") from error
