"""Figures on the page: smaller PNGs with a palette, as data URIs, so that the page is one small file."""

import base64
import io
from pathlib import Path

WIDTH = 1200  # pixels: sharp at the width of the page on a dense screen
COLOURS = 96


def why_empty(path: str | Path) -> str:
    """Return why a figure is only a placeholder (`figures.theme.write`); empty if it is none."""
    from PIL import Image

    with Image.open(path) as image:
        return str(image.info.get("Description", ""))


def data_uri(path: str | Path) -> str:
    """Return a PNG file as a data URI, scaled to at most `WIDTH` pixels with `COLOURS` colours."""
    from PIL import Image

    with Image.open(path) as image:
        width = min(WIDTH, image.width)
        small = image.convert("RGB").resize(
            (width, round(image.height * width / image.width)), Image.Resampling.LANCZOS
        )
        buffer = io.BytesIO()
        small.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
