"""Tasks by signal-to-noise ratio: a row per task, a colour per size, a shape per verdict."""

from collections.abc import Mapping

import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import key_columns, labeller, metric_label
from ebbtide.figures.theme import PAGE_CM, PAGE_HEIGHT_CM, POINTS, footnote, palette, theme_paper, wrapped

# Beginning of the verdict → its shape, from the best to the worst.
SHAPES = {"use": "o", "use averaged": "^", "watch by proxy": "D", "cannot tell": "x"}
NAMES = 0.3  # share of the width for the tasks beside the ratios
LEAST, MOST = 0.1, 1000.0  # the axis; intervals may reach 0


def plot_resolution(
    resolution: pd.DataFrame,
    alpha: float = 0.05,
    titles: Mapping[str, str] | None = None,
    width_cm: float = PAGE_CM,
) -> p9.ggplot:
    """Draw `snr_within` with its interval of every row of resolution.tsv, the best task at the top.

    `resolution` has the columns of `metrics.direction.with_properties`; `width_cm` is that of a page or of a
    column. Raises `FigureError` if no row has a ratio.
    """
    rows = resolution[resolution["snr_within"].notna()].copy()
    if rows.empty:
        raise FigureError(f"resolution.tsv: no row has a signal-to-noise ratio: {_why_none(resolution)}.")
    name = labeller(titles)
    rows["row"] = rows["task"].map(name)
    several = rows.groupby("task")["metric"].transform("nunique") > 1
    labels = [metric_label(*row) for row in rows[["metric", "unit", "direction"]].itertuples(index=False)]
    rows.loc[several, "row"] += ": " + pd.Series(labels, rows.index)[several]
    rows["row"] = rows["row"].map(lambda row: wrapped(row, NAMES * width_cm, POINTS - 1))
    order = rows.groupby("row")["snr_within"].max().sort_values().index
    sizes = list(dict.fromkeys(resolution["size"].astype(str)))
    rows = rows.assign(
        row=pd.Categorical(rows["row"], order, ordered=True),
        size=pd.Categorical(rows["size"].astype(str), sizes, ordered=True),
        kind=pd.Categorical(rows["verdict"].map(_kind), list(SHAPES), ordered=True),
        low=rows["snr_within_low"].clip(LEAST, MOST),
        high=rows["snr_within_high"].clip(LEAST, MOST),
        middle=rows["snr_within"].clip(LEAST, MOST),
    )
    kinds = [kind for kind in SHAPES if (rows["kind"] == kind).any()]
    note, note_cm = footnote(
        f"Bars: {100 * (1 - alpha):g} % interval. A ratio is the spread of {_spread_of(rows)} over the "
        "scatter of checkpoints within a run. The verdicts of resolution.tsv also count the "
        "noise of examples.",
        width_cm,
    )
    place = p9.position_dodge(width=0.75)
    one_column = width_cm < PAGE_CM
    key_cm = width_cm if one_column else width_cm / 2 - 1  # legends one above the other, or side by side
    of_sizes, of_kinds = key_columns(sizes, key_cm), key_columns(kinds, key_cm)
    key_rows = [-(-len(sizes) // of_sizes), -(-len(kinds) // of_kinds)]
    legends = 0.9 + 0.45 * sum(key_rows) if one_column else 0.45 * max(key_rows)
    row_cm = min(0.55 * max(1.0, 0.4 * len(sizes)), max(0.55, (PAGE_HEIGHT_CM - 5.0) / len(order)))
    height = row_cm * len(order) + 2.2 + legends + note_cm
    return (
        p9.ggplot(rows, p9.aes("row", "middle", color="size", group="size"))
        + p9.geom_linerange(p9.aes(ymin="low", ymax="high"), position=place, size=0.5)
        + p9.geom_point(p9.aes(shape="kind"), position=place, size=1.9)
        + p9.coord_flip()
        + p9.scale_y_log10(labels=lambda ticks: [f"{tick:g}" for tick in ticks])
        + p9.scale_color_manual(
            palette(len(sizes)),
            limits=sizes,
            name="Size (parameters)",
            guide=p9.guide_legend(ncol=of_sizes),
        )
        + p9.scale_shape_manual(
            {kind: SHAPES[kind] for kind in kinds},
            limits=kinds,
            name="Verdict",
            guide=p9.guide_legend(ncol=of_kinds),
        )
        + p9.labs(x="", y="Signal-to-noise ratio (log scale)")
        + theme_paper(width_cm, max(height, 5.0))
        + p9.theme(legend_box="vertical" if one_column else "horizontal")
        + note
    )


def _kind(verdict: str) -> str:
    return next(kind for kind in reversed(SHAPES) if verdict.startswith(kind))


def _spread_of(rows: pd.DataFrame) -> str:
    kinds = sorted(set(rows["signal_of"]))
    return " or ".join({"arms": "the arms of a size", "sizes": "the sizes"}[kind] for kind in kinds)


def _why_none(resolution: pd.DataFrame) -> str:
    """The reasons in the notes, without repeats."""
    if resolution.empty:
        return "the table has no rows"
    reasons = dict.fromkeys(
        note.removeprefix("no ")
        for notes in resolution["note"]
        for note in notes.split("; ")
        if note.startswith(("no noise", "no signal", "no snr_within"))
    )
    return "; ".join(reasons)
