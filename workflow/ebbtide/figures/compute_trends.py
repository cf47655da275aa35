"""Training compute over time, the share of academia, and the timeline of large models."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.theme import GREY, PAGE_CM, POINTS, compact, powers_of_ten, theme_paper

ALL = "(all)"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe & Ito 2008
SHAPES = ("o", "^", "s", "D", "v", "P")
DASHES = ("solid", "dashed", "dotted", "dashdot")
STEP_CM = 0.62  # of a model of the timeline


def plot_compute(models: pd.DataFrame, trends: pd.DataFrame) -> p9.ggplot:
    """Draw training compute against the day of publication, and a line per sector with its doubling time.

    Parameters
    ----------
    models, trends
        Rows of compute_models.tsv and compute_trends.tsv.

    Raises
    ------
    FigureError
        No model is in a trend.
    """
    rows = models[models["reason"].fillna("") == ""]
    if rows.empty:
        raise FigureError("compute_models.tsv: no model is in a trend; column reason says why.")
    labels = {row["sector"]: _label(row) for row in trends.to_dict("records") if row["sector"] != ALL}
    names = list(labels)
    lines = trends[trends["first_flops"].notna() & (trends["sector"] != ALL)]
    ends = [
        lines.assign(date=pd.to_datetime(lines[f"{end}_date"]), flops=lines[f"{end}_flops"])
        for end in ("first", "last")
    ]
    key: dict[str, Any] = {
        "name": "Sector",
        "labels": list(labels.values()),
        "guide": p9.guide_legend(ncol=1),
    }
    return (
        p9.ggplot(_with_sector(rows, names), p9.aes("date", "flops", color="sector"))
        + p9.geom_point(p9.aes(shape="sector"), size=1.3, alpha=0.6, stroke=0)
        + p9.geom_line(p9.aes(group="sector"), _with_sector(pd.concat(ends), names), size=0.9)
        + p9.scale_y_log10(labels=powers_of_ten)
        + p9.scale_x_datetime(date_labels="%Y")
        + p9.scale_color_manual(_cycle(COLOURS, names), **key)
        + p9.scale_shape_manual(_cycle(SHAPES, names), **key)
        + p9.labs(x="Day of publication", y="Training compute (FLOPs, log scale)")
        + theme_paper(PAGE_CM, 9.0 + 0.4 * len(names))
    )


def plot_academia(academia: pd.DataFrame) -> p9.ggplot:
    """Draw the share of academia over time: a panel per rule, a line per number of robustness iterations.

    `academia` has the rows of academia.tsv. Raises `FigureError` if there are none.
    """
    if academia.empty:
        raise FigureError("academia.tsv: no row; the share of academia needs more models.")
    counts = list(academia["iterations"].unique())
    names = [f"{count} robustness iterations" for count in counts]
    rows = academia.assign(
        date=pd.to_datetime(academia["date"]),
        curve=pd.Categorical(academia["iterations"].map(dict(zip(counts, names, strict=True))), names),
        panel=academia["rule"].map(lambda rule: f"Academia: {rule}"),
    )
    return (
        p9.ggplot(rows, p9.aes("date", "share", color="curve", linetype="curve"))
        + p9.geom_line(size=0.9)
        + p9.facet_wrap("panel", ncol=2)
        + p9.scale_x_datetime(date_labels="%Y")
        + p9.scale_color_manual(_cycle(COLOURS, names), name="LOWESS with")
        + p9.scale_linetype_manual(_cycle(DASHES, names), name="LOWESS with")
        + p9.expand_limits(y=[0, 1])  # LOWESS is not confined to them
        + p9.labs(x="Day of publication", y="Share of academia")
        + theme_paper(PAGE_CM, 7.5)
    )


def plot_timeline(timeline: pd.DataFrame) -> p9.ggplot:
    """Draw the models of the timeline by day of publication, the first at the top, with their sizes.

    `timeline` has the rows of timeline.tsv. Raises `FigureError` if none is shown.
    """
    rows = timeline[timeline["shown"].astype(bool)].sort_values("date")
    if rows.empty:
        raise FigureError("timeline.tsv: no model is shown; column reason says why.")
    places = [f"{i}" for i in range(len(rows))]  # several rows may have one name
    words = [
        f"{row['name']}, {compact(row['parameter_count'])} ({str(row['organization']).replace(',', ', ')})"
        for row in rows.fillna({"organization": "unknown"}).to_dict("records")
    ]
    days = pd.to_datetime(rows["date"])
    rows = rows.assign(place=pd.Categorical(places, places[::-1], ordered=True), date=days, start=days.min())
    return (
        p9.ggplot(rows, p9.aes("date", "place"))
        + p9.geom_segment(p9.aes(x="start", xend="date", yend="place"), color=GREY, size=0.3)
        + p9.geom_point(size=2.2, color=COLOURS[0])
        + p9.scale_y_discrete(labels=words[::-1])
        + p9.scale_x_datetime(date_labels="%b %Y")
        + p9.labs(x="Day of publication", y="")
        + theme_paper(PAGE_CM, 2.0 + STEP_CM * len(rows))
        + p9.theme(axis_text_y=p9.element_text(size=POINTS))
    )


def _with_sector(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return the rows with days as times, and the sector with levels in the order of the legend."""
    return rows.assign(date=pd.to_datetime(rows["date"]), sector=pd.Categorical(rows["sector"], names))


def _label(row: Mapping[Any, Any]) -> str:
    """Return a sector with its number of models and its doubling time."""
    about = f"{row['sector']}, {row['n']} models"
    if pd.isna(row["doubling_months"]):
        return f"{about}: no doubling time"
    high = row["doubling_months_high"]
    end = "∞" if pd.isna(high) else f"{high:.1f}"
    interval = f"{row['doubling_months_low']:.1f} to {end}"
    return f"{about}: doubles every {row['doubling_months']:.1f} months ({interval})"


def _cycle(values: tuple[str, ...], names: Iterable[str]) -> list[str]:
    """Return a value per name; they repeat."""
    return [values[i % len(values)] for i, _ in enumerate(names)]
