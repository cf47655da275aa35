"""The five lines at the end."""

import pandas as pd
import pytest

from ebbtide.report.summary import summarise

METRICS = pd.DataFrame(
    {"model": ["a", "a", "b"], "checkpoint": ["1", "2", "1"], "task": "t", "metric": "accuracy"}
).assign(source="scored")
VERDICTS = pd.DataFrame(
    {
        "task": ["t", "u", "v", "w"],
        "metric": "accuracy",
        "model": "b",
        "first": [0.9, 0.2, 0.5, float("nan")],
        "last": [0.1, 0.8, 0.5, float("nan")],
        "change": [-0.8, 0.6, 0.0, float("nan")],
        "verdict": ["ebbs with size", "rises", "undecided", "undecided"],
    }
)


def test_a_study_in_five_lines() -> None:
    lines = summarise(METRICS, VERDICTS, "results/s").splitlines()
    assert len(lines) == 5
    assert lines[0] == "3 cells scored: 2 models × 2 checkpoints × 1 tasks."
    several = VERDICTS.assign(task=["t", "t", "v", "w"], metric=["mc1", "mc2", "mc1", "mc1"])
    assert "(mc1, mc2 of b, first → last trained checkpoint): t mc1 0.90" in summarise(METRICS, several, "r")
    imported = METRICS.assign(source=["scored", "imported", "scored"])
    assert summarise(imported, VERDICTS, "r").startswith("2 cells scored, 1 imported: 2 models")
    assert lines[1] == "Ebbs with training (accuracy of b, first → last trained checkpoint): t 0.90 → 0.10."
    assert lines[2] == "Rises: u 0.20 → 0.80."
    assert lines[3] == "Undecided: v 0.50 → 0.50, w."
    assert "results/s/" in lines[4]


@pytest.mark.parametrize("nothing", ["", float("nan")])  # as computed, and as read from TSV
def test_without_training_nothing_has_changed(nothing: object) -> None:
    verdicts = VERDICTS.iloc[[3]].assign(model=nothing)
    lines = summarise(METRICS, verdicts, "results/s").splitlines()
    imported = METRICS.assign(source=["scored", "imported", "scored"])
    assert summarise(imported, VERDICTS, "r").startswith("2 cells scored, 1 imported: 2 models")
    assert lines[1] == "Ebbs with training: none."
    assert lines[3] == "Undecided: w."
