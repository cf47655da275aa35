"""Toxicity of each size beside the smallest, with the intervals of both forms."""

from collections.abc import Mapping

import pandas as pd
import plotnine as p9

from ebbtide.errors import FigureError
from ebbtide.figures.frame import labeller
from ebbtide.figures.theme import GREY, PAGE_CM, compact, palette, theme_paper

FORMS = {"paper": "samples as independent", "clustered": "clustered by prompt"}
APART = 0.04  # of the two forms, decades


def plot_toxicity(toxicity: pd.DataFrame, titles: Mapping[str, str] | None = None) -> p9.ggplot:
    """Draw the terms of sizes of toxicity.tsv, a panel per task.

    Raises `FigureError` if there is none.
    """
    rows = toxicity[toxicity["form"].isin(FORMS) & toxicity["term"].fillna("").str.startswith("size ")]
    rows = rows[rows["estimate"].notna()]
    if rows.empty:
        raise FigureError("toxicity.tsv: no term of a size; the regression needs two sizes.")
    side = rows["form"].map({"paper": -1, "clustered": 1}).astype(float)
    rows = rows.assign(
        x=rows["parameters_non_embedding"] * 10 ** (APART * side),
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
