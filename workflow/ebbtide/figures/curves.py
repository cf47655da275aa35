"""Metrics along training: one line per model size, one panel per task."""

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.figures.end_labels import EndLabels, end_labels
from ebbtide.figures.frame import (
    SIZE_TITLES,
    choose,
    key_columns,
    lines_of,
    panel_grid,
    panel_titles,
    prune,
    shared_label,
)
from ebbtide.figures.recipes import NOTE, with_recipes
from ebbtide.figures.theme import GREY, PAGE_CM, footnote, line_looks, theme_paper, wrapped
from ebbtide.figures.training_axis import on_training_axis

Z = NormalDist().inv_cdf(0.975)  # standard errors of a normal interval with a coverage of 95 %
POINTS_PER_LINE = 14  # more would overlap


def plot_curves(
    metrics: pd.DataFrame,
    *,
    parameters: str = "non_embedding",
    titles: Mapping[str, str] | None = None,
    dropped: pd.DataFrame | None = None,
    seeds: pd.DataFrame | None = None,
    share_y: bool = False,
    width_cm: float = PAGE_CM,
) -> p9.ggplot:
    """Draw metrics along training, a line per model and a panel per task.

    The axis is that of `training_axis`: tokens, steps, or the order of the checkpoints. A dashed line marks
    the chance level, a white dot the best checkpoint of each line (the first of equals). The line connects
    all checkpoints; of a long series, only evenly spaced ones have a point. Bands (bars for single
    checkpoints) are 95 % intervals, value ± z·stderr, clipped to 0 and 1 for shares. Lines are named at their
    ends if the names fit, else in a legend.

    Parameters
    ----------
    metrics
        Table of `tables.METRICS` with the columns of `metrics.direction.with_properties`, one metric per
        task.
    parameters
        Which parameter count orders the models.
    titles
        Task → title of its panel, instead of the one made from its name.
    dropped
        Checkpoints that the study excludes (model, tokens): crosses at the bottom of every panel, in the
        colour of their model. Only on an axis of training tokens.
    seeds
        Rows of seed_curves.tsv: runs that differ only by seed become one line, their mean, with a band over
        examples, dotted lines for the interval over seeds, and a thin line for each run.
    share_y
        Whether panels of one metric share their y axis. Otherwise, each panel shows the range of its own
        values, so that small changes are visible beside large ones.
    width_cm
        `PAGE_CM` or `COLUMN_CM`; see `frame.panel_grid`.

    Raises
    ------
    FigureError
        No row has a value.
    """
    runs = metrics.iloc[:0].assign(label="")
    if seeds is not None and not seeds.empty:
        found = with_recipes(metrics, seeds, Z)
        metrics, runs = found.metrics, found.runs
        if dropped is not None:
            dropped = dropped.assign(model=dropped["model"].replace(found.labels))
    else:
        metrics = metrics.assign(low_seeds=np.nan, high_seeds=np.nan)
    rows, axis = on_training_axis(choose(metrics, parameters))
    rows = _with_interval(prune(rows))
    one_line = ["task", "size"]
    lines = rows[rows.groupby(one_line, observed=True)["x"].transform("size") > 1]
    best = _best(lines)
    some = pd.concat([_spread(line, axis.logarithmic) for _, line in rows.groupby(one_line, observed=True)])
    marked = rows.loc[some.index.union(best.index)]
    chance = rows.loc[rows["chance"].notna(), ["task", "chance"]].drop_duplicates()

    tasks, sizes = rows["task"].cat.categories, rows["size"].cat.categories
    several = rows["metric"].nunique() > 1
    shared = "metric" if share_y else "task"
    excluded = _excluded(dropped, rows, shared)
    grid = panel_grid(len(tasks), width_cm, own=several or not share_y)
    width = grid.width_cm
    strips = panel_titles(rows, titles, grid.panel_cm)
    keys, key_title = key_columns(list(sizes), width), SIZE_TITLES[parameters]
    title_cm, others_cm = 0.2 + 0.3 * lines_of(strips), 1.6 + 0.45 * -(-len(sizes) // keys)
    wanted_cm = 3.4 if grid.one_column else {1: 6.5, 2: 5.5}.get(grid.columns, 4.2)
    panel_height = grid.panel_height(wanted_cm, title_cm, others_cm + 0.9)  # with a note of two lines
    panel = (grid.panel_cm, panel_height)
    named = _named(rows, runs, excluded, shared, panel) if axis.logarithmic else EndLabels()
    looks = line_looks(rows.groupby("size", observed=True)[f"parameters_{parameters}"].max().tolist())
    key = None if named else p9.guide_legend(ncol=keys)
    layers: list[object] = []
    # plotnine warns about a layer without rows.
    if not chance.empty:
        layers.append(
            p9.geom_hline(p9.aes(yintercept="chance"), chance, linetype="dashed", color=GREY, size=0.4)
        )
    if several and share_y:
        layers.append(p9.geom_blank(p9.aes("x", "y"), _reach_of_metric(rows), inherit_aes=False))
    layers += [*_interval_layers(rows), *_seed_layers(rows, lines, runs), *named.leaders]
    if not lines.empty:
        layers.append(
            p9.geom_line(p9.aes(linetype="size"), lines, size=0.35 if len(some) < len(rows) else 0.6)
        )
    layers.append(p9.geom_point(data=marked, size=1.9, stroke=0))
    if not best.empty:
        layers.append(
            p9.geom_point(data=best, shape="o", fill="white", size=0.75, stroke=0, show_legend=False)
        )
    if not excluded.empty:
        layers.append(p9.geom_point(p9.aes(y="bottom"), excluded, shape="x", size=1.5, show_legend=False))
    layers += named.names
    notes = (named.note(key_title), NOTE if len(runs) else "", axis.left_out)
    note, note_cm = footnote(" ".join(filter(None, notes)), width)
    x_title = wrapped(axis.title, width - 1.5)
    height = grid.deep * (panel_height + title_cm) + (1.0 if named else others_cm) + note_cm
    return (
        p9.ggplot(rows, p9.aes("x", "value", color="size", fill="size", shape="size", group="size"))
        + layers
        + p9.facet_wrap(
            "task",
            ncol=grid.columns,
            labeller=lambda task: strips[task],
            scales="free_y" if several or not share_y else "fixed",
        )
        + axis.scale(rows["x"], named.share * grid.panel_cm, right=named.right)
        + p9.scale_color_manual(looks.colours, name=key_title, guide=key)
        + p9.scale_fill_manual(looks.colours, name=key_title, guide=key)
        + p9.scale_shape_manual(looks.shapes, name=key_title, guide=key)
        + p9.scale_linetype_manual(looks.dashes, name=key_title, guide=key)
        + p9.labs(x=x_title, y=wrapped(shared_label(rows), height - 2.5))
        + theme_paper(width, height)
        + note
    )


def _named(
    rows: pd.DataFrame,
    runs: pd.DataFrame,
    excluded: pd.DataFrame,
    of: str,
    panel_cm: tuple[float, float],
) -> EndLabels:
    """Names at the ends of lines in panels that share an axis by `of`."""
    reach = _reach(rows, runs, excluded, of)
    all_x = pd.concat([rows["x"], excluded["x"], runs["tokens"].astype(float)])
    return end_labels(rows.assign(y=rows["value"]), "task", reach, all_x, panel_cm, logarithmic=True)


def _interval_layers(rows: pd.DataFrame) -> list[object]:
    """Bands of known standard errors, and bars where there is no other in their band."""
    known = rows[rows["stderr"].notna()]
    together = known.groupby(["task", "size", "run"], observed=True)["x"].transform("size") > 1
    layers: list[object] = []
    if together.any():
        # Not inheriting leaves the bands without outlines, which would read as lines.
        band = p9.aes("x", ymin="low", ymax="high", group="band", fill="size")
        alpha = min(0.2, 1 / len(rows["size"].cat.categories))
        layers.append(
            p9.geom_ribbon(band, known[together], inherit_aes=False, alpha=alpha, show_legend=False)
        )
    if not together.all():
        bar = p9.aes(ymin="low", ymax="high", group="band")
        layers.append(p9.geom_linerange(bar, known[~together], size=0.5, show_legend=False))
    return layers


def _seed_layers(rows: pd.DataFrame, lines: pd.DataFrame, runs: pd.DataFrame) -> list[object]:
    """Thin lines of runs, and the interval of their mean over seeds; nothing without replicates."""
    if runs.empty:
        return []
    sizes = rows.drop_duplicates("model").set_index("model")["size"]
    task = pd.Categorical(runs["task"], rows["task"].cat.categories, ordered=True)
    single = runs.assign(x=runs["tokens"].astype(float), size=runs["label"].map(sizes), task=task)
    single = single[single.groupby(["task", "model"], observed=True)["x"].transform("size") > 1]
    of_line = p9.aes("x", "value", color="size", group="model")
    layers: list[object] = []
    if not single.empty:
        layers.append(
            p9.geom_line(of_line, single, inherit_aes=False, size=0.2, alpha=0.6, show_legend=False)
        )
    for end in ("low_seeds", "high_seeds"):
        known = lines[lines[end].notna()]
        if not known.empty:
            layers.append(p9.geom_line(p9.aes(y=end), known, linetype="dotted", size=0.5, show_legend=False))
    alone = rows[rows["low_seeds"].notna() & ~rows.index.isin(lines.index)]
    if not alone.empty:
        between = p9.aes(ymin="low_seeds", ymax="high_seeds")
        layers.append(p9.geom_linerange(between, alone, linetype="dotted", size=0.5, show_legend=False))
    return layers


def _best(lines: pd.DataFrame) -> pd.DataFrame:
    """The best checkpoint of every line; none of metrics of which neither end is better."""
    judged = lines[lines["direction"] != ""]
    signed = judged["value"].where(~judged["lower_is_better"], -judged["value"])
    return judged.loc[signed.groupby([judged["task"], judged["size"]], observed=True).idxmax()]


def _reach_of_metric(rows: pd.DataFrame) -> pd.DataFrame:
    """Lowest and highest value of the metric of every task, so that panels of one metric share an axis."""
    low, high = _ends(rows, "metric")
    panels = rows.drop_duplicates("task")[["task", "metric", "x"]]
    return pd.concat([panels.assign(y=panels["metric"].map(end)) for end in (low, high)])


def _ends(rows: pd.DataFrame, of: str) -> tuple[pd.Series, pd.Series]:
    """Lowest and highest place that is drawn, by `of`: metric or task."""
    by = rows[of].astype(str)
    low = rows[["value", "low", "low_seeds", "chance"]].min(axis=1).groupby(by).min()
    high = rows[["value", "high", "high_seeds", "chance"]].max(axis=1).groupby(by).max()
    return low, high


def _reach(rows: pd.DataFrame, runs: pd.DataFrame, excluded: pd.DataFrame, of: str) -> pd.DataFrame:
    """`low` and `high` of each task: the ends of all that is drawn in panels that share an axis by `of`."""
    low, high = _ends(rows, of)
    single = runs.groupby(runs[of].astype(str))["value"]
    low = pd.concat([low, single.min()], axis=1).min(axis=1)
    high = pd.concat([high, single.max()], axis=1).max(axis=1)
    panels = rows.drop_duplicates("task").astype({"task": str, "metric": str}).set_index("task", drop=False)
    ends = pd.DataFrame({"low": panels[of].map(low), "high": panels[of].map(high)})
    if len(excluded):
        ends["low"] = excluded.groupby(excluded["task"].astype(str))["bottom"].min()  # below all else
    return ends


def _excluded(dropped: pd.DataFrame | None, rows: pd.DataFrame, of: str) -> pd.DataFrame:
    """`dropped` of the models drawn, with their lines, at the bottom of panels that share an axis by `of`."""
    if dropped is None or dropped.empty or not (rows["tokens"] > 0).any():
        return rows.iloc[:0]
    sizes = rows.drop_duplicates("model").set_index("model")["size"]
    kept = dropped[dropped["model"].isin(sizes.index) & (dropped["tokens"] > 0)]
    kept = kept.assign(size=kept["model"].map(sizes), x=kept["tokens"])
    low, high = _ends(rows, of)
    panels = rows.drop_duplicates("task")[["task", "metric"]]
    bottom = panels[of].astype(str).map(low - 0.04 * (high - low))
    return kept.merge(panels.assign(bottom=bottom)[["task", "bottom"]], how="cross")


def _with_interval(rows: pd.DataFrame) -> pd.DataFrame:
    """Add `low`, `high` and `band`: rows of one line between two missing standard errors share a band."""
    reach = Z * rows["stderr"]
    low, high = rows["value"] - reach, rows["value"] + reach
    ends = {"low": low, "high": high, "low_seeds": rows["low_seeds"], "high_seeds": rows["high_seeds"]}
    ends = {name: end.clip(0, 1).where(rows["is_share"], end) for name, end in ends.items()}
    # A band must not span a checkpoint whose error is unknown.
    run = rows["stderr"].isna().groupby([rows["task"], rows["size"]], observed=True).cumsum()
    return rows.assign(**ends, run=run, band=rows["size"].astype(str) + " " + run.astype(str))


def _spread(line: pd.DataFrame, logarithmic: bool) -> pd.DataFrame:
    """At most `POINTS_PER_LINE` rows of one line, evenly spaced on the axis, ends included."""
    if len(line) <= POINTS_PER_LINE:
        return line
    x = line["x"].to_numpy(dtype=float)
    x = np.log(x) if logarithmic else x
    wanted = np.linspace(x[0], x[-1], POINTS_PER_LINE)
    return line.iloc[np.unique(np.abs(x[:, None] - wanted).argmin(axis=0))]  # (rows, wanted)
