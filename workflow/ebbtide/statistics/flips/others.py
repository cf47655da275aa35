"""In how many other models the same examples flipped between the same training tokens."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import sign_of
from ebbtide.statistics.flips.answers import is_right_or_wrong
from ebbtide.statistics.flips.changes import GAINED, LOST
from ebbtide.statistics.flips.on_disk import PAIR
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.same_tokens import nearest


def with_other_models(
    examples: pd.DataFrame,
    trajectories: Iterable[Trajectory],
    related: Mapping[str, str] | None = None,
    tolerance: float = 0.0,
) -> pd.DataFrame:
    """Count the other models in which the same example flipped in the same direction.

    Another model is comparable if it has a checkpoint with the training tokens of `from` and one with those
    of `to`, each within `tolerance`; the nearest counts. Averages of checkpoints are not other models.

    Parameters
    ----------
    examples
        Rows of flips, with the columns `PAIR`, `from_tokens`, `to_tokens`, `example` and `flip`.
    trajectories
        All models and tasks of the study; read once.
    related
        Model of averages → model whose checkpoints it averages.
    tolerance
        Largest difference of training tokens that count as the same, as a share of them (`same_tokens`).

    Returns
    -------
    `examples` with three more columns. `other_models` is the number of comparable models, `also_flipped`
    how many of them flipped in the same direction, and `also_in` their names. All are missing if a model is
    compared with another one, if training tokens are unknown, and for metrics that are not 0 or 1.
    """
    related = related or {}
    pairs = _pairs(examples)
    comparable = np.zeros(len(examples), dtype=int)
    names: list[list[str]] = [[] for _ in range(len(examples))]
    for trajectory in trajectories if pairs else ():
        if trajectory.model in related:
            continue
        index = pd.Index([str(name) for name in trajectory.examples])
        for pair in pairs.get(trajectory.task, ()):
            own = {pair["model"], related.get(pair["model"], pair["model"])}
            changed = None if trajectory.model in own else _change(trajectory, pair, tolerance)
            if changed is None:
                continue
            at = index.get_indexer(pair["example"])
            known = at >= 0
            comparable[pair["rows"][known]] += 1
            same = known & (changed[at] == pair["direction"])
            for row in pair["rows"][same]:
                names[row].append(trajectory.model)
    answerable = np.zeros(len(examples), dtype=bool)
    for of_task in pairs.values():
        for pair in of_task:
            answerable[pair["rows"]] = True
    counted = pd.DataFrame(
        {"other_models": comparable, "also_flipped": list(map(len, names))}, index=examples.index
    ).astype("Int64")
    counted.loc[~answerable] = pd.NA
    joined = [", ".join(of) if known else None for of, known in zip(names, answerable, strict=True)]
    return examples.assign(**counted, also_in=pd.Series(joined, index=examples.index, dtype=object))


def _pairs(examples: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return the pairs of checkpoints whose flips other models can have, by task."""
    pairs: dict[str, list[dict[str, Any]]] = {}
    numbered = examples.reset_index(drop=True)
    for _, rows in numbered.groupby(list(PAIR), sort=False):
        first = {str(name): value for name, value in rows.iloc[0].items()}
        known = pd.notna(first["from_tokens"]) and pd.notna(first["to_tokens"])
        if known and first["from_model"] == first["model"] and is_right_or_wrong(first["metric"]):
            direction = np.select([rows["flip"] == LOST, rows["flip"] == GAINED], [-1, 1], 0)
            of = {"rows": rows.index.to_numpy(), "example": rows["example"], "direction": direction}
            pairs.setdefault(str(first["task"]), []).append({**first, **of})
    return pairs


def _change(trajectory: Trajectory, pair: Mapping[str, Any], tolerance: float) -> np.ndarray | None:
    """Return the change of every example, -1, 0 or 1; None if the model is not comparable."""
    if pair["metric"] not in trajectory.values:
        return None
    before, after = (
        nearest_checkpoint(trajectory.checkpoints, pair[end], tolerance)
        for end in ("from_tokens", "to_tokens")
    )
    if before is None or after is None or before == after:
        return None
    values = trajectory.values[pair["metric"]]
    change: np.ndarray = np.sign(sign_of(pair["metric"]) * (values[after] - values[before]))
    return change


def nearest_checkpoint(checkpoints: pd.DataFrame, tokens: int, tolerance: float) -> int | None:
    """Return the position of the checkpoint with these training tokens, within the tolerance, or None.

    `checkpoints` has `step` and `tokens`; 0 tokens is the untrained one (step 0).
    """
    own, steps = (checkpoints[name].to_numpy(float) for name in ("tokens", "step"))
    own = np.where((own == 0) & (steps > 0), np.inf, own)  # trained on an unknown number of tokens
    order = np.argsort(own, kind="stable")
    [found] = nearest(np.array([tokens], dtype=float), own[order], tolerance)
    return int(order[found]) if found >= 0 else None
