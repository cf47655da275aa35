"""Places: the arm, size and seed of every model, whether or not the study compares arms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ebbtide.study.arms import Run, arms_of, size_labels

UNNAMED = "(no arm)"


@dataclass(frozen=True)
class Place:
    """A model among the runs of a study: its arm (data mixture or recipe), and its size, also as a number."""

    model: str
    arm: str
    size: str
    parameters: int


def places_of(runs: Sequence[Run], named: Mapping[str, Sequence[str]]) -> dict[str, Place]:
    """Return the place of every model.

    A model without an arm is an arm of its own, unless its seed is known: models with a seed and without an
    arm are replicates. If two of one size have the same seed, something else differs, and none of them are.

    Parameters
    ----------
    runs
        All models, with the arms and seeds that their rows or series state.
    named
        Arm → patterns of models (`runs.arms`); empty: the stated arms.
    """
    arm_of = {run.model: arm for arm, of in arms_of(runs, named, "", partial=True).items() for run in of}
    labels = size_labels(runs)
    seeded = [run for run in runs if run.model not in arm_of and run.seed is not None]
    if len({(run.size, run.seed) for run in seeded}) == len(seeded):
        arm_of |= {run.model: UNNAMED for run in seeded}
    return {
        run.model: Place(run.model, arm_of.get(run.model, run.model), labels[run.size], run.size)
        for run in runs
    }


def with_imported(runs: Sequence[Run], metrics: pd.DataFrame) -> list[Run]:
    """Add what only the metrics know (rows of `tables.METRICS`).

    These are models, such as those of imports, and sizes: those of models from a hub without `nominal` are
    known once they are scored.
    """
    sizes = metrics.groupby("model", sort=False)[["parameters_nominal", "parameters_total"]].max()
    measured = {
        str(model): Run(str(model), nominal=int(nominal), parameters=int(total))
        for model, nominal, total in sizes.itertuples()
    }
    found = {run.model: run for run in runs}
    for model, run in measured.items():
        if (known := found.setdefault(model, run)).size == 0:
            found[model] = replace(known, nominal=run.nominal, parameters=run.parameters)
    return list(found.values())
