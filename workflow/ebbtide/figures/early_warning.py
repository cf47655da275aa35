"""Falling accuracy and the signals that may fall before it, each scaled by its own fall."""

from collections.abc import Mapping

import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import key_columns, labeller, lines_of, panel_grid
from ebbtide.figures.theme import GREY, PAGE_CM, compact, footnote, theme_paper, wrapped
from ebbtide.figures.training_axis import token_ticks
from ebbtide.titles import title

PANELS = 12
OUTCOME = "accuracy"
# Colour, line and shape of each curve; colours of Okabe & Ito (2008).
LOOKS = {
    "accuracy": ("#000000", "solid", "o"),
    "margin": ("#0072b2", "dashed", "^"),
    "coverage": ("#d55e00", "dotted", "s"),
    "choice_probability": ("#009e73", "dashdot", "D"),
}


def plot_early_warning(
    metrics: pd.DataFrame,
    leads: pd.DataFrame,
    titles: Mapping[str, str] | None = None,
    width_cm: float = PAGE_CM,
) -> p9.ggplot:
    """Draw the curves of every falling task, scaled from the minimum after the fall (0) to the peak (1).

    `metrics` is the table of `tables.METRICS`, `leads` that of early_warning.tsv; `titles` are titles of
    panels by task. Vertical lines mark where half of the fall is over. At most `PANELS` pairs of model and
    task are drawn, those with the largest falls of accuracy; a note says of how many. `width_cm` is that of a
    page or of a column.

    Raises `FigureError` when no lead was tested.
    """
    tested = leads[leads["lead"].notna()]
    if tested.empty:
        raise FigureError(f"early_warning.tsv: nothing to compare: {_why_nothing(metrics, leads)}.")
    falling = tested.drop_duplicates(["model", "task"])
    largest = falling.nlargest(PANELS, "fall", keep="first")
    marks = _marks(tested.merge(largest[["model", "task"]]))
    grid = panel_grid(len(largest), width_cm)
    marks["panel"] = _panels(marks, titles, grid.panel_cm)
    curves = _curves(metrics, marks)
    known = [name for name in LOOKS if name in set(marks["signal"])]
    for frame in (curves, marks):
        frame["signal"] = pd.Categorical(frame["signal"], known, ordered=True)
    looks = [LOOKS[name] for name in known]
    labels = [title(name) for name in known]
    drawn = f"Drawn: the {len(largest)} largest of {len(falling)} falls; early_warning.tsv has all."
    note, note_cm = footnote(drawn if len(falling) > len(largest) else "", grid.width_cm)
    keys = key_columns(labels, grid.width_cm)
    title_cm = 0.7 + 0.3 * lines_of({panel: panel for panel in map(str, marks["panel"].unique())})
    others_cm = 1.35 + 0.45 * -(-len(labels) // keys) + note_cm
    wanted_cm = 3.2 if grid.one_column else 5.8 if len(largest) == 1 else 4.0
    height = grid.deep * (grid.panel_height(wanted_cm, title_cm, others_cm) + title_cm) + others_cm
    y_title = wrapped("Value between minimum (0) and peak (1)", height - 1.5)
    key = p9.guide_legend(ncol=keys)
    return (
        p9.ggplot(curves, p9.aes("tokens", "scaled", color="signal", linetype="signal", shape="signal"))
        + p9.geom_hline(yintercept=[0, 0.5, 1], color="#d0d0d0", size=0.4)
        + p9.geom_line(size=0.6)
        + p9.geom_point(size=1.4)
        + p9.geom_vline(
            p9.aes(xintercept="half", color="signal", linetype="signal"), marks, size=0.6, show_legend=False
        )
        + p9.facet_wrap("panel", ncol=grid.columns, scales="free_x")
        + p9.coord_cartesian(ylim=(-0.15, 1.15))
        + p9.scale_x_log10(
            breaks=lambda ends: token_ticks(ends[0], ends[1], grid.panel_cm, with_ends=False),
            minor_breaks=[],
            labels=lambda ticks: [compact(tick) for tick in ticks],
        )
        + p9.scale_color_manual([look[0] for look in looks], name="", labels=labels, guide=key)
        + p9.scale_linetype_manual([look[1] for look in looks], name="", labels=labels, guide=key)
        + p9.scale_shape_manual([look[2] for look in looks], name="", labels=labels, guide=key)
        + p9.labs(x="Training tokens (log scale)", y=y_title)
        + theme_paper(grid.width_cm, height)
        + p9.theme(
            legend_title=p9.element_blank(),
            panel_grid_major=p9.element_blank(),
            axis_ticks_minor=p9.element_line(color=GREY, size=0.3),
        )
        + note
    )


def _why_nothing(metrics: pd.DataFrame, leads: pd.DataFrame) -> str:
    """The reasons in the notes, most frequent first, or that no task has the metrics."""
    if not leads.empty:
        notes = leads["note"].value_counts()
        return "; ".join(f"{note} ({count} of {len(leads)} signals)" for note, count in notes.head(3).items())
    found = ", ".join(sorted(name for name in metrics["metric"].unique() if "[" not in name))
    signals = ", ".join(name for name in LOOKS if name != OUTCOME)
    return (
        f"no model has results by example of {OUTCOME} and of one of its signals ({signals}); the metrics "
        f"are {found or 'none'}"
    )


def _marks(tested: pd.DataFrame) -> pd.DataFrame:
    """One row per curve: the checkpoints of its peak and its minimum, and the tokens at half of the fall."""
    names = ["model", "task", "signal", "half", "start", "end"]
    signals = tested[["model", "task", "signal", "signal_half", "signal_from", "signal_to"]]
    outcome = tested.drop_duplicates(["model", "task"]).assign(signal=OUTCOME)
    outcome = outcome[["model", "task", "signal", "half", "fall_from", "fall_to"]]
    return pd.concat([frame.set_axis(names, axis=1) for frame in (outcome, signals)], ignore_index=True)


def _panels(marks: pd.DataFrame, titles: Mapping[str, str] | None, panel_cm: float) -> pd.Categorical:
    named = marks["task"].map(labeller(titles)) + ": " + marks["model"]
    named = named.map(lambda name: wrapped(name, panel_cm, bold=True))
    return pd.Categorical(named, named.unique(), ordered=True)


def _curves(metrics: pd.DataFrame, marks: pd.DataFrame) -> pd.DataFrame:
    """The values of the marked curves at checkpoints with training tokens, scaled by their falls."""
    rows = metrics[metrics["tokens"] > 0].rename(columns={"metric": "signal"})
    wanted = ["model", "task", "signal"]
    curves = rows[[*wanted, "checkpoint", "tokens", "value"]].merge(marks, on=wanted)
    values = curves.set_index([*wanted, "checkpoint"])["value"]
    top, low = (
        values.reindex(pd.MultiIndex.from_frame(curves[[*wanted, end]])).to_numpy()
        for end in ("start", "end")
    )
    curves["scaled"] = (curves["value"] - low) / (top - low)
    return curves.sort_values([*wanted, "tokens"], ignore_index=True)
