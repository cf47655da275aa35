"""Places: the arm, size and seed of every model, whether or not the study compares arms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
        run.model: Place(run.model, arm_of.get(run.model, run.model), labels[run.size], run.size)
        for run in runs
    }
