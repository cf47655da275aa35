"""Toxicity of each size beside the smallest, and log-odds of toxic continuations along training."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import labeller
from ebbtide.figures.theme import GREY, PAGE_CM, compact, line_looks, palette, theme_paper
from ebbtide.figures.training_axis import on_training_axis

FORMS = {"paper": "samples as independent", "clustered": "clustered by prompt"}
AFTER = {"toxic": "after toxic prompts", "other": "after other prompts"}
APART = 0.01  # of the two forms, as a share of the range of sizes


def plot_toxicity(toxicity: pd.DataFrame, titles: Mapping[str, str] | None = None) -> p9.ggplot:
    """Draw the terms of sizes of toxicity.tsv, a panel per task.

    Raises `FigureError` if there is none.
    """
    rows = toxicity[toxicity["form"].isin(FORMS) & toxicity["term"].fillna("").str.startswith("size ")]
    rows = rows[rows["estimate"].notna()]
    if rows.empty:
        raise FigureError("toxicity.tsv: no term of a size; the regression needs two sizes.")
    side = rows["form"].map({"paper": -1, "clustered": 1}).astype(float)
    sizes = np.log10(rows["parameters_non_embedding"].astype(float))
    rows = rows.assign(
        x=10 ** (sizes + APART * max(sizes.max() - sizes.min(), 0.1) * side),
        form=pd.Categorical(rows["form"].map(FORMS), list(FORMS.values())),
    )
    panels = rows["task"].nunique()
    return (
        p9.ggplot(rows, p9.aes("x", "estimate", color="form", shape="form"))
        + p9.geom_hline(yintercept=0, linetype="dashed", color=GREY, size=0.4)
        + p9.geom_linerange(p9.aes(ymin="low", ymax="high"), size=0.6)
        + p9.geom_point(size=1.9, stroke=0)
        + p9.facet_wrap("task", ncol=2, labeller=labeller(titles))
        + p9.scale_x_log10(labels=lambda ticks: [compact(tick) for tick in ticks])
        + p9.scale_color_manual(palette(2), name="Intervals")
        + p9.scale_shape_manual(["o", "s"], name="Intervals")
        + p9.labs(x="Non-embedding parameters (log scale)", y="Toxicity, minus that of the smallest size")
        + theme_paper(PAGE_CM if panels > 1 else 11.0, 4.6 * -(-panels // 2) + 3.0)
    )


def plot_toxic_continuations(table: pd.DataFrame, titles: Mapping[str, str] | None = None) -> p9.ggplot:
    """Draw the checkpoints of toxic_continuations.tsv, a row of panels per task, a line per model.

    Raises `FigureError` if no checkpoint has an estimate.
    """
    rows = table[(table["over"] == "checkpoint") & table["prompts"].isin(AFTER) & table["estimate"].notna()]
    if rows.empty:
        raise FigureError("toxic_continuations.tsv: no checkpoint has log-odds after prompts of one kind.")
    rows, axis = on_training_axis(rows.assign(step=0))
    name = labeller(titles)
    size = (
        rows.drop_duplicates("model").set_index("model")["parameters_non_embedding"].astype(float).fillna(0)
    )
    models = list(size.sort_values(kind="stable").index)
    several = rows["task"].nunique() > 1
    panels = [
        f"{name(task)}: {AFTER[after]}" if several else AFTER[after]
        for task, after in zip(rows["task"], rows["prompts"], strict=True)
    ]
    order = sorted(dict.fromkeys(panels), key=panels.index)
    rows = rows.assign(
        panel=pd.Categorical(panels, order), model=pd.Categorical(rows["model"], models, ordered=True)
    )
    looks = line_looks([float(size[model]) for model in models])
    return (
        p9.ggplot(rows, p9.aes("x", "estimate", color="model", shape="model", group="model"))
        + p9.geom_hline(yintercept=0, linetype="dashed", color=GREY, size=0.4)
        + p9.geom_linerange(p9.aes(ymin="low", ymax="high"), rows[rows["low"].notna()], size=0.5)
        + p9.geom_line(size=0.6)
        + p9.geom_point(size=1.6, stroke=0)
        + p9.facet_wrap("panel", ncol=2)
        + axis.scale(rows["x"], 7.0)
        + p9.scale_color_manual(looks.colours, name="Model")
        + p9.scale_shape_manual(looks.shapes, name="Model")
        + p9.labs(x=axis.title, y="Log-odds, nats per byte")
        + theme_paper(PAGE_CM, 4.6 * -(-len(order) // 2) + 3.0)
    )
