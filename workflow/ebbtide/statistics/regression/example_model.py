"""Regression of individual answers: a logistic model with effects of examples and of models.

    logit P(right) = β0 + βN z(log10 N) + βD z(log10 D) + βND z(log10 N) z(log10 D)
                     + u_example + v_model + w_model z(log10 D)

Three steps:

1. Example effects are conditioned out, which gives the log odds of each cell (`rasch`).
2. Each model gets a line through its cells over z(log10 D), with level v and slope w.
3. Levels and slopes are regressed on z(log10 N) over models; t tests have (models - 2) degrees of freedom.
   Where models differ only by seed, their means are regressed over sizes (`mixed.compare_lines`).

Models or sizes are the units of replication, not answers or cells. So the tests control the type-I error
however much levels and slopes vary between models of equal size. A Laplace fit of the same formula (gpboost
1.8.0) agrees with the estimates (r = .998 in simulation). With eight models, its z test rejects a true null
in 8 %, and 4 of 60 standard errors are missing (`benchmarks/simulate_example_model.py`). z is over all cells,
with ddof 1, as in `regression`. The test of `tokens` is conditional on the examples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.regression.mixed import compare_lines
from ebbtide.statistics.regression.rasch import cell_log_odds
from ebbtide.statistics.regression.units import Units, units_of_cells
from ebbtide.statistics.replicates import Place

TERMS = ("parameters", "tokens", "interaction")
COLUMNS = (
    *("task", "metric", "term", "estimate", "stderr", "statistic", "df", "p", "p_adjusted"),
    *(
        "sd_examples",
        "sd_models",
        "sd_model_slopes",
        "n",
        "models",
        "sizes",
        "cells",
        "library",
        "agrees_with_cells",
        "note",
    ),
)


def example_model(
    tasks: Sequence[Mapping[str, Any]],
    *,
    checkpoints: int = 32,
    places: Mapping[str, Place] | None = None,
) -> pd.DataFrame:
    """One row per task and term, columns `COLUMNS`; `compare` fills `agrees_with_cells`.

    Parameters
    ----------
    tasks
        Per task: `task` and `metric`, and lists over models of `models` (names, needed with `places`),
        `sizes` (parameters), `tokens` ((T,) training tokens, above 0) and `answers` ((T, n) zeros and ones of
        the same examples); or a `note` with the reason why there are none.
    checkpoints
        Maximal number of checkpoints per model, evenly spaced; run time grows with its square.
    places
        Which models differ only by seed, as for `regress`.

    Returns
    -------
    estimate, stderr
        Log odds per standard deviation of the predictor.
    sd_models, sd_model_slopes
        Residual standard deviation of levels and slopes over models (of means over sizes, if there are
        replicates), including sampling error.
    sizes
        Number of sizes that are compared; empty without replicates.
    """
    import scipy

    table = pd.DataFrame([row for task in tasks for row in _of_task(task, checkpoints, places or {})])
    table["p_adjusted"] = adjusted(table["p"].to_numpy(dtype=float), "bh") if len(table) else []
    table["library"] = f"scipy {scipy.__version__}" if len(table) else []
    return table.reindex(columns=list(COLUMNS)).astype({"sizes": "Int64"})


def compare(table: pd.DataFrame, regressions: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Add `agrees_with_cells`: whether sign and significance agree with the regression over cells.

    In the raw form of the regression, only the interaction is comparable.
    """
    cells = {(r["task"], r["metric"], r["term"]): r for r in regressions.to_dict("records")}
    agreement = []
    for row in table.to_dict("records"):
        cell = cells.get((row["task"], row["metric"], row["term"]), {})
        tested = np.isfinite([row["p"], cell.get("p_adjusted", np.nan)]).all()
        tested &= cell.get("form") != "raw" or row["term"] == "interaction"
        agreement.append(_agreement(row, cell, alpha) if tested else "")
    return table.assign(agrees_with_cells=agreement)


def _agreement(row: Mapping[Any, Any], cell: Mapping[Any, Any], alpha: float) -> str:
    here, there = row["p_adjusted"] < alpha, cell["p_adjusted"] < alpha
    if np.sign(row["estimate"]) != np.sign(cell["estimate"]):
        return "no: the signs differ" + ("" if here or there else ", neither is significant")
    if here == there:
        return "yes"
    return "no: significant over examples only" if here else "no: significant over cells only"


def _of_task(task: Mapping[str, Any], checkpoints: int, places: Mapping[str, Place]) -> list[dict[str, Any]]:
    sizes = np.array(task.get("sizes", []), dtype=float)
    kept = [_spread(len(tokens), checkpoints) for tokens in task.get("tokens", [])]
    tokens = [np.array(t, dtype=float)[k] for t, k in zip(task.get("tokens", []), kept, strict=True)]
    answers = [np.asarray(a)[k] for a, k in zip(task.get("answers", []), kept, strict=True)]
    common = {
        "task": task["task"],
        "metric": task["metric"],
        "n": answers[0].shape[1] if answers else 0,
        "models": len(sizes),
        "sizes": pd.NA,
        "cells": sum(map(len, tokens)),
    }
    note = task.get("note") or _reason(sizes, answers)
    if note:
        notes = "; ".join(filter(None, (note, _left_out(task))))
        return [
            common | {"term": term, **dict.fromkeys(("estimate", "p"), np.nan), "note": notes}
            for term in TERMS
        ]
    units = _units(task, tokens, places)
    of = np.arange(len(sizes)) if units is None else np.array([units.of[name] for name in task["models"]])
    fitted = _fit(sizes, tokens, np.concatenate(answers), of)
    notes = _notes(task, kept, answers)
    if units is not None:
        common["sizes"] = units.sizes
        notes = "; ".join(filter(None, (units.note, notes)))
    return [common | {"term": term, **fitted[term], "note": notes} for term in TERMS]


def _units(
    task: Mapping[str, Any], tokens: Sequence[np.ndarray], places: Mapping[str, Place]
) -> Units | None:
    if not places:
        return None
    names = [name for name, of in zip(task["models"], tokens, strict=True) for _ in of]
    return units_of_cells(names, np.concatenate(tokens), places)


def _fit(
    sizes: np.ndarray, tokens: Sequence[np.ndarray], right: np.ndarray, units: np.ndarray
) -> dict[str, dict[str, Any]]:
    of = np.repeat(np.arange(len(sizes)), [len(t) for t in tokens])
    size = np.log10(sizes)
    centre, scale = size[of].mean(), size[of].std(ddof=1)
    z_size = (size - centre) / scale
    decades = np.log10(np.concatenate(tokens))
    z_tokens = (decades - decades.mean()) / decades.std(ddof=1)
    log_odds, sd_examples = cell_log_odds(right)
    lines = np.array([np.polyfit(z_tokens[of == m], log_odds[of == m], 1)[::-1] for m in range(len(sizes))])
    found, scatter = compare_lines(lines, z_size, units)
    sds = {"sd_examples": sd_examples, "sd_models": scatter[0], "sd_model_slopes": scatter[1]}
    columns = {"estimate": found.estimate, "stderr": found.stderr, "statistic": found.t, "p": found.p}
    columns["df"] = found.df.astype(int)
    return {
        term: sds | {name: values[at].item() for name, values in columns.items()}
        for at, term in enumerate(TERMS)
    }


def _reason(sizes: np.ndarray, answers: Sequence[np.ndarray]) -> str:
    """Return why there is no model; empty if there is one."""
    too_few = f"{len(sizes)} models of known size with 2 or more token counts, at least 3 needed"
    reasons = {
        too_few: len(sizes) < 3,
        "one model size only": len(sizes) > 0 and np.ptp(sizes) == 0,
        "the models have different examples": len({a.shape[1] for a in answers}) > 1,
    }
    reason = next((reason for reason, holds in reasons.items() if holds), "")
    if not reason:
        together = np.concatenate(answers)
        if together.all() or not together.any():
            reason = f"every answer is {'right' if together.all() else 'wrong'}"
    return f"no model of examples: {reason}" if reason else ""


def _notes(task: Mapping[str, Any], kept: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> str:
    notes = [left_out] if (left_out := _left_out(task)) else []
    most = max(len(t) for t in task["tokens"])
    if most > max(map(len, kept)):
        notes.append(f"{max(map(len, kept))} of {most} checkpoints, evenly spaced")
    shares = np.concatenate([a.mean(axis=1) for a in answers])
    if separated := int(((shares == 0) | (shares == 1)).sum()):
        notes.append(
            f"all answers are equal in {separated} of {len(shares)} cells, "
            "whose log odds rely on half an answer"
        )
    return "; ".join(notes)


def _left_out(task: Mapping[str, Any]) -> str:
    """Return how many models are left out, and why."""
    counts = task.get("left_out", {})
    return "; ".join(f"{count} models {reason} are left out" for reason, count in counts.items())


def _spread(count: int, most: int) -> np.ndarray:
    """Return at most `most` of `count` indices, evenly spaced, including both ends."""
    indices: np.ndarray = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
    return indices
