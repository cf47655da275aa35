"""A heat map of models by checkpoints, a panel per task, coloured by the difference from chance."""

import math
from collections.abc import Mapping

import pandas as pd
import plotnine as p9
from matplotlib.colors import to_rgb
from mizani.palettes import gradient_n_pal

from ebbtide.figures.frame import (
    choose,
    lines_of,
    panel_columns,
    panel_titles,
    shared_label,
)
from ebbtide.figures.theme import PAGE_CM, PAGE_HEIGHT_CM, POINTS, compact, text_cm, theme_paper, wrapped

# Orange is worse, blue is better: distinguishable with colour blindness.
COLOURS = ("#a6500a", "#e9a35c", "#f7f7f7", "#7fb2d9", "#1f5fa6")
UNKNOWN = "#c8c8c8"  # no cell; not the colour of no difference
CHANCE, FIRST = "from chance", "from the first checkpoint"
TILES_ACROSS = 27  # per page; narrower tiles are too small for their value
TILE_CM = 0.48  # of the narrowest tile with its value
TILE_HIGH_CM = 0.45
TITLE_LINES = 3  # of most panels, at most
LEGEND_CM = 14.0  # the colour bar with its title
NARROWEST_CM = 3.2  # panel, which has a title
LOW_TILES_CM = (0.24, 0.34)  # least and most height of tiles without values
TICKS_ACROSS = 32  # checkpoint names per page, rotated


def plot_heat(
    metrics: pd.DataFrame, *, parameters: str = "non_embedding", titles: Mapping[str, str] | None = None
) -> p9.ggplot:
    """Draw metrics as tiles, model size on the y axis and checkpoint on the x axis, a panel per task.

    `metrics` is the table of `tables.METRICS` with the columns of `metrics.direction.with_properties`, one
    metric per task; models are ordered by `parameters`, the smallest at the top; `titles` are titles of
    panels by task. The colour is the difference from the chance level, or, in a task without one, from the
    model's first checkpoint. Blue is better (higher, if neither end is). Panels of one metric share a scale
    of colours; if scales differ, each panel states its own. Grey tiles have no cell. Tiles contain their
    value if it fits, and if the figure then fits a page. A checkpoint is labelled by its step and training
    tokens, or by its name; columns are in order of tokens, then steps.

    Raises `FigureError` when no row has a value.
    """
    rows = _with_difference(choose(metrics, parameters))
    names = _checkpoint_names(rows)
    tasks, sizes = rows["task"].cat.categories, rows["size"].cat.categories
    beside = 1.0 + max(text_cm(size, POINTS - 1) for size in sizes)
    below = 2.6 + max(text_cm(name, POINTS - 1) for name in names.values())
    written, columns, panel_cm, tile_cm = _layout(len(tasks), len(sizes), len(names), beside, below)
    scales = rows.drop_duplicates(["metric", "reference"])
    one = len(scales) == 1
    rows = rows.assign(
        column=pd.Categorical(_key(rows), list(names), ordered=True),
        size=pd.Categorical(rows["size"].astype(str), sizes[::-1], ordered=True),
        ink=[_ink(value) for value in rows["shade"]],
        text=[_short(value, share) for value, share in zip(rows["value"], rows["is_share"], strict=True)],
    )
    ticks = list(names)[:: -(-len(names) * columns // TICKS_ACROSS)]
    values = p9.geom_text(p9.aes(label="text", color="ink"), size=POINTS - 2, show_legend=False)
    strips = _strips(rows, panel_titles(rows, titles, panel_cm), one, panel_cm)
    across = f"difference {scales['reference'].iloc[0]}" if one else "difference, on the scale of each panel"
    return (
        p9.ggplot(rows, p9.aes("column", "size"))
        + p9.geom_tile(p9.aes(fill="shade"))
        + ([values] if written else [])
        + p9.facet_wrap("task", ncol=columns, labeller=lambda task: strips[task])
        + p9.scale_x_discrete(breaks=ticks, labels=[names[key] for key in ticks], expand=(0, 0))
        + p9.scale_y_discrete(expand=(0, 0))
        + p9.scale_color_identity()
        + p9.scale_fill_gradientn(
            COLOURS,
            limits=(-1, 1),
            breaks=[-1, 0, 1],
            labels=_bar_labels(scales),
            na_value=UNKNOWN,
            name=f"{shared_label(rows)}\n{across}",
        )
        + p9.labs(x=_axis_title(rows), y="Model")
        + theme_paper(
            min(PAGE_CM, max(beside + columns * (panel_cm + 0.3), LEGEND_CM)),
            _height(len(tasks), columns, len(sizes), tile_cm, lines_of(strips)) + below,
        )
        + theme_tiles()
        + p9.theme(axis_text_x=p9.element_text(rotation=90, ha="center", va="top"))
    )


def _with_difference(rows: pd.DataFrame) -> pd.DataFrame:
    """Add `reference`, `difference`, `reach` of its scale, and `shade`, from -1 (worst) to 1 (best)."""
    known = rows.groupby("task", observed=True)["chance"].transform(lambda chance: chance.notna().all())
    first = rows.groupby(["task", "size"], observed=True)["value"].transform("first")
    difference = rows["value"] - rows["chance"].where(known, first)
    reference = known.map({True: CHANCE, False: FIRST})
    largest = difference.abs().groupby([rows["metric"], reference]).transform("max")
    reach = [max(0.05, math.ceil(value * 20) / 20) for value in largest]
    turned = difference.where(~rows["lower_is_better"], -difference)
    return rows.assign(reference=reference, difference=difference, reach=reach, shade=turned / reach)


def _strips(rows: pd.DataFrame, titles: Mapping[str, str], one: bool, width_cm: float) -> dict[str, str]:
    """Task → panel title: of several scales, with what its colours are and where they end."""
    panels = rows.drop_duplicates("task")
    parts = zip(*(panels[key] for key in ("task", "reference", "reach")), strict=True)
    return {
        task: titles[task]
        if one
        else f"{titles[task]}\n{wrapped(f'{reference}: ±{reach:.3g}', width_cm, bold=True)}"
        for task, reference, reach in parts
    }


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
    columns = rows.sort_values(["tokens", "step"], kind="stable").drop_duplicates(["tokens", "checkpoint"])
    names = [
        (f"{step:.0f} " if step > 0 else f"{checkpoint} ") + f"({compact(tokens)})"
        if tokens > 0
        else checkpoint
        for checkpoint, step, tokens in columns[["checkpoint", "step", "tokens"]].itertuples(index=False)
    ]
    return dict(zip(_key(columns), names, strict=True))


def _bar_labels(scales: pd.DataFrame) -> list[str]:
    """Labels of both ends and the middle of the colour bar; numbers if there is only one scale."""
    judged = bool((scales["direction"] != "").all())
    if len(scales) > 1:
        return ["worse", "0", "better"] if judged else ["worse or lower", "0", "better or higher"]
    reach, lower = scales["reach"].iloc[0], bool(scales["lower_is_better"].iloc[0])
    worst, best = f"{'+' if lower else '−'}{reach:.2f}", f"{'−' if lower else '+'}{reach:.2f}"
    return [f"{worst} (worse)", "0", f"{best} (better)"] if judged else [worst, "0", best]


def _axis_title(rows: pd.DataFrame) -> str:
    if (rows["tokens"] > 0).any():
        return "Checkpoint: step (training tokens)"
    return "Checkpoint (training tokens 0 or unknown: set tokens_per_step)"


def _short(value: float, is_share: bool) -> str:
    """A value that fits its tile: `.44` of shares, else three digits."""
    if is_share:
        return f"{value:.2f}".removeprefix("0")
    value += 0.0 if abs(value) >= 0.005 else -value  # not -0.00
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else compact(value)


def _ink(shade: float) -> str:
    """Black or white, whichever has the higher contrast (WCAG) with the tile of this shade, -1 to 1."""
    red, green, blue = to_rgb(str(gradient_n_pal(COLOURS)([(shade + 1) / 2])[0]))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # 1.05 / (L + 0.05) is the contrast with white, (L + 0.05) / 0.05 with black.
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def _layout(
    tasks: int, sizes: int, checkpoints: int, beside: float, below: float
) -> tuple[bool, int, float, float]:
    """Whether tiles contain values; panels side by side; width of a panel and height of a tile in cm.

    `beside` and `below` are the widths and heights of what is not a panel. Where the values do not fit, there
    are two panels side by side, or as many more as make the figure fit a page.
    """
    widest = max(1, int((PAGE_CM - beside) // NARROWEST_CM))
    if checkpoints <= TILES_ACROSS:
        most = int((PAGE_CM - beside) // max(TILE_CM * checkpoints, NARROWEST_CM))
        columns = panel_columns(tasks, max(1, most))
        panel = min((PAGE_CM - beside) / columns - 0.3, max(0.6 * checkpoints, NARROWEST_CM))
        if _height(tasks, columns, sizes, TILE_HIGH_CM, TITLE_LINES) + below <= PAGE_HEIGHT_CM:
            return True, columns, panel, TILE_HIGH_CM
    lowest, highest = LOW_TILES_CM
    columns = next(
        (
            columns
            for columns in range(min(2, widest), widest)
            if _height(tasks, columns, sizes, lowest, TITLE_LINES) + below <= PAGE_HEIGHT_CM
        ),
        widest,
    )
    columns = panel_columns(tasks, columns)
    room = (PAGE_HEIGHT_CM - below - _height(tasks, columns, 0, 0, TITLE_LINES)) / -(-tasks // columns)
    tile = max(lowest, min(highest, room / max(sizes, 2)))
    return False, columns, (PAGE_CM - beside) / columns - 0.3, tile


def _height(tasks: int, columns: int, sizes: int, tile_cm: float, lines: int) -> float:
    """Height in cm of panels with their titles."""
    return -(-tasks // columns) * (max(sizes, 2) * tile_cm + 0.4 + 0.3 * lines)
