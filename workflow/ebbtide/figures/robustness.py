"""The interaction of every regression under every analysis choice: a row per choice, a panel per task."""

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import panel_grid
from ebbtide.figures.theme import GREY, PAGE_CM, POINTS, text_cm, theme_paper, wrapped
from ebbtide.titles import title

GROUP_GAP = 0.6  # rows between groups of choices
ROW_CM = 0.25
SHADE = "#e4e4e4"
COLOURS = {"the same as the base": "#1f5fa6", "another": "#a6500a"}
LARGEST_Z = 37.0  # of the smallest p that a float represents


def plot_robustness(
    table: pd.DataFrame,
    alpha: float = 0.05,
    titles: Mapping[str, str] | None = None,
    width_cm: float = PAGE_CM,
) -> p9.ggplot:
    """Draw the interaction's statistic under every choice in the table of `regression.robustness`.

    The statistic is sign(t) · z, where z is the normal quantile whose two-sided p is the adjusted p of the
    choice. One grey zone, |z| below that of `alpha`, therefore holds for all choices, whatever their degrees
    of freedom and corrections. Dots are filled where the verdict equals the base's; the line is the base. A
    choice that cannot be computed for a task has no dot; one that cannot be computed for any has no row.
    Each panel has its own x axis. `titles` are titles of panels by task; `width_cm` is that of a page or of a
    column.

    Raises `FigureError` when no task has a regression.
    """
    rows = table[(table["term"] == "interaction") & table["survives"].ne("")]
    if rows.empty:
        notes = table.loc[table["group"] == "base", "note"].unique()
        raise FigureError(f"robustness.tsv: no task has a regression ({'; '.join(notes[:3]) or 'no tasks'}).")
    critical = NormalDist().inv_cdf(1 - alpha / 2)
    positions = _positions(rows)
    several = rows.groupby("task", sort=False)["metric"].transform("nunique") > 1
    names = rows["task"].map(lambda task: (titles or {}).get(task, title(task)))
    panel = names + ("-" + rows["metric"].map(title)).where(several, "")
    beside = max(text_cm(choice, POINTS - 1) for choice in positions)
    grid = panel_grid(panel.nunique(), width_cm, beside + 0.1, most=4, least_cm=2.2, alone_cm=PAGE_CM)
    panel = panel.map(lambda name: wrapped(name, grid.panel_cm, bold=True))
    rows = rows.assign(
        z=signed_z(rows["t"], rows["p_adjusted"]),
        position=rows["choice"].map(positions),
        panel=pd.Categorical(panel, panel.unique(), ordered=True),
        verdict=pd.Categorical(np.where(rows["survives"] == "yes", *COLOURS), list(COLOURS)),
    )
    base = rows[rows["group"] == "base"]
    x_title = wrapped("Interaction of size and training: sign(t) · z of the adjusted p", grid.panels_cm)
    key = p9.guide_legend(ncol=1 if grid.one_column else 2)
    low, high = min(positions.values()) - 0.7, max(positions.values()) + 0.7
    lines = panel.str.count("\n").max() + 1
    height = grid.deep * ((high - low) * ROW_CM + 0.7 + 0.3 * lines) + 1.6 + 0.3 * x_title.count("\n")
    zone = pd.DataFrame({"from_": [-critical], "to": [critical], "low": [low], "high": [high]})
    return (
        p9.ggplot(rows, p9.aes("z", "position"))
        + p9.geom_rect(
            p9.aes(xmin="from_", xmax="to", ymin="low", ymax="high"), zone, inherit_aes=False, fill=SHADE
        )
        + p9.geom_vline(xintercept=0, color=GREY, size=0.3)
        + p9.geom_vline(p9.aes(xintercept="z"), base, color=COLOURS["the same as the base"], size=0.4)
        + p9.geom_point(p9.aes(color="verdict", fill="verdict"), shape="o", size=1.5, stroke=0.4)
        + p9.facet_wrap("panel", ncol=grid.columns, scales="free_x")
        + p9.scale_color_manual(COLOURS, name="Verdict", drop=False, guide=key)
        + p9.scale_fill_manual(
            dict(zip(COLOURS, (COLOURS["the same as the base"], "white"), strict=True)),
            name="Verdict",
            drop=False,
            guide=key,
        )
        + p9.scale_x_continuous(breaks=_ticks, minor_breaks=[])
        + p9.scale_y_continuous(
            breaks=list(positions.values()),
            labels=list(positions),
            minor_breaks=[],
            limits=(low, high),
            expand=(0, 0),
        )
        + p9.labs(x=x_title, y="")
        + theme_paper(grid.width_cm, height)
        + p9.theme(
            axis_ticks_major_y=p9.element_blank(),
            strip_text=p9.element_text(size=POINTS - 0.5, weight="bold", ha="left", ma="left"),
            legend_title_position="left",
        )
    )


def signed_z(t: pd.Series, p: pd.Series) -> pd.Series:
    """sign(t) times the normal quantile with two-sided probability p; at most `LARGEST_Z`, when p is 0."""
    quantile = [NormalDist().inv_cdf(1 - x / 2) if x > 1e-15 else _quantile_of_tiny(x) for x in p]
    return pd.Series(np.sign(t) * np.minimum(quantile, LARGEST_Z), t.index)


def _quantile_of_tiny(p: float) -> float:
    """The quantile when 1 − p/2 rounds to 1."""
    return -NormalDist().inv_cdf(p / 2) if p > 0 else LARGEST_Z


def _positions(rows: pd.DataFrame) -> dict[str, float]:
    """Choice → its y, downwards in the order of the table, with gaps between groups."""
    positions: dict[str, float] = {}
    y, last = 0.0, None
    order = rows.drop_duplicates("choice")
    group_order = list(dict.fromkeys(order["group"]))
    order = order.assign(at=order["group"].map(group_order.index)).sort_values("at", kind="stable")
    for group, choice in order[["group", "choice"]].itertuples(index=False):
        y -= 1 + GROUP_GAP * (last is not None and group != last)
        positions[choice], last = y, group
    return positions


def _ticks(limits: tuple[float, float]) -> list[float]:
    """Up to five round values within the limits."""
    low, high = limits
    step = next(s for s in (1, 2, 5, 10, 20, 50) if (high - low) / s <= 4.5 or s == 50)
    return [float(v) for v in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]
