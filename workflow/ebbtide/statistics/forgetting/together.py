"""Examples that all large models forget, and the number expected by chance."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.statistics.forgetting.history import History
from ebbtide.statistics.multiplicity import adjusted

COLUMNS = (
    *("task", "metric", "models", "n", "forgotten_each", "forgotten_together"),
    *("expected_independent", "expected_difficulty", "p", "p_adjusted", "note"),
)


def largest_models(
    sizes: Mapping[str, int], count: int, replicates: Mapping[str, str] | None = None
) -> list[str]:
    """Return the `count` largest models, largest first; ties are sorted by name. Unknown sizes are 0.

    Of models that differ only by seed (`replicates`: model → what they have in common), the first by name is
    taken. If all were, they would be of fewer sizes, or more models would have to forget an example.
    """
    ordered = sorted(sizes, key=lambda model: (-sizes[model], model))
    first = {(replicates or {}).get(model, model): model for model in reversed(ordered)}
    return [model for model in ordered if model in first.values()][:count]


def forgotten_together(
    histories: Iterable[History], largest: Sequence[str], replicates: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Count the examples forgotten by every model of `largest`: a row per task and metric, columns `COLUMNS`.

    expected_independent
        n ∏ (forgotten share of the model): each model forgets its number of examples at random. Examples that
        are hard for every model are forgotten together more often than that.
    expected_difficulty
        Σ_i ∏_m q_m(k_mi), where k_mi is how often example i is right in model m, and q_m(k) is the share
        forgotten among the examples that are right k times in that model. In the Rasch model, models that
        share only difficulty forget independently given these counts. q is estimated, so trends and slow
        drift do not bias it.
    p
        Probability of at least as many under shared difficulty, from the binomial with the same mean, which
        has heavier tails than the sum of unequal probabilities (Hoeffding 1956). Examples are assumed
        independent.
    note
        Also which of `replicates` is taken.
    """
    rows = []
    by_task: dict[tuple[str, str], dict[str, History]] = {}
    for h in histories:
        by_task.setdefault((h.task, h.metric), {})[h.model] = h
    models = {model for found in by_task.values() for model in found}
    for (task, metric), found in by_task.items():
        having = [found[model] for model in largest if model in found]
        why = _nothing_to_compare(having, largest, len(models))
        row = (
            {"task": task, "metric": metric, "note": why} if why else _row(having, largest, replicates or {})
        )
        rows.append({"models": ", ".join(h.model for h in having), "n": _examples(having), **row})
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    table["p_adjusted"] = adjusted(table["p"].to_numpy(dtype=float), "bh")
    return table


def chance_by_difficulty(history: History) -> np.ndarray:
    """(n,): share forgotten among the examples that are right as often as this one."""
    often = history.right.sum(axis=0)
    _, at, count = np.unique(often, return_inverse=True, return_counts=True)
    shares: np.ndarray = (np.bincount(at, weights=history.forgotten) / count)[at]
    return shares


def _nothing_to_compare(having: Sequence[History], largest: Sequence[str], models: int) -> str:
    """Return why the largest models cannot be compared on a task; empty if they can."""
    if models < 2:
        return "one model only: nothing to compare"
    if len(largest) < 2:
        return f"forgetting.largest is {len(largest)}: at least 2 models are needed"
    names = ", ".join(largest)
    if not having:
        return f"none of the {len(largest)} largest models ({names}) has a history of this task"
    if len(having) < 2:
        return f"only {having[0].model} of the largest models ({names}) has a history of this task"
    other = next((h for h in having if not np.array_equal(h.examples, having[0].examples)), None)
    return f"{having[0].model} and {other.model} have different examples" if other else ""


def _examples(having: Sequence[History]) -> float:
    return len(having[0].examples) if having else np.nan


def _row(
    histories: Sequence[History], largest: Sequence[str], replicates: Mapping[str, str]
) -> dict[str, Any]:
    first, n = histories[0], len(histories[0].examples)
    runs = Counter(replicates.values())
    notes = [
        f"{h.model} stands for the {runs[replicates[h.model]]} runs of {replicates[h.model]}"
        for h in histories
        if h.model in replicates
    ]
    if len(histories) < len(largest):
        notes.append(f"only {len(histories)} of the {len(largest)} largest models have this task")
    unknown = [h.model for h in histories if not h.size]
    if unknown:
        notes.append(f"the sizes of {', '.join(unknown)} are unknown, so these may not be the largest models")
    masks = np.stack([h.forgotten for h in histories])
    sizes = [int(size) for size in masks.sum(axis=1)]
    both = int(masks.all(axis=0).sum())
    chances = np.prod([chance_by_difficulty(h) for h in histories], axis=0)
    return {
        "task": first.task,
        "metric": first.metric,
        "forgotten_each": ", ".join(map(str, sizes)),
        "forgotten_together": both,
        "expected_independent": n * float(np.prod([size / n for size in sizes])),
        "expected_difficulty": float(chances.sum()),
        "p": _heavier_tail(chances, both),
        "note": "; ".join(notes),
    }


def _heavier_tail(chances: np.ndarray, at_least: int) -> float:
    from scipy.stats import binom

    possible = chances > 0
    if not possible.any():
        return 1.0
    return float(binom.sf(at_least - 1, int(possible.sum()), chances[possible].mean()))
