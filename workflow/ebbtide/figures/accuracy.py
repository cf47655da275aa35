"""Accuracy against training tokens: one line per model size, one panel per task."""

from collections.abc import Iterable, Mapping
from statistics import NormalDist

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import SIZE_TITLES, choose, labeller, panel_columns, prune
from ebbtide.figures.theme import GREY, PAGE_CM, POINTS, compact, palette, shapes, theme_paper
from ebbtide.titles import title

Z = NormalDist().inv_cdf(0.975)  # standard errors of a normal interval with a coverage of 95 %
POINTS_PER_LINE = 14  # more would overlap


def plot_accuracy(
    metrics: pd.DataFrame,
    metric: str = "accuracy",
    *,
    parameters: str = "non_embedding",
    titles: Mapping[str, str] | None = None,
    dropped: pd.DataFrame | None = None,
) -> p9.ggplot:
    """Draw `metric` against training tokens (log axis), a line per model and a panel per task.

    A dashed line marks the chance level, a white dot the best checkpoint of each line (the first of equals).
    The line connects all checkpoints; of a long series, only evenly spaced ones have a point. Checkpoints
    whose training tokens are 0 or unknown are left out. Bands (bars for single checkpoints) are 95 %
    intervals, value ± z·stderr, clipped to 0 and 1 for shares.

    Parameters
    ----------
    metrics
        Table of `tables.METRICS` with the columns `lower_is_better` and `is_share`.
    parameters
        Which parameter count orders the models.
    titles
        Task → title of its panel, instead of the one made from its name.
    dropped
        Checkpoints that the study excludes (model, tokens): crosses at the bottom of every panel, in the
        colour of their model.

    Raises
    ------
    FigureError
        `metric` does not occur, or no checkpoint has tokens above 0.
    """
    rows = _on_log_axis(choose(metrics, metric, parameters), metric)
    rows = _with_interval(rows)
    one_line = ["task", "size"]
    lines = rows[rows.groupby(one_line, observed=True)["tokens"].transform("size") > 1]
    one_band = [*one_line, "run"]
    known = rows[rows["stderr"].notna()]
    together = known.groupby(one_band, observed=True)["tokens"].transform("size") > 1
    signed = lines["value"].where(~lines["lower_is_better"], -lines["value"])
    best = lines.loc[signed.groupby([lines[key] for key in one_line], observed=True).idxmax()]
    marked = pd.concat([_spread(line) for _, line in rows.groupby(one_line, observed=True)])
    spread = len(marked) < len(rows)
    marked = rows.loc[marked.index.union(best.index)]
    excluded = _excluded(dropped, rows)
    chance = rows.loc[rows["chance"].notna(), ["task", "chance"]].drop_duplicates()

    tasks, sizes = rows["task"].cat.categories, rows["size"].cat.categories
    ticks, minor = _ticks(rows["tokens"])
    columns = panel_columns(len(tasks), 3)
    width = PAGE_CM if columns > 1 else 11.0
    key_columns = _key_columns(sizes, width)
    key, key_title = p9.guide_legend(ncol=key_columns), SIZE_TITLES[parameters]
    band = p9.aes("tokens", ymin="low", ymax="high", group="band", fill="size")
    bar = p9.aes(ymin="low", ymax="high", group="band")
    layers: list[object] = []
    # plotnine warns about a layer without rows.
    if not chance.empty:
        layers.append(
            p9.geom_hline(p9.aes(yintercept="chance"), chance, linetype="dashed", color=GREY, size=0.4)
        )
    if together.any():
        # Not inheriting leaves the bands without outlines, which would read as lines.
        layers.append(
            p9.geom_ribbon(
                band, known[together], inherit_aes=False, alpha=min(0.2, 1 / len(sizes)), show_legend=False
            )
        )
    if not together.all():
        layers.append(p9.geom_linerange(bar, known[~together], size=0.5, show_legend=False))
    if not lines.empty:
        layers.append(p9.geom_line(data=lines, size=0.35 if spread else 0.6))
    layers.append(p9.geom_point(data=marked, size=1.9, stroke=0))
    if not best.empty:
        layers.append(
            p9.geom_point(data=best, shape="o", fill="white", size=0.75, stroke=0, show_legend=False)
        )
    if not excluded.empty:
        layers.append(p9.geom_point(p9.aes(y="bottom"), excluded, shape="x", size=1.5, show_legend=False))
    return (
        p9.ggplot(rows, p9.aes("tokens", "value", color="size", fill="size", shape="size", group="size"))
        + layers
        + p9.facet_wrap("task", ncol=columns, labeller=labeller(titles))
        + p9.scale_x_log10(
            breaks=ticks, minor_breaks=minor, labels=lambda ticks: [compact(tick) for tick in ticks]
        )
        + p9.scale_color_manual(palette(len(sizes)), name=key_title, guide=key)
        + p9.scale_fill_manual(palette(len(sizes)), name=key_title, guide=key)
        + p9.scale_shape_manual(shapes(len(sizes)), name=key_title, guide=key)
        + p9.labs(x="Training tokens (log scale)", y=title(metric))
        + theme_paper(width, _height(len(tasks), columns, -(-len(sizes) // key_columns)))
    )


def _on_log_axis(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows with tokens above 0."""
    kept = rows[rows["tokens"] > 0]
    if kept.empty:
        found = ", ".join(sorted({f"{row.model} {row.checkpoint}" for row in rows.itertuples()}))
        raise FigureError(
            f"metrics: {metric} against training tokens needs a checkpoint with tokens above 0 "
            f"(found only: {found}, with tokens 0 or unknown). Add a trained checkpoint to the study, "
            "or set tokens_per_step of the models."
        )
    return prune(kept)


def _excluded(dropped: pd.DataFrame | None, rows: pd.DataFrame) -> pd.DataFrame:
    """`dropped` at the bottom of the panels, with the line that each belongs to; only of models drawn."""
    if dropped is None or dropped.empty:
        return rows.iloc[:0]
    sizes = rows.drop_duplicates("model").set_index("model")["size"]
    kept = dropped[dropped["model"].isin(sizes.index) & (dropped["tokens"] > 0)]
    low = rows[["value", "low", "chance"]].min().min()
    high = rows[["value", "high", "chance"]].max().max()
    return kept.assign(size=kept["model"].map(sizes), bottom=low - 0.04 * (high - low))


def _with_interval(rows: pd.DataFrame) -> pd.DataFrame:
    """Add `low`, `high` and `band`: rows of one line between two missing standard errors share a band."""
    reach = Z * rows["stderr"]
    low, high = rows["value"] - reach, rows["value"] + reach
    if rows["is_share"].all():
        low, high = low.clip(0, 1), high.clip(0, 1)
    # A band must not span a checkpoint whose error is unknown.
    run = rows["stderr"].isna().groupby([rows["task"], rows["size"]], observed=True).cumsum()
    return rows.assign(low=low, high=high, run=run, band=rows["size"].astype(str) + " " + run.astype(str))


def _spread(line: pd.DataFrame) -> pd.DataFrame:
    """At most `POINTS_PER_LINE` rows of one line, evenly spaced on the log axis, ends included."""
    if len(line) <= POINTS_PER_LINE:
        return line
    x = np.log(line["tokens"].to_numpy(dtype=float))
    wanted = np.linspace(x[0], x[-1], POINTS_PER_LINE)
    return line.iloc[np.unique(np.abs(x[:, None] - wanted).argmin(axis=0))]  # (rows, wanted)


def _ticks(tokens: pd.Series) -> tuple[list[float], list[float]]:
    """Labelled and minor ticks within the range of `tokens`; a single checkpoint is labelled itself."""
    low, high = tokens.min(), tokens.max()
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    decades = np.log10(high / low)

    def within(digits: Iterable[int], stride: int = 1) -> list[float]:
        ticks = (digit * 10.0**power for power in range(first, last + 1, stride) for digit in digits)
        return [tick for tick in ticks if low <= tick <= high]

    if decades < 0.75:
        return sorted({low, high}), []
    if decades < 2.5:
        return within((1, 2, 5) if decades < 1.2 else (1, 3)), within(range(1, 10))
    return within((1,), stride=max(1, round(decades / 4))), within((1,))


def _key_columns(sizes: pd.Index, width_cm: float) -> int:
    """Legend keys side by side."""
    key_cm = 1.0 + max(len(size) for size in sizes) * POINTS * 0.02
    return max(1, min(len(sizes), int(width_cm // key_cm)))


def _height(tasks: int, columns: int, key_rows: int) -> float:
    """Height in cm: panels with their titles, the x axis, the legend."""
    panel = {1: 6.5, 2: 5.5}.get(columns, 4.2)
    return -(-tasks // columns) * (panel + 0.5) + 1.0 + 0.6 + 0.45 * key_rows
