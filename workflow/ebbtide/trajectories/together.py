"""Examples that all large models forget: how many, and how many by coincidence."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.multiplicity import adjusted
from ebbtide.trajectories.history import History

COLUMNS = (
    *("task", "metric", "models", "n", "forgotten_each", "forgotten_together"),
    *(
        "expected_independent",
        "p",
        "expected_flicker",
        "p_flicker",
        "p_adjusted",
        "p_flicker_adjusted",
        "note",
    ),
)


def largest_models(sizes: Mapping[str, int], count: int) -> list[str]:
    """The `count` largest models, the largest first; of equal ones, and those of unknown size, by name."""
    return sorted(sizes, key=lambda model: (-sizes[model], model))[:count]


def forgotten_together(histories: Iterable[History], largest: Sequence[str]) -> pd.DataFrame:
    """Per task and metric, the examples forgotten by every model of `largest`, columns `COLUMNS`.

    `expected_independent`: n ∏ (forgotten share of the model), as if each model forgot its number of examples
    at random; p is the exact distribution of the intersection (hypergeometric, one model after the other).
    `expected_flicker`: Σ_i ∏_m P(example i looks forgotten in m by flicker), which allows for examples that
    are hard for every model, but not for answers that drift slowly; p as in `forgetting`. Both take examples
    as independent of each other.
    """
    rows = []
    by_task: dict[tuple[str, str], dict[str, History]] = {}
    for h in histories:
        by_task.setdefault((h.task, h.metric), {})[h.model] = h
    for found in by_task.values():
        rows.append(_row([found[model] for model in largest if model in found], len(largest)))
    table = pd.DataFrame([row for row in rows if row]).reindex(columns=list(COLUMNS))
    for name in ("p", "p_flicker"):
        table[f"{name}_adjusted"] = adjusted(table[name].to_numpy(dtype=float), "bh")
    return table


def intersection_chance(n: int, sizes: Sequence[int], at_least: int) -> float:
    """P(|A_1 ∩ … ∩ A_m| >= at_least) for independent uniformly random subsets of n with these sizes."""
    from scipy.stats import hypergeom

    chances = np.zeros(n + 1)
    chances[sizes[0]] = 1.0
    for size in sizes[1:]:
        reached = np.flatnonzero(chances > 0)
        counts = np.arange(min(int(reached.max()), size) + 1)
        then = chances[reached] @ hypergeom.pmf(counts[None, :], n, reached[:, None], size)
        chances = np.zeros(n + 1)
        chances[counts] = then
    return float(min(1.0, chances[at_least:].sum()))


def _row(histories: Sequence[History], wanted: int) -> dict[str, Any]:
    if not histories:
        return {}
    first = histories[0]
    n = len(first.examples)
    row: dict[str, Any] = {
        "task": first.task,
        "metric": first.metric,
        "models": ", ".join(h.model for h in histories),
        "n": n,
    }
    if len(histories) < 2:
        return row | {"note": "one model: nothing is forgotten together"}
    if any(not np.array_equal(h.examples, first.examples) for h in histories):
        return row | {"note": "the models do not have the same examples"}
    masks = np.stack([h.forgotten for h in histories])
    sizes = [int(size) for size in masks.sum(axis=1)]
    both = int(masks.all(axis=0).sum())
    chances = np.prod([h.flicker for h in histories], axis=0)
    row |= {
        "forgotten_each": ", ".join(map(str, sizes)),
        "forgotten_together": both,
        "expected_independent": n * float(np.prod([size / n for size in sizes])),
        "p": intersection_chance(n, sizes, both),
        "expected_flicker": float(chances.sum()),
        "p_flicker": _heavier_tail(chances, both),
        "note": ""
        if len(histories) == wanted
        else f"{len(histories)} of the {wanted} largest models have it",
    }
    return row


def _heavier_tail(chances: np.ndarray, at_least: int) -> float:
    from scipy.stats import binom

    possible = chances > 0
    if not possible.any():
        return 1.0
    return float(binom.sf(at_least - 1, int(possible.sum()), chances[possible].mean()))
