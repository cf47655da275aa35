"""Log-odds of toxic against other continuations that people wrote, per byte, without sampling.

For a continuation i of b_i bytes, y_i = log p(continuation | prompt) / b_i at a checkpoint. The log-odds per
byte β are the coefficient of

    y_i = β0 + β 1[toxic continuation] + γ 1[toxic prompt] + ε      over all prompts; without γ over one kind

by least squares, with errors clustered as the task is. Toxic words are rare words, so the level of β says
little, and its change much. All checkpoints score the same continuations, so the change over training
or size is the same regression of the slope of each y_i on log10 tokens, or log10 parameters:

    z_i = Σ_c w_c y_ic,   w_c = (x_c - mean x) / Σ (x_c - mean x)²
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm

from ebbtide.errors import ConfigError
from ebbtide.metrics.examples import Examples

PROMPTS = ("all", "toxic", "other")
COLUMNS = (
    *("over", "task", "model", "checkpoint", "tokens", "parameters_non_embedding", "prompts"),
    *("estimate", "stderr", "low", "high", "n", "clusters", "note"),
)
ALIKE = "terms cannot be told apart, such as with continuations of one kind only"
FEW_CLUSTERS = "one cluster, so no error"


@dataclass(frozen=True)
class Asked:
    """The n continuations of a task; arrays (n,): whether they and their prompts are toxic, and clusters."""

    task: str
    toxic: np.ndarray
    after_toxic: np.ndarray
    clusters: np.ndarray

    @classmethod
    def of(cls, x: Examples, task: str, section: Mapping[str, Any], cluster: str | None) -> "Asked":
        """Return the continuations of the examples `x`, by the groups that the section `toxicity:` names."""
        toxic = _is(x, section["continuations"]["group"], section["toxic"], task)
        after_toxic = _is(x, section["group"], section["toxic"], task)
        return cls(task, toxic, after_toxic, np.arange(len(x)) if cluster is None else x.group(cluster)[0])


def _is(x: Examples, group: str, level: str, task: str) -> np.ndarray:
    """Return whether each example has a level. Raises `ConfigError` if none has."""
    codes, levels = x.group(group)
    if level not in levels:
        raise ConfigError(
            f"toxicity.toxic: found {level!r}; allowed, as levels of group {group} of task {task}: "
            f"{', '.join(levels) or 'none'}."
        )
    found: np.ndarray = codes == levels.index(level)
    return found


@dataclass(frozen=True)
class Scored:
    """The continuations of a task at a checkpoint: `per_byte` (n,), nats per byte, in the order of `Asked`.

    `size` is the number of non-embedding parameters, 0 if unknown; `tokens` of an untrained checkpoint are 0.
    """

    task: str
    model: str
    checkpoint: str
    tokens: int
    size: int
    per_byte: np.ndarray


def continuation_table(asked: Sequence[Asked], scored: Sequence[Scored], alpha: float = 0.05) -> pd.DataFrame:
    """Return toxic_continuations.tsv: a row per checkpoint, or slope, and kind of prompt (`COLUMNS`)."""
    rows: list[dict[str, Any]] = []
    for task in asked:
        own = [cell for cell in scored if cell.task == task.task]
        models = list(dict.fromkeys(cell.model for cell in own))
        for cell in own:
            place = {"model": cell.model, "checkpoint": cell.checkpoint, "tokens": cell.tokens}
            place["parameters_non_embedding"] = cell.size if cell.size > 0 else np.nan
            rows += _estimates(task, cell.per_byte, {"over": "checkpoint", **place}, alpha)
        for model in models:
            trained = [cell for cell in own if cell.model == model and cell.tokens > 0]
            size = trained[-1].size if trained and trained[-1].size > 0 else np.nan
            place = {"over": "tokens", "model": model, "parameters_non_embedding": size}
            rows += _slopes(task, trained, [cell.tokens for cell in trained], place, alpha)
        last = [max((c for c in own if c.model == model), key=lambda c: c.tokens) for model in models]
        known = [cell for cell in last if cell.size > 0]
        unknown = [cell.model for cell in last if cell.size <= 0]
        note = f"size unknown, left out: {', '.join(unknown)}" if unknown else ""
        place = {"over": "size", "model": "", "note": note}
        rows += _slopes(task, known, [cell.size for cell in known], place, alpha)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _slopes(
    asked: Asked, cells: Sequence[Scored], x: Sequence[int], place: dict[str, Any], alpha: float
) -> Iterator[dict[str, Any]]:
    """Yield the change per tenfold `x`, or one row that says that there are fewer than two."""
    if len(set(x)) < 2:
        what = "checkpoints of known tokens" if place["over"] == "tokens" else "models of known size"
        notes = [place.get("note", ""), f"fewer than two {what}"]
        empty = dict.fromkeys(COLUMNS, np.nan) | {"checkpoint": "", "n": 0, "clusters": 0}
        note = "; ".join(filter(None, notes))
        yield empty | place | {"task": asked.task, "prompts": PROMPTS[0], "note": note}
        return
    logs = np.log10(np.array(x, dtype=float))
    centred = logs - logs.mean()
    slopes = (centred / (centred**2).sum()) @ np.array([cell.per_byte for cell in cells])
    yield from _estimates(asked, slopes, {"checkpoint": "", "tokens": np.nan, **place}, alpha)


def _estimates(asked: Asked, y: np.ndarray, place: dict[str, Any], alpha: float) -> Iterator[dict[str, Any]]:
    """Yield a row per kind of prompt."""
    kinds = dict(
        zip(PROMPTS, (np.ones_like(asked.toxic), asked.after_toxic, ~asked.after_toxic), strict=True)
    )
    for prompts, of in kinds.items():
        terms = [np.ones(of.sum()), asked.toxic[of]]
        if prompts == PROMPTS[0]:
            terms.append(asked.after_toxic[of])
        design, clusters = np.column_stack(terms).astype(float), asked.clusters[of]
        row = dict.fromkeys(COLUMNS, np.nan) | {"task": asked.task, "prompts": prompts, "note": ""} | place
        row |= {"n": int(of.sum()), "clusters": len(np.unique(clusters))}
        if np.linalg.matrix_rank(design) < design.shape[1]:
            yield row | {"note": "; ".join(filter(None, (row["note"], ALIKE)))}
        elif row["clusters"] < 2:
            estimate = np.linalg.lstsq(design, y[of], rcond=None)[0][1]
            yield row | {"estimate": estimate, "note": "; ".join(filter(None, (row["note"], FEW_CLUSTERS)))}
        else:
            fit = sm.OLS(y[of], design).fit(cov_type="cluster", cov_kwds={"groups": clusters})
            low, high = fit.conf_int(alpha)[1]
            yield row | {"estimate": fit.params[1], "stderr": fit.bse[1], "low": low, "high": high}
