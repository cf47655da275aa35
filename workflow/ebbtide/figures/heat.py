"""A heat map of models by checkpoints, one panel per task, coloured by the difference from chance."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd
import plotnine as p9
from matplotlib.colors import to_rgb
from mizani.palettes import gradient_n_pal

from ebbtide.errors import FigureError
from ebbtide.figures.frame import choose, labeller, panel_columns
from ebbtide.figures.theme import PAGE_CM, POINTS, compact, theme_paper
from ebbtide.titles import title

# Orange below chance, blue above: distinguishable with colour blindness.
COLOURS = ("#a6500a", "#e9a35c", "#f7f7f7", "#7fb2d9", "#1f5fa6")
UNKNOWN = "#c8c8c8"  # no cell, or no chance level; not the colour of chance
TILES_ACROSS = 27  # per page; narrower tiles are too small for their value
TICKS_ACROSS = 32  # checkpoint names per page, rotated


def plot_heat(
    metrics: pd.DataFrame,
    metric: str = "accuracy",
    *,
    parameters: str = "non_embedding",
    titles: Mapping[str, str] | None = None,
) -> p9.ggplot:
    """Draw `metric` as tiles, model size on the y axis and checkpoint on the x axis, a panel per task.

    `metrics` is the table of `tables.METRICS`; models are ordered by `parameters`; `titles` are titles of
    panels by task. The colour is value − chance, on a symmetric scale that all panels share; grey tiles have
    no cell or no chance level. Tiles contain their value if it fits. A checkpoint is labelled by its step
    and training tokens, or by its name if the tokens are unknown or 0; columns are ordered by tokens.

    Raises `FigureError` when `metric` does not occur or no row has a chance level.
    """
    rows = choose(metrics, metric, parameters)
    if rows["chance"].isna().all():
        raise FigureError(
            f"metrics: {metric!r} has no chance level in any row, and the colours of this figure are the "
            "difference from chance. Set `chance` of the tasks."
        )
    names = _checkpoint_names(rows)
    tasks, sizes = rows["task"].cat.categories, rows["size"].cat.categories
    written = len(names) <= TILES_ACROSS
    columns = panel_columns(len(tasks), max(1, TILES_ACROSS // max(len(names), 6)) if written else 2)
    difference = rows["value"] - rows["chance"]
    reach = max(0.05, math.ceil(difference.abs().max() * 20) / 20)
    rows = rows.assign(
        column=pd.Categorical(_key(rows), list(names), ordered=True),
        difference=difference,
        ink=[_ink(value, reach) for value in difference],
        text=[f"{value:.2f}".removeprefix("0") for value in rows["value"]],
    )
    ticks = list(names)[:: -(-len(names) * columns // TICKS_ACROSS)]
    values = p9.geom_text(p9.aes(label="text", color="ink"), size=POINTS - 2, show_legend=False)
    return (
        p9.ggplot(rows, p9.aes("column", "size"))
        + p9.geom_tile(p9.aes(fill="difference"))
        + ([values] if written else [])
        + p9.facet_wrap("task", ncol=columns, labeller=labeller(titles))
        + p9.scale_x_discrete(breaks=ticks, labels=[names[key] for key in ticks], expand=(0, 0))
        + p9.scale_y_discrete(expand=(0, 0))
        + p9.scale_color_identity()
        + p9.scale_fill_gradientn(
            COLOURS,
            limits=(-reach, reach),
            breaks=[-reach, 0, reach],
            labels=[f"−{reach:.2f}", "0", f"+{reach:.2f}"],
            na_value=UNKNOWN,
            name=f"{title(metric)} − chance",
        )
        + p9.labs(x="Checkpoint: step (training tokens)", y="Model")
        + theme_paper(*_extent([labeller(titles)(task) for task in tasks], sizes, names, columns))
        + theme_tiles()
        + p9.theme(axis_text_x=p9.element_text(rotation=90, ha="center", va="top"))
    )


def theme_tiles() -> p9.theme:
    """What a panel of tiles needs beside `theme_paper`: no grid, and a wide scale of colours."""
    return p9.theme(
        panel_background=p9.element_rect(fill=UNKNOWN),
        panel_grid_major=p9.element_blank(),
        legend_title_position="left",
        legend_title=p9.element_text(va="center"),
        legend_key_width=100,
        legend_key_height=7,
    )


def _key(rows: pd.DataFrame) -> pd.Series:
    """The key of a column: training tokens and the checkpoint's name, as two checkpoints may share tokens."""
    keys = [f"{tokens} {name}" for tokens, name in zip(rows["tokens"], rows["checkpoint"], strict=True)]
    return pd.Series(keys, index=rows.index)


def _checkpoint_names(rows: pd.DataFrame) -> dict[str, str]:
    """Column key → label on the axis, in order of training tokens."""
    columns = rows.sort_values(["tokens", "step", "checkpoint"]).drop_duplicates(["tokens", "checkpoint"])
    names = [
        (f"{step:.0f} " if step > 0 else f"{checkpoint} ") + f"({compact(tokens)})"
        if tokens > 0
        else checkpoint
        for checkpoint, step, tokens in columns[["checkpoint", "step", "tokens"]].itertuples(index=False)
    ]
    return dict(zip(_key(columns), names, strict=True))


def _ink(difference: float, reach: float) -> str:
    """Black or white, whichever has the higher contrast (WCAG) with the tile of this difference."""
    if math.isnan(difference):
        return "black"
    red, green, blue = to_rgb(str(gradient_n_pal(COLOURS)([(difference / reach + 1) / 2])[0]))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # 1.05 / (L + 0.05) is the contrast with white, (L + 0.05) / 0.05 with black.
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def _extent(titles: list[str], sizes: pd.Index, names: dict[str, str], columns: int) -> tuple[float, float]:
    """Width and height in cm: tiles, panel titles, axis names, colour bar."""
    letter = 0.13
    beside = 1.0 + letter * _longest(sizes)
    below = 2.0 + letter * _longest(names.values())
    tile = 0.45 if len(names) <= TILES_ACROSS else 0.34
    panel = max(0.6 * len(names), 2.4, 0.18 * _longest(titles))
    rows = -(-len(titles) // columns)
    across = max(columns * panel, 8.0)  # room for the colour bar
    return min(PAGE_CM, beside + across), rows * (max(len(sizes), 2) * tile + 0.7) + below


def _longest(words: Iterable[str]) -> int:
    return max(len(word) for word in words)
