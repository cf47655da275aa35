"""What a study cannot have, as is known before anything runs."""

from types import SimpleNamespace

import pytest

from ebbtide.study.study import Study


def study(*models: list[int], imported: bool = False) -> Study:
    """Models with these steps; a part of a study is enough."""
    rows = {
        str(i): SimpleNamespace(checkpoints=[SimpleNamespace(step=s, tokens=0) for s in steps])
        for i, steps in enumerate(models)
    }
    return Study("s", {}, rows, {}, imported=({"format": "table"},) if imported else ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("models", "training", "sizes"),
    [
        ([[0, 10]], "no model has two trained checkpoints", "there is only one model"),
        ([[10], [20]], "no model has two trained checkpoints", ""),
        ([[10], [10, 20]], "", ""),
        ([[0, 0]], "", "there is only one model"),  # steps are unknown: all count
    ],
)
def test_a_study_lacks_what_its_grid_does_not_have(models, training: str, sizes: str) -> None:
    found = study(*models)
    assert (found.lacks_training(), found.lacks_sizes()) == (training, sizes)


def test_the_checkpoints_of_imported_results_are_known_later() -> None:
    found = study(imported=True)
    assert (found.lacks_training(), found.lacks_sizes()) == ("", "")
