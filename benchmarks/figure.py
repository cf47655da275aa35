"""One figure: how many times faster each workload is, and what was asked of it."""

from pathlib import Path

import pandas as pd
import plotnine as p9

from ebbtide.figures.theme import GREY, save, theme_paper


def plot_ratios(rows: pd.DataFrame) -> p9.ggplot:
    """Draw `ratio` (with its range over rounds) per workload, and `must` as a line across it.

    `rows` holds `title, model, ratio, ratio_low, ratio_high, must`; the first row is drawn at the top.
    """
    names = [f"{row.title} ({row.model})" for row in rows.itertuples()]
    places = [len(names) - i for i in range(len(names))]
    rows = rows.assign(place=places, below=[p - 0.3 for p in places], above=[p + 0.3 for p in places])
    highest = float(rows[["ratio_high", "must"]].max().max())
    ticks = [tick for tick in (1, 2, 3, 5, 7, 10, 15, 20, 30, 50) if tick <= highest * 1.1]
    return (
        p9.ggplot(rows, p9.aes(y="place"))
        + p9.geom_vline(xintercept=1, linetype="dashed", color=GREY, size=0.4)
        + p9.geom_segment(p9.aes(x="must", xend="must", y="below", yend="above"), color="#a6500a", size=1.0)
        + p9.geom_segment(p9.aes(x="ratio_low", xend="ratio_high", yend="place"), color="#1f5fa6", size=0.6)
        + p9.geom_point(p9.aes(x="ratio"), color="#1f5fa6", size=2.2)
        + p9.scale_x_log10(breaks=ticks, labels=[str(t) for t in ticks], limits=(0.9, highest * 1.15))
        + p9.scale_y_continuous(breaks=places, labels=names, minor_breaks=[], expand=(0, 0.6))
        + p9.labs(
            x="Times faster than lm-eval at its best batch size (CPU time, log scale); bar: required", y=""
        )
        + theme_paper(height_cm=1.8 + 0.8 * len(names))
    )


def save_ratios(rows: pd.DataFrame, beside: Path) -> None:
    """Write the figure as PNG and PDF, named as `beside`."""
    for suffix in (".png", ".pdf"):
        save(plot_ratios(rows), beside.with_suffix(suffix))
