"""Figures of scaling laws: laws against compute, exponents, error against loss, search, trade-off."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import key_columns
from ebbtide.figures.theme import PAGE_CM, palette, powers_of_ten, shapes, theme_paper
from ebbtide.titles import title

FLOPS = "Training compute 6ND (FLOPs)"
NAMES = {
    "err_avg": "Error, all tasks",
    "err_avg_subset": "Error, task subset",
}
SIGMOID = "error_sigmoid"
LINES_OF_LAWS = {"Gadre et al. 2024": "solid", "sigmoid in the loss": "dashed"}
LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe & Ito


def plot_laws(predictions: pd.DataFrame, curves: pd.DataFrame, train_set: str) -> p9.ggplot:
    """Loss and error of one train set against compute, a line per M (the paper's Figure 1).

    Circles are runs in the fit, crosses are predicted runs; the lines are the fitted laws. Raises
    `FigureError` if no law was fitted.
    """
    points = _of(predictions, train_set, curves["quantity"].unique())
    if not (curves["train_set"] == train_set).any():
        raise _no_law(predictions, train_set)
    lines = curves[curves["train_set"] == train_set]
    ratios = sorted(points["M"].unique())
    points, lines = _labelled(_once(points), ratios), _by_law(_labelled(lines, ratios), "ratio")
    kept = points["C"].agg(["min", "max"])
    lines = lines[lines["C"].between(kept["min"] / 2, kept["max"] * 2)]
    role = np.where(points["in_fit"], "in the fit", "predicted")
    points = points.assign(role=pd.Categorical(role, ["in the fit", "predicted"]))
    return (
        p9.ggplot(points, p9.aes("C", "actual", color="ratio"))
        + p9.geom_line(p9.aes(y="value", group="line", linetype="form"), lines, size=0.4)
        + p9.geom_point(p9.aes(shape="role"), size=1.6, stroke=0.5, fill="white")
        + p9.facet_wrap("panel", ncol=3, scales="free_y")
        + p9.scale_x_log10(labels=powers_of_ten)
        + p9.scale_color_manual(palette(len(ratios)), name="Tokens per parameter M")
        + p9.scale_shape_manual(["o", "x"], name="Run")
        + p9.scale_linetype_manual(LINES_OF_LAWS, name="Law")
        + p9.labs(x=FLOPS, y="Nats per token, or share of wrong answers")
        + theme_paper(PAGE_CM, 8.5)
    )


def plot_exponents(predictions: pd.DataFrame, exponents: pd.DataFrame, quantity: str) -> p9.ggplot:
    """Reducible loss against compute, a straight line per M (the paper's Figure 2)."""
    fitted = exponents.dropna(subset="eta")
    if fitted.empty:
        why = "; ".join(exponents["note"].unique())
        raise FigureError(f"exponents.tsv: no exponents were fitted: {why}.")
    runs = predictions[predictions["quantity"] == quantity].merge(fitted, on=["train_set", "M"])
    runs = runs.assign(above=runs["actual"] - runs["E"])
    runs = runs[runs["above"] > 0]
    ratios = sorted(fitted["M"].unique())
    ends = runs.groupby(["train_set", "M"])["C"].agg(["min", "max"]).reset_index().merge(fitted)
    lines = pd.concat([ends.assign(C=ends["min"]), ends.assign(C=ends["max"])])
    lines = _ratios(lines.assign(above=lines["lambda"] * lines["C"] ** -lines["eta"]), ratios)
    runs = _ratios(runs, ratios)
    return (
        p9.ggplot(runs, p9.aes("C", "above", color="ratio", shape="ratio"))
        + p9.geom_line(p9.aes(group="ratio"), lines, size=0.4, show_legend=False)
        + p9.geom_point(size=1.5, stroke=0)
        + p9.facet_wrap("train_set", ncol=3, labeller=title)
        + p9.scale_x_log10(labels=powers_of_ten)
        + p9.scale_y_log10()
        + p9.scale_color_manual(palette(len(ratios)), name="Tokens per parameter M")
        + p9.scale_shape_manual(shapes(len(ratios)), name="Tokens per parameter M")
        + p9.labs(x=FLOPS, y="Reducible loss L − E (nats per token)")
        + theme_paper(PAGE_CM, 8.0)
    )


def plot_error_of_loss(predictions: pd.DataFrame, curves: pd.DataFrame, quantity: str) -> p9.ggplot:
    """Average error against measured loss, a curve per train set (the paper's Figure 3)."""
    if curves.empty:
        raise _no_law(predictions, *predictions["train_set"].unique())
    losses = predictions[predictions["quantity"] == quantity]
    losses = losses[["train_set", "model", "M", "actual"]].rename(columns={"actual": "loss"})
    errors = [name for name in curves["quantity"].unique() if name != quantity]
    actual = _once(predictions[predictions["quantity"].isin(errors)])
    points = actual.merge(losses, on=["train_set", "model", "M"])
    points = points.assign(panel=points["quantity"].map(_name))
    reach = points["loss"].agg(["min", "max"])
    lines = curves[curves["quantity"].isin(errors)].sort_values(["train_set", "loss"])
    lines = lines[lines["loss"].between(reach["min"] - 0.1, reach["max"] + 0.1)]
    lines = _by_law(lines.assign(panel=lines["quantity"].map(_name)), "train_set")
    sets = sorted(points["train_set"].unique())
    return (
        p9.ggplot(points, p9.aes("loss", "actual", color="train_set", shape="train_set"))
        + p9.geom_line(p9.aes(y="value", group="line", linetype="form"), lines, size=0.5)
        + p9.geom_point(size=1.5, stroke=0, alpha=0.8)
        + p9.facet_wrap("panel", ncol=2, scales="free_y")
        + p9.scale_color_manual(_colours(len(sets)), name="Train set", labels=list(map(title, sets)))
        + p9.scale_shape_manual(shapes(len(sets)), name="Train set", labels=list(map(title, sets)))
        + p9.scale_linetype_manual(LINES_OF_LAWS, name="Law")
        + p9.labs(x=f"{_name(quantity)} (nats per token)", y="Average top-1 error")
        + theme_paper(PAGE_CM, 8.0)
    )


def plot_search(configurations: pd.DataFrame) -> p9.ggplot:
    """The configuration search: every run, the Pareto front, the trend with its band, the runs used."""
    table = configurations.assign(
        state=pd.Categorical(
            np.select(
                [configurations["chosen"], configurations["kept"], configurations["front"]],
                ["used by the study", "on the front", "on the front, left out of the trend"],
                "not on the front",
            ),
            STATES,
            ordered=True,
        )
    ).sort_values("state")
    trend = table.sort_values("C").drop_duplicates("C")
    # Runs that diverged would squeeze the rest into a line.
    top = table.loc[table["front"], "loss"].max() * 1.1
    converged = table[table["loss"] <= top]
    return (
        p9.ggplot(converged, p9.aes("C", "loss"))
        + p9.geom_ribbon(p9.aes(ymin="low", ymax="high"), trend, fill="#cfe2f0")
        + p9.geom_line(p9.aes(y="trend"), trend, color="#1f5fa6", size=0.5)
        + [
            p9.geom_point(p9.aes(color="state", shape="state", size="state"), layer, stroke=0.3)
            for layer in (converged[~converged["front"]], converged[converged["front"]])
        ]
        + p9.scale_x_log10(labels=powers_of_ten)
        + p9.scale_y_log10()
        + p9.scale_color_manual(dict(zip(STATES, STATE_COLOURS, strict=True)), name="Configurations")
        + p9.scale_shape_manual(dict(zip(STATES, ("o", "s", "x", "*"), strict=True)), name="Configurations")
        + p9.scale_size_manual(dict(zip(STATES, (0.8, 1.6, 1.6, 4.0), strict=True)), name="Configurations")
        + p9.guides(
            color=p9.guide_legend(ncol=2), shape=p9.guide_legend(ncol=2), size=p9.guide_legend(ncol=2)
        )
        + p9.labs(x=FLOPS, y="Loss (nats per token)")
        + theme_paper(11.0, 9.0)
    )


STATES = ["not on the front", "on the front", "on the front, left out of the trend", "used by the study"]
STATE_COLOURS = ("#b5b5b5", "#0072b2", "#d55e00", "#000000")


def plot_tradeoff(tradeoff: pd.DataFrame) -> p9.ggplot:
    """Relative error of the prediction of the large runs against compute spent on the fit."""
    table = tradeoff.dropna(subset="relative_error")
    table = table[table["relative_error"].astype(float).between(0, np.inf, inclusive="neither")]
    if table.empty:
        raise FigureError(
            "tradeoff.tsv: no predicted run costs more than every run in the fit: nothing to trade off."
        )
    table = table.assign(
        run=table["model"] + ", M = " + table["M"].map("{:g}".format),
        panel=table["quantity"].map(_name),
        percent=100 * table["relative_error"],
        train_set=table["train_set"].map(title),
    )
    runs = sorted(table["run"].unique())
    key = p9.guide_legend(ncol=key_columns(runs, PAGE_CM / 2 - 0.5))  # colours, and shapes beside them
    own, others = table[table["published"]], table[~table["published"]]
    return (
        p9.ggplot(others, p9.aes("fit_compute", "percent", color="run"))
        + p9.geom_line(size=0.4)
        + p9.geom_point(p9.aes(shape="run"), own, size=2.6, stroke=0)
        + p9.facet_grid("panel", "train_set")
        + p9.scale_x_log10(labels=powers_of_ten)
        + p9.scale_y_log10(labels=lambda ticks: [f"{tick:g} %" for tick in ticks])
        + p9.scale_color_manual(_colours(len(runs)), name="Predicted run", guide=key)
        + p9.scale_shape_manual(shapes(len(runs)), name="Predicted run", guide=key)
        + p9.labs(x="Compute of the runs in the fit (FLOPs)", y="Relative error")
        + theme_paper(PAGE_CM, 12.0)
    )


def plot_relative_error(predictions: pd.DataFrame, quantity: str) -> p9.ggplot:
    """Relative error of every run as a map of N × M (the paper's Figure 5); runs in the fit are boxed."""
    table = predictions[predictions["quantity"] == quantity]
    if table["relative_error"].isna().all():
        raise _no_law(predictions, *table["train_set"].unique())
    table = table.assign(percent=100 * table["relative_error"], train_set=table["train_set"].map(title))
    sizes = [_size(n) for n in sorted(table["parameters"].unique())]
    ratios = [f"{M:g}" for M in sorted(table["M"].unique())]
    table = table.assign(
        size=pd.Categorical([_size(n) for n in table["parameters"]], sizes, ordered=True),
        ratio=pd.Categorical([f"{M:g}" for M in table["M"]], ratios, ordered=True),
        text=table["percent"].map("{:.1f}".format),
    )
    middle = table["percent"].quantile(0.98) / 2
    table = table.assign(ink=np.where(table["percent"] > middle, "white", "black"))
    boxed = table[table["in_fit"]]
    return (
        p9.ggplot(table, p9.aes("ratio", "size"))
        + p9.geom_tile(p9.aes(fill="percent"))
        + p9.geom_tile(data=boxed, width=1, height=1, fill="none", color="#d55e00", size=0.9)
        + p9.geom_text(p9.aes(label="text", color="ink"), size=5.5)
        + p9.facet_wrap("train_set", ncol=3)
        + p9.scale_fill_gradient(
            "#f2f6fa", "#1f4e85", limits=(0, 2 * middle), oob=_squish, name="Relative error, %"
        )
        + p9.scale_color_identity()
        + p9.scale_x_discrete(expand=(0, 0))
        + p9.scale_y_discrete(expand=(0, 0))
        + p9.labs(x="Tokens per parameter M", y="Parameters N")
        + theme_paper(PAGE_CM, 7.5)
        + p9.theme(panel_grid_major=p9.element_blank(), legend_key_width=70, legend_key_height=7)
    )


def _no_law(predictions: pd.DataFrame, *train_sets: str) -> FigureError:
    """Return an error that says why no law was fitted."""
    of = predictions[
        predictions["train_set"].isin(train_sets) & predictions["quantity"].str.startswith("loss")
    ]
    return FigureError(f"predictions.tsv: no law of the loss was fitted: {'; '.join(of['note'].unique())}.")


def _squish(values: pd.Series, range: tuple[float, float] = (0.0, 1.0), **_: object) -> np.ndarray:
    return np.asarray(np.clip(values, *range))


def _of(predictions: pd.DataFrame, train_set: str, quantities: object) -> pd.DataFrame:
    wanted = predictions["quantity"].isin(list(quantities))  # type: ignore[call-overload]
    return predictions[(predictions["train_set"] == train_set) & wanted]


def _once(points: pd.DataFrame) -> pd.DataFrame:
    """Return each run once: a run has a prediction by every law, and one actual value."""
    return points[points["law"] != SIGMOID]


def _by_law(lines: pd.DataFrame, group: str) -> pd.DataFrame:
    """Add `form`, whose line a law is drawn with, and `line`: the points of one law and `group`."""
    plain, sigmoid = LINES_OF_LAWS
    form = pd.Categorical(np.where(lines["law"] == SIGMOID, sigmoid, plain), list(LINES_OF_LAWS))
    return lines.assign(
        form=form.remove_unused_categories(), line=lines[group].astype(str) + " " + lines["law"]
    )


def _labelled(rows: pd.DataFrame, ratios: list[float]) -> pd.DataFrame:
    order = list(dict.fromkeys([*(n for n in rows["quantity"].unique() if n.startswith("loss")), *NAMES]))
    panels = pd.Categorical(rows["quantity"].map(_name), [_name(n) for n in order], ordered=True)
    return _ratios(rows.assign(panel=panels.remove_unused_categories()), ratios)


def _ratios(rows: pd.DataFrame, ratios: list[float]) -> pd.DataFrame:
    names = [f"{M:g}" for M in ratios]
    return rows.assign(ratio=pd.Categorical([f"{M:g}" for M in rows["M"]], names, ordered=True))


def _name(quantity: str, names: Mapping[str, str] = NAMES) -> str:
    if quantity in names:
        return names[quantity]
    kind, of = quantity.split("_", 1)
    if kind == "loss" and of.endswith("_loss"):  # the task's own name may end in loss
        return title(of)
    return f"{'Loss on' if kind == 'loss' else 'Error on'} {title(of)}"


def _colours(count: int) -> list[str]:
    return list(LINE_COLOURS[:count]) if count <= len(LINE_COLOURS) else palette(count)


def _size(parameters: float) -> str:
    """0.011B, as in the paper; models below a million in thousands."""
    return f"{parameters / 1e9:.2g}B" if parameters >= 1e6 else f"{parameters / 1e3:.3g}k"
