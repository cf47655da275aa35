"""RMSE of expected ratings against the size of models, with baselines and the law: a panel per task."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import SIZE_TITLES, labeller, panel_columns
from ebbtide.figures.theme import GREY, PAGE_CM, POINTS, compact, theme_paper

LABEL_ROOM = 0.5  # of the width of the models, for labels right of them
LABEL_HEIGHT = 0.035  # of the range of y
LINES = {
    "random_guess": "random guess",
    "constant_3": "constant 3",
    "global_mean": "global mean",
    "item_mean": "item mean",
    "bayes": "Bayes",
    "target_rmse": "target",
}


def plot_ratings(
    ratings: pd.DataFrame,
    laws: pd.DataFrame,
    parameters: str = "non_embedding",
    titles: Mapping[str, str] | None = None,
) -> p9.ggplot:
    """Draw the last checkpoint of every model with its interval, lines at the baselines, and the law.

    Parameters
    ----------
    ratings, laws
        Rows of ratings.tsv and ratings_law.tsv.
    parameters
        The parameter count on the x axis, for its title.
    titles
        Titles of panels by task.

    Raises
    ------
    FigureError
        No model has a known size.
    """
    rows = ratings[ratings["parameters"] > 0].drop_duplicates(["task", "model"], keep="last")
    if rows.empty:
        raise FigureError("ratings.tsv: no model has a known number of parameters.")
    tasks = rows["task"].unique().tolist()
    lines = _lines(rows, laws)
    fitted = _fitted(laws)
    columns = panel_columns(len(tasks), 2)
    width = PAGE_CM if columns > 1 else 11.0

    def panelled(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(panel=pd.Categorical(frame["task"], tasks))

    plot = (
        p9.ggplot(panelled(rows), p9.aes("parameters", "rmse"))
        + p9.geom_hline(p9.aes(yintercept="value"), panelled(lines), color=GREY, size=0.4, linetype="dashed")
        + p9.geom_label(
            p9.aes("at", "height", label="label"),
            panelled(lines),
            size=POINTS - 1,
            color=GREY,
            fill="white",
            label_size=0,
            label_padding=0.05,
            ha="left",
            va="bottom",
        )
        + p9.expand_limits(x=rows["parameters"].max() * _span(rows) ** LABEL_ROOM)
        + p9.geom_linerange(p9.aes(ymin="low", ymax="high"), size=0.7, color="#0072b2")
        + p9.geom_point(size=1.8, color="#0072b2")
        + p9.facet_wrap("panel", ncol=columns, labeller=labeller(titles))
        + p9.scale_x_log10(labels=lambda ticks: [compact(tick) for tick in ticks])
        + p9.labs(
            x=f"{SIZE_TITLES[parameters]} (log scale)",
            y="RMSE of the expected rating",
        )
        + theme_paper(width, 8.5 * -(-len(tasks) // columns) + 0.5)
    )
    if not fitted.empty:
        plot += p9.geom_line(p9.aes("parameters", "rmse"), panelled(fitted), color="#d55e00", size=0.7)
    return plot


def _lines(rows: pd.DataFrame, laws: pd.DataFrame) -> pd.DataFrame:
    """The horizontal lines of each task, with labels right of the models, one above the other."""
    found: list[dict[str, object]] = []
    at = rows["parameters"].max() * _span(rows) ** 0.06
    step = LABEL_HEIGHT * (rows[[name for name in LINES if name in rows]].max().max() - rows["low"].min())
    for task, own in rows.groupby("task", sort=False):
        values = {name: own[name].iloc[0] for name in LINES if name in own}
        values["target_rmse"] = laws.loc[laws["task"] == task, "target_rmse"].max()
        height = -np.inf
        for name, value in sorted(values.items(), key=lambda item: item[1]):
            if pd.notna(value):
                height = max(value, height + step)
                label = f"{LINES[name]} {value:.3f}"
                found.append({"task": task, "value": value, "label": label, "at": at, "height": height})
    return pd.DataFrame(found, columns=["task", "value", "label", "at", "height"])


def _span(rows: pd.DataFrame) -> float:
    """The largest size over the smallest, at least 10."""
    return max(10.0, float(rows["parameters"].max() / rows["parameters"].min()))


def _fitted(laws: pd.DataFrame) -> pd.DataFrame:
    """Points of each law that the data tell, within the sizes that it was fitted to."""
    known = laws[laws["crossing"].notna()]
    found = [
        pd.DataFrame({"task": law["task"], "parameters": sizes, "rmse": law["a"] * sizes ** -law["b"]})
        for law in known.to_dict("records")
        for sizes in [np.geomspace(law["smallest_size"], law["largest_size"], 30)]
    ]
    return pd.concat(found) if found else pd.DataFrame(columns=["task", "parameters", "rmse"])
