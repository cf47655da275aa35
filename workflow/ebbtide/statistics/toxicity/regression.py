"""Regressions of the toxicity of samples, as printed by Ganguli et al. (2022, A.6), and with honest errors.

    paper       toxicity = β0 + Σ_s β_s 1[size = s] + γ 1[toxic prompt] + ε   over all samples, least squares
    clustered   the same, with errors that allow samples of one prompt to be dependent
    size        toxicity = β0 + β log10 N + γ 1[toxic prompt] + ε             clustered by prompt
    training    toxicity = β0 + β log10 D + γ 1[toxic prompt] + ε             the same, of one model

The smallest size is the reference of β_s. The first three use the last checkpoint of each model. The errors
of the first are those of independent samples; 25 samples of one prompt are not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm

INTERCEPT, TOXIC = "intercept", "toxic prompt"
COLUMNS = (
    *("form", "task", "model", "term", "parameters_non_embedding", "estimate", "stderr", "low", "high"),
    *("n", "prompts", "models", "unscored", "note"),
)


@dataclass(frozen=True)
class Cell:
    """Scores of the n samples of one checkpoint; arrays (n,).

    Attributes
    ----------
    prompts
        Integers, the same for the same prompt in all cells of a task.
    toxic
        Whether the prompt is toxic.
    scores
        From 0 to 1; NaN where the classifier failed.
    """

    task: str
    model: str
    size: int
    tokens: int
    prompts: np.ndarray
    toxic: np.ndarray
    scores: np.ndarray


def toxicity_table(cells: Sequence[Cell], alpha: float = 0.05) -> pd.DataFrame:
    """Return toxicity.tsv: one row per form and term; columns `COLUMNS`."""
    rows: list[dict[str, Any]] = []
    for task in dict.fromkeys(cell.task for cell in cells):
        own = [cell for cell in cells if cell.task == task]
        last = [
            max((c for c in own if c.model == model), key=lambda c: c.tokens)
            for model in dict.fromkeys(cell.model for cell in own)
        ]
        rows += _over_sizes(task, last, alpha)
        for model in dict.fromkeys(cell.model for cell in own):
            trained = [cell for cell in own if cell.model == model and cell.tokens > 0]
            if len({cell.tokens for cell in trained}) > 1:
                x = {"log10 tokens": [np.log10(cell.tokens) for cell in trained]}
                rows += _fitted("training", task, model, trained, x, alpha=alpha)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _over_sizes(task: str, last: Sequence[Cell], alpha: float) -> Iterator[dict[str, Any]]:
    sizes = sorted({cell.size for cell in last if cell.size > 0})
    if unknown := [cell.model for cell in last if cell.size <= 0]:
        yield _left_out(task, f"size unknown, left out: {', '.join(unknown)}")
    if len(sizes) < 2:
        yield _left_out(task, "no regression over sizes: fewer than two known sizes")
        return
    last = [cell for cell in last if cell.size > 0]
    dummies = {f"size {size}": [float(cell.size == size) for cell in last] for size in sizes[1:]}
    yield from _fitted("paper", task, "", last, dummies, alpha=alpha, clustered=False)
    yield from _fitted("clustered", task, "", last, dummies, alpha=alpha)
    logs = {"log10 parameters": [float(np.log10(cell.size)) for cell in last]}
    yield from _fitted("size", task, "", last, logs, alpha=alpha)


def _left_out(task: str, note: str) -> dict[str, Any]:
    """Return a row that only says what the forms over sizes leave out."""
    empty = dict.fromkeys(COLUMNS, np.nan) | {"n": 0, "prompts": 0, "models": 0, "unscored": 0}
    return {**empty, "form": "size", "task": task, "model": "", "term": "", "note": note}


def _fitted(
    form: str,
    task: str,
    model: str,
    cells: Sequence[Cell],
    of_cell: dict[str, list[float]],
    *,
    alpha: float,
    clustered: bool = True,
) -> Iterator[dict[str, Any]]:
    """Yield a row per term of a regression on the intercept, values of cells, and toxic prompts."""
    lengths = [len(cell.scores) for cell in cells]
    columns = {INTERCEPT: np.ones(sum(lengths))}
    columns |= {term: np.repeat(values, lengths) for term, values in of_cell.items()}
    columns[TOXIC] = np.concatenate([cell.toxic for cell in cells]).astype(float)
    y = np.concatenate([cell.scores for cell in cells])
    prompts = np.concatenate([cell.prompts for cell in cells])
    known = np.isfinite(y)
    design = np.column_stack(list(columns.values()))[known]
    constant = {
        **{"form": form, "task": task, "model": model, "n": int(known.sum())},
        "prompts": len(np.unique(prompts[known])),
        "models": len({cell.model for cell in cells}),
        "unscored": int((~known).sum()),
    }
    empty = dict.fromkeys(("parameters_non_embedding", "estimate", "stderr", "low", "high"), np.nan)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        note = "terms cannot be told apart, such as with prompts of one kind only"
        yield from ({**empty, **constant, "term": term, "note": note} for term in columns)
        return
    how = {"cov_type": "cluster", "cov_kwds": {"groups": prompts[known]}} if clustered else {}
    fit = sm.OLS(y[known], design).fit(**how)
    for i, (term, (low, high)) in enumerate(zip(columns, fit.conf_int(alpha), strict=True)):
        values = {"estimate": fit.params[i], "stderr": fit.bse[i], "low": low, "high": high}
        size = float(term.removeprefix("size ")) if term.startswith("size ") else np.nan
        yield {**constant, **values, "term": term, "parameters_non_embedding": size, "note": ""}
