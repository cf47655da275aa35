"""Replicates: models of one arm and size, which differ only by seed, whether or not the study compares arms.

Every stage that treats seeds as replicates (regression, trends, alarms, resolution) takes them from here.
"""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ebbtide.notices import Notice, listed
from ebbtide.study.arms import Run, arms_of, imported_run, size_labels

UNNAMED = "(no arm)"


@dataclass(frozen=True)
class Place:
    """A model among the runs of a study: its arm (data mixture or recipe), and its size, also as a number.

    Attributes
    ----------
    alone
        Whether nothing states its arm, so that it is an arm of its own, named like the model.
    """

    model: str
    arm: str
    size: str
    parameters: int
    seed: int | None = None
    alone: bool = False

    @property
    def stated_arm(self) -> str:
        """The arm, or "" if none was stated."""
        return "" if self.alone or self.arm == UNNAMED else self.arm

    @property
    def recipe(self) -> str:
        """The label that replicates have in common, such as `facts 15.3K`; without an arm, `15.3K`."""
        return self.size if self.arm == UNNAMED else f"{self.arm} {self.size}"


def places_of(runs: Sequence[Run], named: Mapping[str, Sequence[str]]) -> dict[str, Place]:
    """Return the place of every model.

    A model without an arm is an arm of its own, unless its seed is known: models of one size with a seed and
    without an arm are replicates. If two of them have the same seed, or were trained here with other recipes,
    something else differs, and none of this size are.

    Parameters
    ----------
    runs
        All models, with the arms and seeds that their rows or series state.
    named
        Arm → patterns of models (`runs.arms`), which override what is stated. A model that states an arm of
        this name, but that no pattern matches, was left out of it.
    """
    arm_of = _arms(runs, named)
    for of_size in _seeded(runs, arm_of).values():
        if not _doubt(of_size):
            arm_of |= {run.model: UNNAMED for run in of_size}
    labels, arms = size_labels(runs), set(arm_of.values())
    return {
        run.model: Place(run.model, arm_of[run.model], labels[run.size], run.size, run.seed)
        if run.model in arm_of
        else Place(run.model, _own_arm(run.model, arms), labels[run.size], run.size, run.seed, alone=True)
        for run in runs
    }


def _arms(runs: Sequence[Run], named: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return model → arm of the models whose arm is named or stated."""
    chosen = arms_of(runs, named, "", partial=True) if named else {}
    stated = {run.model: run.arm for run in runs if run.arm and run.arm not in chosen}
    return stated | {run.model: arm for arm, of in chosen.items() for run in of}


def _own_arm(model: str, arms: Container[str]) -> str:
    return f"{model} {UNNAMED}" if model in arms else model


def _seeded(runs: Sequence[Run], arm_of: Container[str]) -> dict[int, list[Run]]:
    """Return size → models with a seed and without an arm."""
    found: dict[int, list[Run]] = {}
    for run in runs:
        if run.model not in arm_of and run.seed is not None:
            found.setdefault(run.size, []).append(run)
    return found


def _doubt(runs: Sequence[Run]) -> tuple[str, list[Run]] | None:
    """Return why models of one size differ in more than their seeds, with the models that show it."""
    counts = Counter(run.seed for run in runs)
    if same := [run for run in runs if counts[run.seed] > 1]:
        return "have the seed of another of them", same
    return ("were trained with different recipes", list(runs)) if len({r.recipe for r in runs}) > 1 else None


def places_of_study(
    metrics: pd.DataFrame, stated: Sequence[Mapping[str, Any]], named: Mapping[str, Sequence[str]]
) -> dict[str, Place]:
    """Return the places of the models that have metrics.

    Parameters
    ----------
    metrics
        Rows of `tables.METRICS`: sizes, and imported models.
    stated, named
        As rules pass them: fields of `study.arms.Run` of the models of the grid and of those that rows of
        `imported` list, and the section `runs.arms`.
    """
    return places_of(with_sizes([Run(**of) for of in stated], metrics), named)


def replicate_notices(
    metrics: pd.DataFrame, stated: Sequence[Mapping[str, Any]], named: Mapping[str, Sequence[str]]
) -> list[Notice]:
    """Return one notice per size whose models have several seeds, but are no replicates; see `places_of`."""
    runs = with_sizes([Run(**of) for of in stated], metrics)
    labels, found = size_labels(runs), []
    for size, of_size in _seeded(runs, _arms(runs, named)).items():
        doubt = _doubt(of_size)
        if doubt and len({run.seed for run in of_size}) > 1:
            why, models = doubt
            detail = (
                f"The {len(of_size)} models of {labels[size]} that state a seed and no arm do not count as "
                f"replicates, because {listed(run.model for run in models)} {why}, so that something else "
                "differs."
            )
            remedy = "Set `arm` in rows of models, or runs.arms: models of one arm and size are replicates."
            found.append(Notice("warning", "not_compared", detail, remedy, count=len(of_size)))
    return found


def replicates(places: Mapping[str, Place]) -> dict[str, str]:
    """Return model → recipe of the models that have a replicate; models of unknown size have none."""
    known = [one for one in places.values() if one.parameters and not one.alone]
    runs = Counter(one.recipe for one in known)
    return {one.model: one.recipe for one in known if runs[one.recipe] > 1}


def common_sizes(exact: Mapping[str, float], places: Mapping[str, Place]) -> dict[str, float]:
    """Return model → the largest of the exact sizes of the models of its size; unknown ones are as they are.

    Models of one size by name may have slightly different numbers of parameters. Without replicates, every
    model keeps its own.
    """
    placed = {model: places[model] for model in exact if model in places and places[model].parameters}
    if not replicates(placed):
        return dict(exact)
    largest: dict[str, float] = {}
    for model, place in placed.items():
        largest[place.size] = max(exact[model], largest.get(place.size, 0.0))
    return {model: largest[placed[model].size] if model in placed else exact[model] for model in exact}


def with_sizes(stated: Sequence[Run], metrics: pd.DataFrame) -> list[Run]:
    """Return the models that have metrics, with their sizes: first the stated ones, then other imports."""
    known = {run.model: run for run in stated}
    sizes = metrics.groupby("model", sort=False)[
        ["parameters_nominal", "parameters_total", "parameters_non_embedding"]
    ].max()
    order = [*(m for m in known if m in sizes.index), *(m for m in sizes.index if m not in known)]
    found = []
    for model in order:
        nominal, total, inner = (int(value) for value in sizes.loc[model].fillna(0))
        run = known.get(model) or imported_run(model, nominal, total)
        found.append(replace(run, nominal=nominal, parameters=total or inner))
    return found
