"""A study scored by the fake back end cannot be mistaken for one with results."""

import pandas as pd

from ebbtide.report.summary import summarise

METRICS = pd.DataFrame({"model": ["a", "a", "b"], "checkpoint": ["1", "2", "1"], "task": "t", "metric": "m"})
VERDICTS = pd.DataFrame(columns=["task", "metric", "model", "first", "last", "change", "verdict"])


def test_made_up_numbers_come_with_a_warning() -> None:
    made_up = METRICS.assign(source=["scored", "fake", "fake"])
    first, second, *_ = summarise(made_up, VERDICTS, "r").splitlines()
    assert first == "FAKE: 2 cells hold made-up numbers (scoring.backend: fake); nothing below is a result."
    assert second.startswith("3 cells scored: 2 models")
    assert "FAKE" not in summarise(METRICS.assign(source="scored"), VERDICTS, "r")
