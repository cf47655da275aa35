"""The summary answers for every study: one size or many, examples or means, any metric."""

import numpy as np
import pandas as pd
import pytest

from ebbtide.notices import Notice
from ebbtide.report.outcomes import outcomes
from ebbtide.report.summary import for_terminal, summarise
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.trends.trends import metric_trends, trend_table

VERDICTS = pd.DataFrame(
    {
        "task": ["t", "u", "v", "w"],
        "metric": "accuracy",
        "verdict": ["ebbs with size", "rises", "undecided", "undecided"],
        "why": ["", "", "one model size, at least 2 needed", "one model size, at least 2 needed"],
    }
)
NONE = VERDICTS.iloc[:0]


def metrics(curves: dict[str, list[float]], metric: str = "accuracy", stderr: float = 0.01) -> pd.DataFrame:
    """One model; task → values at the steps 0, 1, 2, …"""
    rows = [
        {
            **{
                "model": "m",
                "checkpoint": f"step{step}",
                "step": step,
                "tokens": 1000 * 10**step * (step > 0),
            },
            **{"parameters_non_embedding": 100, "task": task, "metric": metric, "value": value},
            **{"stderr": stderr, "source": "scored"},
        }
        for task, values in curves.items()
        for step, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def lines_of(table: pd.DataFrame, trends: pd.DataFrame | None = None) -> list[str]:
    found = outcomes(table, trends, None, followed=["accuracy"])
    return summarise(table, found, NONE, [], []).splitlines()[3:]


def test_a_model_of_one_size_has_its_outcome_from_its_own_curve():
    lines = lines_of(
        metrics({"falls": [0.5, 0.9, 0.6, 0.3], "rises": [0.5, 0.1, 0.4, 0.9], "peaks": [0.5, 0.1, 0.9, 0.2]})
    )
    assert [line.split("  ")[0] for line in lines] == ["got worse", "peaked, then got worse", "got better"]
    assert "m  accuracy 0.9 → 0.3; slope -0.3 [" in lines[0]
    assert "accuracy 0.1 → 0.2; best 0.9 at step2" in lines[1]


def test_a_loss_that_falls_got_better():
    lines = lines_of(metrics({"text": [5.0, 4.0, 3.0, 2.0]}, metric="loss"))
    assert lines[0].startswith("got better  text  m  loss 4 → 2; slope -1 [")


def test_checkpoints_of_unknown_tokens_keep_their_place_in_training():
    table = metrics({"t": [0.5, 0.9, 0.6, 0.3]})
    table.loc[table["step"] == 2, "tokens"] = 0
    assert "accuracy 0.9 → 0.3;" in lines_of(table)[0]


def test_undecided_has_its_reason():
    lines = lines_of(metrics({"noise": [0.5, 0.50, 0.52, 0.51]}, stderr=0.05))
    assert "undecided" in lines[0]
    assert "no change is significant, and changes up to 0." in lines[0]
    assert "only means are known" in lines[0]
    [alone] = lines_of(metrics({"alone": [0.5]}))
    assert "accuracy 0.5 at step0; one trained checkpoint: nothing to compare; add checkpoints" in alone
    [blind] = lines_of(metrics({"blind": [0.1, 0.5, 0.9]}, stderr=float("nan")))
    assert "no standard errors (stderr or n) are known" in blind


def test_the_trend_of_examples_decides_where_it_exists():
    """Means of the same examples: the means alone cannot show the change, the pairs can."""
    rng = np.random.default_rng(1)
    first = rng.random(400) < 0.5
    later = first.copy()
    later[np.flatnonzero(first)[:24]] = False  # 6 % lost, none gained
    values = np.stack([first, later]).astype(float)
    table = metrics({"t": [0.5, *values.mean(axis=1)]}, stderr=0.025)
    checkpoints = table[["checkpoint", "step", "tokens"]].iloc[1:].reset_index(drop=True)
    sizes = {"non_embedding": 100}
    examples, clusters = np.arange(400).astype(str), np.arange(400)
    one = Trajectory("m", "t", checkpoints, sizes, examples, clusters, {"accuracy": values})
    trends = trend_table(list(metric_trends(one, ["accuracy"], 0.05)))
    assert lines_of(table)[0].startswith("undecided")
    assert lines_of(table, trends)[0].startswith("got worse")


def test_the_grid_the_verdicts_and_their_reasons():
    table = metrics({"t": [0.5, 0.6], "u": [0.1, 0.2]})
    table.loc[table["task"] == "u", "source"] = "imported"
    text = summarise(
        table, outcomes(table, None, None, followed=["accuracy"]), VERDICTS, [], ["r/trends.tsv"]
    )
    assert text.startswith("2 cells scored, 2 cells imported: 1 model × 2 checkpoints × 2 tasks.\n")
    assert "\nebbs with size: t\nrises: u\nundecided: v, w (one model size, at least 2 needed)\n" in text
    assert text.endswith("\nFiles: r/trends.tsv.\n")
    robustness = pd.DataFrame({"task": ["t", "u"], "metric": "accuracy", "survives": ["11 of 15", "9 of 15"]})
    found = outcomes(table, None, None, followed=["accuracy"])
    text = summarise(table, found, VERDICTS, [], [], robustness=robustness)
    assert "\nebbs with size: t (11 of 15 choices)\nrises: u\n" in text


def test_the_sentences_about_runs_come_before_the_notices():
    table = metrics({"t": [0.5, 0.6]})
    found = outcomes(table, None, None, followed=["accuracy"])
    runs = pd.DataFrame({"reference": "old", "sentence": ["new leads at 70M.", "new leads at 1B."]})
    notices = [Notice("note", "defaulted", "Something.")]
    text = summarise(table, found, NONE, notices, [], runs=runs)
    heading = "Runs compared with old, over their last checkpoints"
    assert f"\n\n{heading}\nnew leads at 70M.\nnew leads at 1B.\n\nWhat to know" in text
    assert "Runs compared" not in summarise(table, found, NONE, notices, [], runs=runs[:0])


def test_tasks_without_a_regression_have_their_reason_among_the_notices_only():
    table = metrics({"t": [0.5, 0.6]})
    without = VERDICTS.iloc[2:].assign(why="no regression: one model size only")
    text = summarise(table, outcomes(table, None, None, followed=[]), without, [], [])
    assert "\nno regression, for the reasons below: v, w\n" in text and "one model size only" not in text


def test_made_up_numbers_come_with_a_warning():
    table = metrics({"t": [0.5, 0.6]}).assign(source=["scored", "fake"])
    first, second, *_ = summarise(table, outcomes(table, None, None, followed=[]), NONE, [], []).splitlines()
    assert first == "FAKE: 1 cell with made-up numbers (scoring.backend: fake), not results."
    assert second.startswith("2 cells scored: 1 model")


def test_notices_are_listed_worst_first():
    notices = [
        Notice("note", "defaulted", "The window is unknown.", "Set scoring.max_length.", model="m"),
        Notice("warning", "tied", "12 of 300 examples are tied.", task="t", model="m", checkpoint="step2"),
    ]
    text = summarise(
        metrics({"t": [0.5]}), outcomes(metrics({"t": [0.5]}), None, None, followed=[]), NONE, notices, []
    )
    heading, first, second = text.splitlines()[-3:]
    assert heading == "What to know before you use these numbers: 1 warning and 1 note"
    assert first == "warning  tied: model m, checkpoint step2, task t: 12 of 300 examples are tied."
    assert second == "note     defaulted: model m: The window is unknown. Set scoring.max_length."


@pytest.mark.parametrize(("lines", "printed"), [(5, 5), (6, 6), (40, 6)])
def test_a_long_section_is_cut_on_the_terminal(lines: int, printed: int):
    text = "\n".join(f"line {i}" for i in range(lines)) + "\n\nthe end\n"
    shown = for_terminal(text, "summary.txt", most=5).splitlines()
    assert len(shown) == printed + 2 and shown[-1] == "the end"
    if lines == 40:
        assert shown[5] == "… and 35 more lines in summary.txt"
