"""What a study cannot have, as is known before anything runs."""

from types import SimpleNamespace

import numpy as np
import pytest

from ebbtide.statistics.regression.design import COEFFICIENTS, reason_of_arrays
from ebbtide.study.study import LEAST_CELLS, Study


def study(
    *models: list[int], tokens: int = 10, imported: bool = False, needs: str = "loglikelihoods", size: int = 0
) -> Study:
    """Models with checkpoints at these steps, with `tokens` per step; a part of a study is enough."""
    rows = {
        str(i): SimpleNamespace(
            name=str(i),
            parameters=size,
            checkpoints=[
                SimpleNamespace(model=str(i), step=s, tokens=s * tokens, nominal=0, parents=()) for s in steps
            ],
        )
        for i, steps in enumerate(models)
    }
    tasks = {"t": SimpleNamespace(kind=SimpleNamespace(needs=needs))}
    sources = ({"format": "table"},) if imported else ()
    return Study("s", {}, rows, tasks, imported=sources)  # type: ignore[arg-type]


def averaged(of: Study, model: str) -> Study:
    """The study, where the checkpoints of a model are averages of those of the first."""
    parent = of.models["0"].checkpoints[0]
    for checkpoint in of.models[model].checkpoints:
        checkpoint.parents = (parent,)  # type: ignore[misc]
    return of


ONE, NO_TWO = "there is only one model", "no model has two trained checkpoints"


@pytest.mark.parametrize(
    ("found", "training", "sizes"),
    [
        (study([0, 10]), NO_TWO, ONE),
        (study([10], [20]), NO_TWO, ""),
        (study([10], [10, 20]), "", ""),
        (study([0, 0]), "", ONE),  # steps are unknown: all count
        (averaged(study([10], [10, 20]), "1"), "", f"{ONE} apart from averages"),
    ],
)
def test_a_study_lacks_what_its_grid_does_not_have(found: Study, training: str, sizes: str) -> None:
    assert found.lacks(trained=2) == training
    assert found.lacks(models=2, averages=False) == sizes


def test_training_tokens_and_answers_may_be_needed() -> None:
    steps = study([10, 20, 30], tokens=0)
    unknown = "known training tokens (set tokens_per_step)"
    assert steps.lacks(trained=3) == ""
    assert steps.lacks(trained=3, tokens=True) == f"no model has three checkpoints with different {unknown}"
    assert steps.lacks(tokens=True) == f"no model has a checkpoint with {unknown}"
    assert study([10, 20, 30]).lacks(trained=3, tokens=True) == ""
    assert study([10, 10]).lacks(trained=2, tokens=True).startswith("no model has two checkpoints with diff")
    documents = "all tasks are documents, which have losses but no right or wrong answers"
    assert study([10], needs="losses").lacks(answers=True) == documents
    assert study([10], needs="losses").lacks() == study([10]).lacks(answers=True) == ""


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (study([10, 20, 30, 40, 50]), ONE),
        (study([10, 20, 30], [10, 20]), ""),
        (study([10, 20], [10, 20]), "there are 4 trained checkpoints, but a regression needs 5"),
        (study(*[[10]] * 6),
         "all checkpoints have the same training tokens, but the regression is over them"),
        (study([10, 20], [10, 20, 30], size=8000),
         "all models have 8,000 parameters, but the regression is over sizes"),
        (study([10, 20, 30], [10, 20], tokens=0),
         "no model has a checkpoint with known training tokens (set tokens_per_step)"),
        (averaged(study([10, 20, 30], [10, 20], [10, 20, 30]), "2"), ""),
        (averaged(study([10, 20], [10, 20], [10, 20, 30]), "2"),
         "there are 4 trained checkpoints, but a regression needs 5"),
    ],
)  # fmt: skip
def test_a_regression_needs_sizes_tokens_and_cells(found: Study, reason: str) -> None:
    assert found.lacks_regression() == reason


def test_the_least_cells_are_those_of_the_regression() -> None:
    assert LEAST_CELLS == COEFFICIENTS + 1
    grid = np.array([[1, 1], [1, 2], [2, 1], [2, 2], [3, 3.0]])
    y = np.arange(5.0)
    assert "more than 4 needed" in reason_of_arrays(y[:4], grid[:4])
    assert reason_of_arrays(y, grid) == ""


def test_the_checkpoints_of_imported_results_are_known_later() -> None:
    found = study(imported=True)
    assert found.lacks(models=2, trained=3, tokens=True, answers=True) == found.lacks_regression() == ""
