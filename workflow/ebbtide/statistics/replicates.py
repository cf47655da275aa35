"""Replicates: models of one arm and size, which differ only by seed, whether or not the study compares arms.

Every stage that treats seeds as replicates (regression, trends, alarms, resolution) takes them from here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
    seed: int | None = None

    @property
    def stated_arm(self) -> str:
        """The arm, or "" if none was stated."""
        return "" if self.arm in {UNNAMED, self.model} else self.arm

    @property
    def recipe(self) -> str:
        """The label that replicates have in common, such as `facts 15.3K`; without an arm, `15.3K`."""
        return self.size if self.arm == UNNAMED else f"{self.arm} {self.size}"


def places_of(runs: Sequence[Run], named: Mapping[str, Sequence[str]]) -> dict[str, Place]:
    """Return the place of every model.

    A model without an arm is an arm of its own, unless its seed is known: models with a seed and without an
    arm are replicates. If two of one size have the same seed, or were trained here with other recipes,
    something else differs, and none of them are.

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
    distinct = len({(run.size, run.seed) for run in seeded}) == len(seeded)
    if distinct and len({(run.size, run.recipe) for run in seeded}) == len({run.size for run in seeded}):
        arm_of |= {run.model: UNNAMED for run in seeded}
    return {
        run.model: Place(
            run.model, arm_of.get(run.model, run.model), labels[run.size], run.size, seed=run.seed
        )
        for run in runs
    }


def places_of_study(
    metrics: pd.DataFrame, stated: Sequence[Mapping[str, Any]], named: Mapping[str, Sequence[str]]
) -> dict[str, Place]:
    """Return the places of the models that have metrics.

    Parameters
    ----------
    metrics
        Rows of `tables.METRICS`: sizes, and imported models.
    stated, named
        As rules pass them: fields of `study.arms.Run` of the models of the grid, and the section `runs.arms`.
    """
    return places_of(with_sizes([Run(**of) for of in stated], metrics), named)


def replicates(places: Mapping[str, Place]) -> dict[str, str]:
    """Return model → recipe of the models that have a replicate; models of unknown size have none."""
    known = [one for one in places.values() if one.parameters]
    runs = Counter(one.recipe for one in known)
    return {one.model: one.recipe for one in known if runs[one.recipe] > 1}


def with_sizes(stated: Sequence[Run], metrics: pd.DataFrame) -> list[Run]:
    """Return the models that have metrics, with their sizes: those of the grid first, then imported ones."""
    known = {run.model: run for run in stated}
    sizes = metrics.groupby("model", sort=False)[
        ["parameters_nominal", "parameters_total", "parameters_non_embedding"]
    ].max()
    order = [*(m for m in known if m in sizes.index), *(m for m in sizes.index if m not in known)]
    found = []
    for model in order:
        nominal, total, inner = (int(value) for value in sizes.loc[model].fillna(0))
        found.append(replace(known.get(model, Run(model)), nominal=nominal, parameters=total or inner))
    return found
