"""The simulations of the statistics in one figure and one table.

    python benchmarks/simulations.py

Reads docs/simulations.tsv (what the `simulate_*.py` found: a rate over `draws` simulated studies, and between
which bounds it should lie), draws docs/simulations.png, and prints the table of docs/statistics.md.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import plotnine as p9
from scipy.stats import binomtest

from ebbtide.figures import save, theme_paper

DOCS = Path(__file__).parents[1] / "docs"
Z = 0.95  # level of the intervals of rates


def read() -> pd.DataFrame:
    """Rates with 95 % intervals (Wilson) for the number of draws, and whether these meet the bounds."""
    rows = pd.read_csv(DOCS / "simulations.tsv", sep="\t")
    hits = (rows["found"] * rows["draws"]).round().astype(int)
    spans = [binomtest(k, n).proportion_ci(Z, "wilson") for k, n in zip(hits, rows["draws"], strict=True)]
    rows["least"], rows["most"] = [s.low for s in spans], [s.high for s in spans]
    # "meets" allows for chance: with so many draws, a rate within the bounds may have given this.
    rows["meets"] = (rows["most"] >= rows["low"]) & (rows["least"] <= rows["high"])
    return rows


def summary(rows: pd.DataFrame) -> str:
    """One line per question, in Markdown: settings, draws, lowest to highest rate, that over all, bounds."""
    lines = [
        "| table | what | settings | draws | found | over all | should be |",
        "|---|---|---|---|---|---|---|",
    ]
    for (table, what), of in rows.groupby(["table", "what"], sort=False):
        over_all = np.average(of["found"], weights=of["draws"])
        low, high = of["low"].iloc[0], of["high"].iloc[0]
        bounds = f"{low:.2f} to {high:.2f}" if np.isfinite(low) else "(biased)"
        found = f"{of['found'].min():.3f} to {of['found'].max():.3f}"
        cells = (table, what, len(of), of["draws"].sum(), found, f"{over_all:.3f}", bounds)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def plot(rows: pd.DataFrame) -> p9.ggplot:
    """Every rate with its bar, a row per question, beside the bounds."""
    order = rows["what"].drop_duplicates()[::-1]
    rows = rows.assign(
        what=pd.Categorical(rows["what"], order),
        meets=pd.Categorical(np.where(rows["low"].isna(), "biased", np.where(rows["meets"], "yes", "no"))),
        kind=np.where(rows["low"].fillna(0) > 0, "Coverage and power", "False findings"),
    )
    bounds = rows.drop_duplicates(["kind", "what"])
    place = p9.position_dodge2(width=0.8)
    return (
        p9.ggplot(rows, p9.aes("what", "found", color="meets", shape="meets"))
        + p9.geom_crossbar(
            p9.aes("what", "low", ymin="low", ymax="high"),
            bounds.dropna(subset=["low"]),
            inherit_aes=False,
            fill="#d9d9d9",
            color="#d9d9d9",
            width=0.9,
        )
        + p9.geom_linerange(p9.aes(ymin="least", ymax="most", group="setting"), position=place, size=0.35)
        + p9.geom_point(p9.aes(group="setting"), position=place, size=1.2)
        + p9.facet_wrap("kind", ncol=1, scales="free")
        + p9.coord_flip()
        + p9.scale_color_manual(
            {"yes": "#1f5fa6", "no": "#a6500a", "biased": "#8c8c8c"}, name="Within the bounds"
        )
        + p9.scale_shape_manual({"yes": "o", "no": "D", "biased": "x"}, name="Within the bounds")
        + p9.labs(x="", y="Rate over simulated studies (bar: 95 % interval; grey: target)")
        + theme_paper(17.0, 20.0)
    )


if __name__ == "__main__":
    table = read()
    save(plot(table), DOCS / "simulations.png")
    print(summary(table))
