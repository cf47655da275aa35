"""Metrics of choices against their definitions, written out example by example."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.errors import CellError
from ebbtide.metrics import metrics_rows, per_example
from ebbtide.metrics.of_cell import measure, measured
from ebbtide.tables import METRICS as SCHEMA
from ebbtide.tables import write_parquet


def frames(examples: list[list[tuple[float, bool, int]]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cell and requests of examples that are lists of (log-likelihood, gold, characters)."""
    rows = [
        (f"e{e}", c, lp, gold, characters)
        for e, example in enumerate(examples)
        for c, (lp, gold, characters) in enumerate(example)
    ]
    table = pd.DataFrame(rows, columns=["example", "choice", "loglikelihood", "gold", "characters"])
    return table.drop(columns="gold"), table[["example", "choice", "gold"]]


def by_definition(example: list[tuple[float, bool, int]]) -> dict[str, float]:
    lps = [lp for lp, _, _ in example]
    per_character = [lp / characters for lp, _, characters in example]
    right = [lp for lp, gold, _ in example if gold]
    wrong = [lp for lp, gold, _ in example if not gold]
    best_tied, wrong_tied = right.count(max(right)), wrong.count(max(right))
    per_right = [lp / characters for lp, gold, characters in example if gold]
    normalised = [math.exp(score - max(per_character)) for score in per_character]
    top = max(lps)
    odds = math.fsum(math.exp(lp - top) for lp in lps)
    # The logarithm of the right choices' mass, relative to their own best: nothing vanishes.
    log_right = max(right) + math.log(math.fsum(math.exp(lp - max(right)) for lp in right))
    probabilities = [math.exp(lp - top) / odds for lp in lps]
    return {
        "accuracy": float(example[lps.index(top)][1]),
        "accuracy_per_character": float(example[per_character.index(max(per_character))][1]),
        "margin": max(right) - max(wrong),
        "choice_probability": math.exp(log_right - top) / odds,
        "classification_loss": math.log(odds) + top - log_right,
        "coverage": math.fsum(math.exp(lp) for lp in lps),
        "brier": math.fsum(
            (p - gold / len(right)) ** 2 for p, (_, gold, _) in zip(probabilities, example, strict=True)
        ),
        "ties": float(lps.count(top) > 1),
        "gold_probability": statistics.fmean(math.exp(lp) for lp in right),
        "gold_probability_per_character": statistics.fmean(math.exp(score) for score in per_right),
        "choice_probability_per_character": math.fsum(
            odds for odds, (_, gold, _) in zip(normalised, example, strict=True) if gold
        )
        / math.fsum(normalised),
        "gold_rank": 1 + sum(lp > max(right) for lp in wrong) + wrong_tied / (best_tied + 1),
    }


LOGLIKELIHOOD = st.sampled_from([-1.0, -2.0, -2.5]) | st.floats(-2000, -1e-3)  # the first make ties


@st.composite
def example(draw: st.DrawFn) -> list[tuple[float, bool, int]]:
    n = draw(st.integers(2, 5))
    gold = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda g: any(g) and not all(g)))
    return [(draw(LOGLIKELIHOOD), g, draw(st.integers(1, 40))) for g in gold]


@settings(deadline=None)
@given(examples=st.lists(example(), min_size=1, max_size=8), data=st.data())
def test_metrics_follow_their_definitions(
    examples: list[list[tuple[float, bool, int]]], data: st.DataObject
) -> None:
    cell, requests = frames(examples)
    order = data.draw(st.permutations(range(len(cell))))
    found = measure(cell.iloc[order], requests).set_index("metric")

    values = [by_definition(e) for e in examples]
    n = len(examples)
    assert (found["n"] == n).all()
    assert set(found.index) == {*values[0], "calibration_error", "majority_baseline"}
    for metric in values[0]:
        column = [value[metric] for value in values]
        assert found.loc[metric, "value"] == pytest.approx(math.fsum(column) / n, rel=1e-9, abs=1e-12)
        if n == 1:
            assert math.isnan(found.loc[metric, "stderr"])
        else:
            expected = statistics.stdev(column) / math.sqrt(n)
            assert found.loc[metric, "stderr"] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_case_by_hand() -> None:
    """Right, wrong, and right only per character; two choices each with probabilities that are known."""
    log = math.log
    cell, requests = frames(
        [
            [(log(0.6), True, 5), (log(0.2), False, 5)],
            [(log(0.1), True, 5), (log(0.3), False, 5)],
            [(log(0.04), True, 10), (log(0.16), False, 2)],
        ]
    )
    found = measure(cell, requests).set_index("metric")
    # The answers given: right with 0.75, wrong with 0.75 and 0.8; all confidences lie in (0.7, 0.8].
    assert found["value"].to_dict() == pytest.approx(
        {
            "accuracy": 1 / 3,
            "accuracy_per_character": 2 / 3,
            "margin": (log(3) - log(3) - log(4)) / 3,
            "choice_probability": (0.75 + 0.25 + 0.2) / 3,
            "classification_loss": -(log(0.75) + log(0.25) + log(0.2)) / 3,
            "coverage": (0.8 + 0.4 + 0.2) / 3,
            "brier": 2 * (0.25**2 + 0.75**2 + 0.8**2) / 3,
            "calibration_error": (0.75 + 0.75 + 0.8) / 3 - 1 / 3,
            "ties": 0.0,
            "majority_baseline": 1.0,
            "gold_probability": (0.6 + 0.1 + 0.04) / 3,
            "gold_probability_per_character": (0.6**0.2 + 0.1**0.2 + 0.04**0.1) / 3,
            "choice_probability_per_character": (
                1 / (1 + (0.2 / 0.6) ** 0.2) + 1 / (1 + (0.3 / 0.1) ** 0.2) + 1 / (1 + 0.4 / 0.04**0.1)
            )
            / 3,
            "gold_rank": (1 + 2 + 2) / 3,
        }
    )
    # Accuracies 1, 0, 0: standard deviation 1/√3, of the mean 1/3.
    assert found.loc["accuracy", "stderr"] == pytest.approx(1 / 3)
    assert found["n"].unique() == [3]


def test_the_first_of_equal_choices_is_the_answer() -> None:
    cell, requests = frames([[(-1.0, True, 1), (-1.0, False, 1)], [(-1.0, False, 1), (-1.0, True, 1)]])
    assert measure(cell, requests).set_index("metric").loc["accuracy", "value"] == 0.5


def test_rows_may_come_in_any_order() -> None:
    cell, requests = frames([[(-1.0, True, 1), (-1.0, False, 1)], [(-3.0, False, 2), (-2.0, True, 1)]])
    joined = cell.merge(requests)
    for table in (joined, joined.assign(role="choice")):
        pd.testing.assert_frame_equal(per_example(table.iloc[[3, 1, 2, 0]]), per_example(joined))


def test_a_vanishing_probability_keeps_a_finite_loss() -> None:
    cell, requests = frames([[(-3000.0, True, 1), (-1.0, False, 1)]])
    found = measure(cell, requests).set_index("metric")["value"]
    assert found["classification_loss"] == pytest.approx(2999.0)
    assert found["choice_probability"] == 0.0


@pytest.mark.filterwarnings("error")
def test_extreme_values_do_not_warn() -> None:
    cell, requests = frames([[(-3000.0, True, 1), (-1.0, False, 1)], [(-1.0, True, 1), (-3000.0, False, 1)]])
    assert np.isfinite(measure(cell, requests)["value"]).all()


def test_chance_is_what_a_uniform_answer_gets() -> None:
    """Two of four right; one of two right."""
    cell, requests = frames([[(-1.0, i < 2, 3) for i in range(4)], [(-1.0, i < 1, 3) for i in range(2)]])
    found = measure(cell, requests).set_index("metric")
    for metric in ("accuracy", "accuracy_per_character", "choice_probability"):
        assert found.loc[metric, "chance"] == 0.5
    assert found.loc["classification_loss", "chance"] == pytest.approx(math.log(2))
    assert found.loc["margin", "chance"] == 0
    assert math.isnan(found.loc["coverage", "chance"])
    # A model that gives every choice the same probability has those values.
    assert found.loc["brier", "chance"] == pytest.approx((1 / 2 - 1 / 4 + 1 - 1 / 2) / 2)
    for metric in ("choice_probability", "classification_loss", "margin", "brier"):
        assert found.loc[metric, "value"] == pytest.approx(found.loc[metric, "chance"])


def test_gold_may_be_a_weight() -> None:
    cell, requests = frames([[(-1.0, True, 1), (-2.0, False, 1)]])
    weights = requests.assign(gold=requests["gold"].astype(float))
    pd.testing.assert_frame_equal(measure(cell, weights), measure(cell, requests))


@pytest.mark.parametrize(
    ("drop", "side"),
    [("cell", r"example e0, choice 1 is only in the requests"), ("requests", "only in the cell")],
)
def test_cell_and_requests_must_match(drop: str, side: str) -> None:
    cell, requests = frames([[(-1.0, True, 1), (-2.0, False, 1)]])
    parts = {"cell": cell, "requests": requests}
    parts[drop] = parts[drop].iloc[:1]
    with pytest.raises(CellError, match=side):
        measure(**parts)


@pytest.mark.parametrize("gold", [True, False])
def test_an_example_needs_a_right_and_a_wrong_choice(gold: bool) -> None:
    cell, requests = frames([[(-1.0, True, 1), (-2.0, False, 1)], [(-1.0, gold, 1), (-2.0, gold, 1)]])
    with pytest.raises(CellError, match="example e1 needs a right and a wrong choice"):
        measure(cell, requests)


def test_requests_need_gold() -> None:
    cell, requests = frames([[(-1.0, True, 1), (-2.0, False, 1)]])
    with pytest.raises(CellError, match=r"no column 'gold' \(found: example, choice\)"):
        measure(cell, requests.drop(columns="gold"))


def test_rows_of_the_table(tmp_path) -> None:
    cell, requests = frames([[(-1.0, True, 1), (-2.0, False, 1)], [(-1.0, False, 1), (-2.0, True, 1)]])
    footer = {"parameters_total": 10, "parameters_non_embedding": 4, "seconds": 1.0}
    where = {
        "model": "m",
        "checkpoint": "step8",
        "step": 8,
        "tokens": 80,
        "task": "t",
        "parameters_nominal": 70,
    }
    rows = pd.DataFrame(metrics_rows(measured(cell, requests)[0], footer, where))
    assert rows.columns.tolist() == list(SCHEMA.columns)
    assert rows["parameters_non_embedding"].unique() == [4]
    assert rows["parameters_active"].unique() == [4]  # a cell of before it was counted
    assert rows["source"].unique() == ["scored"]
    write_parquet(rows, tmp_path / "metrics.parquet", SCHEMA)
