"""Accuracy and ratios of error rates over sizes, a colour per condition."""

import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.theme import GREY, PAGE_CM, compact, footnote, palette, shapes, theme_paper

CAUTION = "Language models should not be used for such decisions (Ganguli et al. 2022)."
PANELS = {
    "accuracy": "Accuracy",
    "fpr_ratio": "Ratio of false positives",
    "fnr_ratio": "Ratio of false negatives",
}


def plot_fairness(fairness: pd.DataFrame) -> p9.ggplot:
    """Draw fairness.tsv at the last checkpoint of each model: a point per task, a line per condition.

    Raises `FigureError` without two sizes.
    """
    rows = fairness[fairness["checkpoint"].fillna("") != ""]
    last = rows.groupby("model")["tokens"].transform("max")
    rows = rows[(rows["tokens"] == last) & (rows["parameters_non_embedding"] > 0)]
    if rows["parameters_non_embedding"].nunique() < 2:
        raise FigureError("fairness.tsv: fewer than two sizes of models.")
    first, second = rows.iloc[0][["first", "second"]]
    conditions = list(rows["condition"].unique())
    long = _long(rows)
    long["condition"] = pd.Categorical(long["condition"], conditions)
    means = long.groupby(["panel", "condition", "parameters_non_embedding"], observed=True, as_index=False)
    lines = means["value"].mean()
    reference = _long(fairness[fairness["checkpoint"].fillna("") == ""].drop_duplicates("model"))
    panels = list(PANELS.values())
    equal = pd.DataFrame({"panel": pd.Categorical(panels[1:], panels), "value": 1.0})
    name = ", ".join(reference["model"].unique()) if len(reference) else ""
    note, note_cm = footnote(
        f"Ratios: {first} / {second}. Dotted: equal rates." + (f" Dashed: {name}." if name else ""),
        PAGE_CM,
    )
    layers: list[object] = []
    if len(reference):
        layers.append(p9.geom_hline(p9.aes(yintercept="value"), reference, linetype="dashed", color=GREY))
    return (
        p9.ggplot(long, p9.aes("parameters_non_embedding", "value", color="condition", shape="condition"))
        + p9.geom_hline(p9.aes(yintercept="value"), equal, linetype="dotted", color=GREY)
        + layers
        + p9.geom_line(data=lines, size=0.6)
        + p9.geom_point(size=1.6, alpha=0.7, stroke=0)
        + p9.facet_wrap("panel", ncol=3, scales="free_y")
        + p9.scale_x_log10(labels=lambda ticks: [compact(tick) for tick in ticks])
        + p9.scale_color_manual(palette(len(conditions)), name="Condition")
        + p9.scale_shape_manual(shapes(len(conditions)), name="Condition")
        + p9.labs(x="Non-embedding parameters (log scale)", y="", subtitle=CAUTION)
        + theme_paper(PAGE_CM, 7.2 + note_cm)
        + note
    )


def _long(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per point and panel, without unknown values."""
    keys = ["model", "condition", "parameters_non_embedding"]
    long = rows.melt(keys, list(PANELS), var_name="quantity", value_name="value").dropna(subset=["value"])
    return long.assign(panel=pd.Categorical(long["quantity"].map(PANELS), list(PANELS.values())))
