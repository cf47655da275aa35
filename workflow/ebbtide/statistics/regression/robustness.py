"""Robustness: repeat every regression with one analysis choice changed at a time.

    group        choices
    base         z(y) ~ z(log10 N) * z(log10 D), least squares, p adjusted over all tests of the table
    size         N as total, non-embedding, active, nominal parameters
    errors       HC3 (unequal noise of cells), CR2 by model (dependent cells of a model)
    model        random slopes (models differ in level and slope), quasi-binomial (binomial shares)
    left out     each model in turn, and the worst of these
    correction   of the base's p: Benjamini–Hochberg per task, over all tests, Benjamini–Yekutieli, Holm, none

Where models differ only by seed, the base is that of `mixed` over sizes. CR2 clusters by size, each size is
left out in turn, and `model` has least squares over cells and random slopes by run. These two, HC3 and the
quasi-binomial fit say nothing about other sizes.

`covariance`, `mixed` and `quasi_binomial` list the type-I error of each choice in simulation. With random
model effects, only CR2 and random slopes control it; the base does not.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.chosen import chosen_metrics
from ebbtide.metrics.direction import sign_of, signs_of
from ebbtide.statistics.multiplicity import Adjust, adjusted
from ebbtide.statistics.regression.choices import Outcome, outcomes
from ebbtide.statistics.regression.design import TERMS, Size
from ebbtide.statistics.replicates import Place
from ebbtide.titles import abilities

GROUPS = ("base", "size", "errors", "model", "left out", "correction")
WORST = "worst of leaving one out"
ROBUSTNESS_COLUMNS = (
    *("task", "metric", "choice", "group", "term", "cells", "models", "estimate", "stderr", "t", "df"),
    *("p", "p_adjusted", "verdict", "survives", "note"),
)
# Name → method, and whether each task is its own family.
CORRECTIONS: dict[str, tuple[Adjust, bool]] = {
    "BH per task": ("bh", True),
    "BH over all": ("bh", False),
    "BY over all": ("by", False),
    "Holm over all": ("holm", False),
    "no correction": ("none", False),
}


def robustness(
    metrics: pd.DataFrame,
    *,
    metric: str | None = None,
    metrics_of: Mapping[str, Sequence[str]] | None = None,
    parameters: Size = "non_embedding",
    alpha: float = 0.05,
    adjust: Adjust = "bh",
    places: Mapping[str, Place] | None = None,
) -> pd.DataFrame:
    """One row per (task, metric, choice, term), columns `ROBUSTNESS_COLUMNS`.

    Parameters
    ----------
    metrics
        Long table (`tables.METRICS`), as for `regress`.
    metric, metrics_of
        The metric of all tasks (None: the main metric of each), and metrics of individual tasks that override
        it.
    parameters
        Count used as N by the base.
    alpha
        Level of the adjusted p for the verdicts.
    adjust
        Correction of p over all tests of a choice. The group `correction` uses others.
    places
        Which models differ only by seed, as for `regress`.

    Returns
    -------
    `verdict` is `consistent` or `not consistent` for the interaction (as in `verdicts`: t < 0 and adjusted p
    < `alpha`), and `rises`, `falls` or `unclear` for the main effects. It refers to performance, so signs are
    reversed for losses. `survives` is `yes` if the verdict equals that of the base, else `no`. If a choice
    cannot be computed, numbers are NaN, verdict and survives are empty, and `note` gives the reason.

    Raises
    ------
    ConfigError
        `metrics_of` names a task that is not in `metrics`.
    """
    of_tasks = {str(task): rows for task, rows in metrics.groupby("task", sort=False)}
    frames = [
        _rows(ability.task, ability.metric, found)
        for ability in abilities(chosen_metrics(metrics, metric, metrics_of))
        for found in outcomes(of_tasks[ability.task], ability.metric, parameters, places)
    ]
    if not frames:
        return pd.DataFrame(columns=list(ROBUSTNESS_COLUMNS))
    table = pd.DataFrame([row for rows in frames for row in rows])
    table["p_adjusted"] = adjusted(_array(table["p"]), adjust, _array(table["choice"]))
    base = table[table["group"] == "base"]
    table = pd.concat([table, *_corrected(base, adjust)], ignore_index=True)
    table = _with_verdicts(table, alpha)
    table = pd.concat([table, _worst(table)], ignore_index=True)
    return _in_order(table)[list(ROBUSTNESS_COLUMNS)]


def _rows(task: str, metric: str, found: Outcome) -> Iterator[dict[str, Any]]:
    missing = np.full(len(TERMS), np.nan)
    numbers = {name: missing for name in ("estimate", "stderr", "t", "df", "p")}
    if found.estimates is not None:
        numbers = {name: getattr(found.estimates, name) for name in numbers}
    for index, term in enumerate(TERMS):
        of_term = {name: float(values[index]) for name, values in numbers.items()}
        note = found.note
        if np.isnan(of_term["p"]) and found.estimates is not None:
            note = "; ".join(n for n in (note, "no variation left to test this term") if n)
        yield {
            "task": task,
            "metric": metric,
            "choice": found.choice,
            "group": found.group,
            "term": term,
            "cells": found.cells,
            "models": found.models,
            **of_term,
            "note": note,
        }


def _corrected(base: pd.DataFrame, adjust: Adjust) -> Iterator[pd.DataFrame]:
    """Yield the tests of the base under other corrections."""
    for name, (method, by_task) in CORRECTIONS.items():
        p = adjusted(_array(base["p"]), method, _array(base["task"]) if by_task else None)
        note = base["note"]
        if method == adjust and not by_task:
            note = note.where(note != "", "same as the base")
        yield base.assign(choice=name, group="correction", p_adjusted=p, note=note)


def _with_verdicts(table: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Add verdicts, and whether they equal those of the base."""
    sign = signs_of(table["metric"])
    direction = np.sign(table["t"] * sign)
    clear = table["p_adjusted"] < alpha
    main = np.select([clear & (direction > 0), clear & (direction < 0)], ["rises", "falls"], "unclear")
    crossed = np.where(clear & (direction < 0), "consistent", "not consistent")
    verdict = np.where(table["term"] == "interaction", crossed, main)
    table = table.assign(verdict=np.where(table["p_adjusted"].isna(), "", verdict))
    of_base = table[table["group"] == "base"].set_index(["task", "metric", "term"])["verdict"]
    wanted = of_base.loc[pd.MultiIndex.from_frame(table[["task", "metric", "term"]])].to_numpy()
    same = np.where(table["verdict"] == wanted, "yes", "no")
    return table.assign(survives=np.where((table["verdict"] == "") | (wanted == ""), "", same))


def _array(column: pd.Series) -> np.ndarray:
    return column.to_numpy(dtype=float if column.name == "p" else object)


def _worst(table: pd.DataFrame) -> pd.DataFrame:
    """Return, per test, the row with a model left out that supports the base's verdict least."""
    worst: list[dict[Any, Any]] = []
    for (_, metric, _), rows in table.groupby(["task", "metric", "term"], sort=False):
        base = rows[rows["group"] == "base"].iloc[0]
        left_out = rows[rows["group"] == "left out"]
        known = left_out[left_out["survives"] != ""]
        if known.empty:
            note = base["note"] or "no regression: none remains with a model left out"
            numbers = {name: np.nan for name in ("estimate", "stderr", "t", "df", "p", "p_adjusted")}
            row = base.to_dict() | numbers | {"verdict": "", "survives": "", "note": note}
        else:
            against = known["t"] * sign_of(str(metric))
            if base["verdict"] in ("rises", "not consistent"):
                against = -against
            elif base["verdict"] == "unclear":
                against = against.abs()
            changed = known["survives"] == "no"
            candidates = against[changed] if changed.any() else against
            row = known.loc[[candidates.idxmax()]].to_dict("records")[0]
            row["note"] = f"{row['choice']}; the verdict changes in {changed.sum()} of {len(left_out)}"
        worst.append({**row, "choice": WORST, "group": "left out"})
    return pd.DataFrame(worst)


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort by task and metric, then by group; choices and terms keep their order."""
    group = table["group"].map({name: i for i, name in enumerate(GROUPS)})
    term = table["term"].map({name: i for i, name in enumerate(TERMS)})
    test = table.groupby(["task", "metric"], sort=False).ngroup()
    choice = table.groupby(["task", "metric", "choice"], sort=False).ngroup()
    order = pd.DataFrame({"test": test, "group": group, "choice": choice, "term": term})
    return table.loc[order.sort_values(list(order.columns)).index].reset_index(drop=True)


def robustness_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """List the choices under which the verdict on the interaction survives: one row per (task, metric).

    `table` is the result of `robustness`. Columns: `task`, `metric`, `base` (the verdict), one column per
    group of choices (`size, errors, model, left_out, correction`), `survives`, `note`. `survives` is, for
    example, `15 of 17`: choices with the base's verdict, out of the computable ones. The worst of leaving one
    out is not counted again.
    """
    rows = table[(table["term"] == "interaction") & (table["choice"] != WORST)]
    out = []
    for (task, metric), choices in rows.groupby(["task", "metric"], sort=False):
        base = choices[choices["group"] == "base"].iloc[0]
        others = choices[choices["group"] != "base"]
        known = others[others["survives"] != ""]
        groups = {g.replace(" ", "_"): _summary_text(others[others["group"] == g]) for g in GROUPS[1:]}
        if not base["verdict"]:
            groups = dict.fromkeys(groups, "")
        out.append(
            {
                "task": task,
                "metric": metric,
                "base": base["verdict"],
                **groups,
                "survives": f"{(known['survives'] == 'yes').sum()} of {len(known)}",
                "note": base["note"],
            }
        )
    columns = ["task", "metric", "base", *(g.replace(" ", "_") for g in GROUPS[1:]), "survives", "note"]
    return pd.DataFrame(out, columns=columns)


def _summary_text(choices: pd.DataFrame) -> str:
    """Return a text such as `survives all 4`, `changes under HC3 (1 of 2)` or `not computed: HC3`."""
    known, unknown = choices[choices["survives"] != ""], choices[choices["survives"] == ""]
    changed = known.loc[known["survives"] == "no", "choice"]
    parts = []
    if len(changed):
        parts.append(f"changes under {', '.join(changed)} ({len(changed)} of {len(known)})")
    elif len(known):
        parts.append(f"survives all {len(known)}")
    if len(unknown):
        parts.append(f"not computed: {', '.join(unknown['choice'])}")
    return "; ".join(parts)
