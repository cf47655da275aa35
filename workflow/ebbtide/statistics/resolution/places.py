"""Places: the arm, size and seed of every model, whether or not the study compares arms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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

    A model without an arm is an arm of its own, unless its seed is stated: models with a seed and without an
    arm are replicates.

    Parameters
    ----------
    runs
        All models, with the arms and seeds that their rows or series state.
    named
        Arm → patterns of models (`runs.arms`); empty: the stated arms.
    """
    arm_of = {run.model: arm for arm, of in arms_of(runs, named, "", partial=True).items() for run in of}
    labels = size_labels(runs)
    return {
        run.model: Place(
            run.model,
            arm_of.get(run.model) or (run.model if run.seed is None else UNNAMED),
            labels[run.size],
            run.size,
        )
        for run in runs
    }


def with_imported(runs: Sequence[Run], metrics: pd.DataFrame) -> list[Run]:
    """Add the models that only the metrics know (rows of `tables.METRICS`), such as those of imports."""
    known = {run.model for run in runs}
    sizes = metrics.groupby("model", sort=False)[["parameters_nominal", "parameters_total"]].max()
    return [
        *runs,
        *(
            Run(str(model), nominal=int(nominal), parameters=int(total))
            for model, nominal, total in sizes.itertuples()
            if model not in known
        ),
    ]
