"""Arms of runs compared: a matrix of differences coloured by evidence, and differences over training."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import plotnine as p9
from mizani.breaks import breaks_extended

from ebbtide.errors import FigureError
from ebbtide.figures.end_labels import end_labels
from ebbtide.figures.frame import key_columns, labeller, lines_of, panel_grid
from ebbtide.figures.theme import (
    EXPAND,
    GREY,
    PAGE_CM,
    POINTS,
    compact,
    footnote,
    palette,
    shapes,
    text_cm,
    theme_paper,
    wrapped,
)
from ebbtide.titles import title

# Evidence of a tile → its colour and that of its number; as in other figures, blue is better, orange worse.
EVIDENCE = {
    "wins, p ≤ 0.001": ("#1f5fa6", "white"),
    "wins": ("#9cc5e6", "black"),
    "equivalent": ("#cfcfcf", "black"),
    "undecided": ("#ffffff", "black"),
    "loses": ("#f0bd86", "black"),
    "loses, p ≤ 0.001": ("#a6500a", "white"),
}
STRONG = 0.001
NAMES_CM = 4.0  # of tasks beside the matrix
BESIDE_CM = 1.2  # of the matrix, without names
TILE_CM = 1.3  # of the narrowest tile with its number and mark
PANEL_CM = 3.0  # height of a panel of differences over training
LABEL_CM = 1.0  # from one label of tokens to the next
ENDS = ["low", "high"]
MOST_BANDS = 3  # lines with bands per panel; with more, they are thin and only the largest size has one
ALL_SIZES = "all"
MARKS = {"wins": " ▲", "loses": " ▼", "equivalent": " ≈"}  # the verdict without colour


def plot_run_matrix(
    verdicts: pd.DataFrame, titles: Mapping[str, str] | None = None, width_cm: float = PAGE_CM
) -> p9.ggplot:
    """Draw run_verdicts.tsv as tiles: a panel per arm, a row per task and suite, a column per size.

    `verdicts` has the columns of `metrics.direction.with_properties`. The number is the difference, in points
    for shares; the colour is its evidence, adjusted over all tiles. Suites are below the tasks. `width_cm` is
    that of a page, or of a column, in which the tiles of up to about four sizes fit.

    Raises `FigureError` for an empty table.
    """
    if verdicts.empty:
        raise FigureError("run_verdicts.tsv: no row; no task is known for runs of two arms of one size.")
    names = _names(verdicts, titles, verdicts["metric"].nunique() > 1)
    names_cm = min(NAMES_CM, 0.28 * width_cm, max(text_cm(name, POINTS - 1) for name in names))
    if BESIDE_CM + names_cm + TILE_CM * verdicts["size"].nunique() > width_cm:
        names_cm, width_cm = NAMES_CM, PAGE_CM
    rows = verdicts.assign(
        row=names.map(
            lambda name: "\n".join(wrapped(part, names_cm, POINTS - 1) for part in name.split("\n"))
        ),
        evidence=[_evidence(v, p) for v, p in zip(verdicts["verdict"], verdicts["p_adjusted"], strict=True)],
        text=[
            f"{_number(value, share)}{MARKS.get(verdict, '')}"
            for value, share, verdict in zip(
                verdicts["difference"], verdicts["is_share"], verdicts["verdict"], strict=True
            )
        ],
        panel=verdicts["arm"] + " − " + verdicts["reference"],
    )
    rows["ink"] = rows["evidence"].map({name: ink for name, (_, ink) in EVIDENCE.items()})
    downwards = list(dict.fromkeys(rows.sort_values("suite", key=lambda s: s != "", kind="stable")["row"]))
    sizes, panels = list(dict.fromkeys(rows["size"])), list(dict.fromkeys(rows["panel"]))
    rows = rows.assign(
        row=pd.Categorical(rows["row"], downwards[::-1], ordered=True),
        size=pd.Categorical(rows["size"], sizes, ordered=True),
        panel=pd.Categorical(rows["panel"], panels, ordered=True),
    )
    legend = list(EVIDENCE)
    beside = BESIDE_CM + max(text_cm(name, POINTS - 1) for name in downwards)
    tile = min(2.4, max(TILE_CM, (width_cm - beside) / (len(sizes) * len(panels))))
    columns = max(1, min(len(panels), int((width_cm - beside) / (tile * len(sizes)))))
    width = min(width_cm, max(14.0, beside + columns * tile * len(sizes)))
    note, note_cm = footnote(_note(rows), width)
    keys = key_columns(legend, width)
    lines = sum(0.2 + 0.28 * (name.count("\n") + 1) for name in downwards)
    height = -(-len(panels) // columns) * (0.9 + lines) + 2.2 + 0.4 * -(-len(legend) // keys) + note_cm
    return (
        p9.ggplot(rows, p9.aes("size", "row"))
        + p9.geom_tile(p9.aes(fill="evidence"), color="#e0e0e0", size=0.4)
        + p9.geom_text(p9.aes(label="text", color="ink"), size=POINTS - 0.5, show_legend=False)
        + p9.facet_wrap("panel", ncol=columns)
        + p9.scale_x_discrete(expand=(0, 0), labels=[_size(size) for size in sizes])
        + p9.scale_y_discrete(expand=(0, 0))
        + p9.scale_color_identity()
        + p9.scale_fill_manual(
            values={name: fill for name, (fill, _) in EVIDENCE.items()}, limits=legend, name="Evidence"
        )
        + p9.labs(x="Size (parameters)", y="Task or suite")
        + theme_paper(width, height)
        + p9.theme(panel_grid_major=p9.element_blank(), legend_key=p9.element_rect(color="#b0b0b0"))
        + p9.guides(fill=p9.guide_legend(ncol=keys))
        + note
    )


def plot_run_curves(
    differences: pd.DataFrame,
    alpha: float = 0.05,
    titles: Mapping[str, str] | None = None,
    width_cm: float = PAGE_CM,
) -> p9.ggplot:
    """Draw the rows of scope `point` of run_differences.tsv over training tokens, with their intervals.

    `differences` has the columns of `metrics.direction.with_properties`. There is a panel per arm, task and
    metric, and a line per size, with its name at its end if all names fit, else in a legend. `width_cm` is
    that of a page or of a column.

    Raises `FigureError` when no row has a difference.
    """
    rows = differences[(differences["scope"] == "point") & differences["difference"].notna()]
    rows = rows[rows["tokens"] > 0]
    if rows.empty:
        raise FigureError(
            "run_differences.tsv: no difference at a checkpoint with known training tokens; "
            "set tokens_per_step."
        )
    several, arms = rows["metric"].nunique() > 1, list(dict.fromkeys(rows["arm"]))
    sizes = list(dict.fromkeys(rows["size"]))
    scale = np.where(rows["is_share"], 100.0, 1.0)
    pairs = len(rows[["arm", "task", "suite", "metric"]].drop_duplicates())
    grid = panel_grid(pairs, width_cm, own=True, alone_cm=12.0)
    width = grid.width_cm
    names = _names(rows, titles, several).map(
        lambda name: wrapped(name.replace("\n", " "), grid.panel_cm, bold=True)
    )
    if len(arms) > 1:
        of_arms = rows["arm"] + " − " + rows["reference"]
        names = names + "\n" + of_arms.map(lambda name: wrapped(name, grid.panel_cm, bold=True))
    rows = rows.assign(
        panel=pd.Categorical(names, list(dict.fromkeys(names)), ordered=True),
        size=pd.Categorical(rows["size"], sizes, ordered=True),
        **{key: rows[key] * scale for key in ("difference", "low", "high")},
    )
    panels = list(rows["panel"].cat.categories)
    banded = rows[rows["low"].notna() & rows["size"].isin(sizes if len(sizes) <= MOST_BANDS else sizes[-1:])]
    unit = "points" if rows["is_share"].all() else "points for shares, else units of the metric"
    drawn = pd.concat([rows.set_index("panel")["difference"], *(banded.set_index("panel")[e] for e in ENDS)])
    drawn = drawn.groupby(level=0, observed=True)
    title_cm = 0.2 + 0.3 * lines_of({panel: panel for panel in panels})
    keys = key_columns(sizes, width)
    others_cm = 1.5 + 0.45 * -(-len(sizes) // keys)
    panel_height = grid.panel_height(PANEL_CM, title_cm, others_cm + 0.9)
    named = end_labels(
        rows.assign(x=rows["tokens"], y=rows["difference"]),
        "panel",
        pd.DataFrame({"low": drawn.min().clip(upper=0), "high": drawn.max().clip(lower=0)}),
        rows["tokens"],
        (grid.panel_cm, panel_height),
    )
    note, note_cm = footnote(
        f"{named.note('Size (parameters)')} Bands: {100 * (1 - alpha):g} % intervals of single checkpoints"
        f"{f', only of {sizes[-1]}' if len(sizes) > MOST_BANDS else ''}. {_sources(rows)}{_direction(rows)}",
        width,
    )
    height = grid.deep * (panel_height + title_cm) + (1.2 if named else others_cm) + note_cm
    crowded = len(sizes) > MOST_BANDS
    key = None if named else p9.guide_legend(ncol=keys)
    sign = f"{arms[0]} − {rows['reference'].iloc[0]}" if len(arms) == 1 else "arm − reference"
    return (
        p9.ggplot(rows, p9.aes("tokens", "difference", color="size", fill="size", shape="size", group="size"))
        + p9.geom_hline(yintercept=0, linetype="dashed", color=GREY, size=0.4)
        + p9.geom_ribbon(p9.aes(ymin="low", ymax="high"), banded, alpha=0.15, color="none", show_legend=False)
        + p9.geom_line(size=0.35 if crowded else 0.5)
        + named.leaders
        + p9.geom_point(size=0.8 if crowded else 1.3)
        + named.names
        + p9.facet_wrap("panel", ncol=grid.columns, scales="free_y")
        + p9.scale_x_continuous(
            labels=lambda ticks: [compact(tick) if tick else "0" for tick in ticks],
            breaks=_token_breaks(rows["tokens"].min(), rows["tokens"].max(), named.share * grid.panel_cm),
            expand=(EXPAND, 0, named.right, 0),
        )
        + p9.scale_color_manual(palette(len(sizes)), name="Size (parameters)", guide=key)
        + p9.scale_fill_manual(palette(len(sizes)), name="Size (parameters)", guide=key)
        + p9.scale_shape_manual(shapes(len(sizes)), name="Size (parameters)", guide=key)
        + p9.labs(x="Training tokens", y=wrapped(f"Difference {sign} ({unit})", height - 1.5))
        + theme_paper(width, height)
        + note
    )


def _token_breaks(first: float, last: float, panel_cm: float) -> list[float]:
    """The last checkpoint and round numbers of tokens before it, as many as fit."""
    if first == last:
        return [last]
    cm = 0.85 * panel_cm / (last - first)
    for wanted in (5, 4, 3):
        ticks = [tick for tick in breaks_extended(wanted)((first, last)) if first <= tick < last]
        ticks = [tick for tick in ticks if (last - tick) * cm >= LABEL_CM]
        if all((other - one) * cm >= LABEL_CM for one, other in pairwise(ticks)):
            break
    return [*ticks, last]


def _names(rows: pd.DataFrame, titles: Mapping[str, str] | None, several: bool) -> pd.Series:
    """The task or suite of each row, with its metric if there are several."""
    name = labeller(titles)
    named = [
        name(task) if task else f"{title(suite)} (suite)"
        for task, suite in zip(rows["task"], rows["suite"], strict=True)
    ]
    metrics = [f"\n{title(metric)}" if several else "" for metric in rows["metric"]]
    return pd.Series([a + b for a, b in zip(named, metrics, strict=True)], index=rows.index)


def _evidence(verdict: str, p: float) -> str:
    return f"{verdict}, p ≤ {STRONG:g}" if verdict in ("wins", "loses") and p <= STRONG else verdict


def _number(value: float, share: bool) -> str:
    """A difference with its sign: in points with one digit for shares, else with two significant digits."""
    if pd.isna(value):
        return "?"
    text = f"{100 * value:+.1f}" if share else f"{value:+.2g}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _size(size: str) -> str:
    return "all sizes" if size == ALL_SIZES else size


def _note(rows: pd.DataFrame) -> str:
    shares = "Differences of shares are in percentage points. " if rows["is_share"].any() else ""
    without = rows["reason"].str.contains("noise of seeds is not known").any()
    seeds = (
        "The noise of seeds is unknown (one run per arm): the evidence is about these runs, not their "
        "recipes."
        if without
        else ""
    )
    return f"▲ wins, ▼ loses, ≈ equivalent. {shares}p is adjusted. {seeds}{_direction(rows)}".strip()


def _direction(rows: pd.DataFrame) -> str:
    lower = [title(m) for m in dict.fromkeys(rows.loc[rows["lower_is_better"], "metric"])]
    return f" Lower is better: {', '.join(lower)}." if lower else ""


def _sources(rows: pd.DataFrame) -> str:
    sources: Sequence[str] = sorted(set(rows["source_of_noise"]) - {""})
    return f"Noise that they contain: {' / '.join(sources)}." if sources else ""
