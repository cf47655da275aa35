"""Format the regressions as the table of a paper, as text and as LaTeX: a row per task, a column per effect.

The layout follows the table of *Emergent inabilities?* (Michaelov & Bergen): `t(60)=-4.22, p<0.001`. Brackets
contain the degrees of freedom, t has two decimals, and p has three without trailing zeros.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.statistics.regression.design import TERMS
from ebbtide.statistics.regression.units import MIN_UNITS
from ebbtide.texts import for_tex, one_line
from ebbtide.titles import Ability

HEADINGS = ("Task", "Parameters", "Tokens", "Interaction")
MARK = "*"

_FORMULAS = {
    "standardised": "z(metric) ~ z(log10 N) * z(log10 D), z(x) = (x - mean) / sd",
    "raw": "metric ~ log10 N * log10 D, uncentred: main effects are effects at N = 1, D = 1",
}
_SIZES = {
    "non_embedding": "non-embedding parameters",
    "total": "all parameters",
    "active": "active non-embedding parameters",
    "nominal": "parameters by the model's name",
}
_CORRECTIONS = {
    "bh": "Correction of p: Benjamini-Hochberg over all {tests} tests",
    "by": "Correction of p: Benjamini-Yekutieli over all {tests} tests",
    "holm": "Correction of p: Holm over all {tests} tests",
    "none": "Correction of p: none ({tests} tests)",
}


def printed_p(p: float) -> str:
    """Return `p<0.001`, or p with three decimals without trailing zeros, such as `p=0.01`."""
    if p < 0.001:
        return "p<0.001"
    return f"p={f'{p:.3f}'.rstrip('0').rstrip('.')}"


def paper_table(regressions: pd.DataFrame, selected: Sequence[Ability], alpha: float = 0.05) -> pd.DataFrame:
    """One row per ability; columns task (display name), parameters, tokens, interaction, significant.

    Parameters
    ----------
    regressions
        The table of `regress`.
    selected
        Abilities to list, in order.
    alpha
        Level of `significant`: whether the adjusted p of each of the three effects is below it.

    Returns
    -------
    Cells are `t(df)=x.xx, p<0.001`. If a task has no regression, the first cell contains the reason and the
    others are empty.
    """
    rows = []
    table = regressions.set_index(["task", "metric", "term"])
    for ability in selected:
        terms: list[Any] = [table.loc[(ability.task, ability.metric, term), :] for term in TERMS]
        if np.isnan(terms[0]["t"]):
            cells = [str(terms[0]["note"]), "", ""]
        else:
            cells = [f"t({t['df']:.0f})={t['t']:.2f}, {printed_p(t['p_adjusted'])}" for t in terms]
        significant = tuple(bool(t["p_adjusted"] < alpha) for t in terms)
        rows.append(
            {"task": ability.name, **dict(zip(TERMS, cells, strict=True)), "significant": significant}
        )
    return pd.DataFrame(rows, columns=["task", *TERMS, "significant"])


def caption(regressions: pd.DataFrame, settings: Mapping[str, str], alpha: float) -> list[str]:
    """Return the sentences below the table: formula, N and D, degrees of freedom, correction.

    `settings` contains `parameters` and `adjust` of `regress`. `{mark}` is a placeholder for star or bold
    print.
    """
    form = str(regressions["form"].iloc[0])
    tests = int(regressions["t"].notna().sum())
    return [
        f"Per task, {_FORMULAS[form]}.",
        f"N: {_SIZES[settings['parameters']]}; D: training tokens.",
        *_estimators(regressions[regressions["t"].notna()]),
        f"{_CORRECTIONS[settings['adjust']].format(tests=tests)}; below {alpha:g}: {{mark}}.",
    ]


def _estimators(regressions: pd.DataFrame) -> list[str]:
    """Return what the terms are estimated with; tasks with replicates differ from those without."""
    of_runs = regressions["runs"].notna()
    sentences = []
    if not of_runs.all() or regressions.empty:
        sentences.append(
            f"Ordinary least squares over {_range(regressions.loc[~of_runs, 'cells'])} cells (model and "
            "checkpoint); t(df) with df = cells - 4."
        )
    if of_runs.any():
        runs, sizes = (_range(regressions.loc[of_runs, name]) for name in ("runs", "sizes"))
        few = regressions.loc[of_runs, "sizes"] < MIN_UNITS
        over = "over runs; t(df) with df = runs - 2" if few.all() else "over sizes; t(df) with df = sizes - 2"
        of_two = (
            " (over runs, df = runs - 2, where there are two sizes)" if few.any() and not few.all() else ""
        )
        sentences.append(
            f"{'With replicates: ' if sentences else ''}Random level and slope of every size and run, "
            f"{runs} runs of {sizes} sizes: a line over log10 D per run, regressed on log10 N {over}{of_two}."
        )
    return sentences


def _range(counts: pd.Series) -> str:
    least, most = counts.min(), counts.max()
    return "no" if counts.empty else f"{least}" if least == most else f"{least} to {most}"


def as_text(table: pd.DataFrame, sentences: Sequence[str]) -> str:
    """Return the table as aligned text with a star after significant effects, and the caption below."""
    rows = [HEADINGS, *(_marked(row) for row in table.to_dict("records"))]
    # A reason for no regression is in column 1 and may extend over the others.
    widths = [max(len(row[i]) for row in rows if i != 1 or row[2] or row is HEADINGS) for i in range(4)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*lines, "", *(s.format(mark=MARK) for s in sentences), ""])


def as_tex(table: pd.DataFrame, sentences: Sequence[str], label: str) -> str:
    """Return a LaTeX table for the package booktabs; significant effects are bold. `label` is for \\ref."""
    lines = [" & ".join(HEADINGS) + r" \\", r"\midrule"]
    for row in table.to_dict("records"):
        name = for_tex(str(row["task"]))
        if not row["tokens"]:
            lines.append(rf"{name} & \multicolumn{{3}}{{l}}{{{for_tex(str(row['parameters']))}}} \\")
            continue
        cells = [_math(row[t], bold) for t, bold in zip(TERMS, row["significant"], strict=True)]
        lines.append(" & ".join([name, *cells]) + r" \\")
    text = " ".join(for_tex(s.format(mark="bold")) for s in sentences)
    return "\n".join(
        [
            *(r"\begin{table}", r"\centering", rf"\caption{{{text}}}", rf"\label{{tab:{label}}}"),
            *(
                r"\begin{tabular}{llll}",
                r"\toprule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ),
        ]
    )


def _marked(row: Mapping[Any, Any]) -> tuple[str, ...]:
    stars = [MARK if flag else "" for flag in row["significant"]]
    return (one_line(str(row["task"])), *(f"{row[t]}{star}" for t, star in zip(TERMS, stars, strict=True)))


def _math(cell: str, bold: bool) -> str:
    t, p = cell.replace("inf", r"\infty").split(", ")
    return rf"{{\boldmath${t}$, ${p}$}}" if bold else f"${t}$, ${p}$"
