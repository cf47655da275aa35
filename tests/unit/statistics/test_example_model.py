"""The model of single answers: known truth in, level and estimates out."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.regression.example_model import TERMS, compare, example_model
from ebbtide.statistics.regression.example_tasks import example_tasks
from ebbtide.statistics.regression.rasch import _symmetric, cell_log_odds
from simulate_example_model import SITUATIONS, answers, conditional


def task(right: np.ndarray, sizes: np.ndarray | None = None, **more: object) -> dict:
    M, T, _ = right.shape
    sizes = 10.0 ** np.arange(6, 6 + M) if sizes is None else sizes
    tokens = [10.0 ** np.arange(8, 8 + T)] * M
    return {
        "task": "t",
        "metric": "accuracy",
        "sizes": sizes,
        "tokens": tokens,
        "answers": list(right),
        **more,
    }


def test_symmetric_polynomials_by_their_definition():
    delta, times = np.array([0.3, -1.2, 2.0, 0.1]), np.array([2.0, 1.0, 0.0, 3.0, 1.0])

    def direct(d: np.ndarray) -> float:
        e = [sum(np.exp(sum(c)) for c in itertools.combinations(d, k)) for k in range(5)]
        return float(times @ np.log(e))

    value, slope = _symmetric(delta, times)
    assert value == pytest.approx(direct(delta))
    for c in range(4):
        step = 1e-6 * np.eye(4)[c]
        assert slope[c] == pytest.approx((direct(delta + step) - direct(delta - step)) / 2e-6, rel=1e-6)


def test_log_odds_of_cells_are_found_whatever_examples_are_like():
    rng = np.random.default_rng(0)
    truth = np.linspace(-1, 1, 12)
    skewed = rng.exponential(1.5, 4000) - 1.5
    found = cell_log_odds(rng.random((12, 4000)) < expit(truth[:, None] + skewed))
    assert found.log_odds - found.log_odds.mean() == pytest.approx(truth, abs=0.12)
    normal = cell_log_odds(rng.random((12, 4000)) < expit(truth[:, None] + rng.normal(0, 1.5, 4000)))
    assert normal.example_sd == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("situation", list(SITUATIONS))
def test_the_test_of_the_interaction_holds_its_level(situation):
    """5 % of 100 draws: 5 ± 4.4; the estimate has no bias beyond what effects within a model take off."""
    rng = np.random.default_rng(1)
    found = [conditional(answers(rng, 0.0, checkpoints=5, n=80, **SITUATIONS[situation])) for _ in range(100)]
    t = np.array([f.estimate / f.stderr for f in found])
    assert np.mean(np.abs(t) > 2.447) <= 0.11  # df 6
    assert abs(np.mean([f.estimate for f in found])) < 0.04


def test_the_truth_is_estimated():
    rng = np.random.default_rng(2)
    found = answers(rng, 0.5, levels=0.05, slopes=0.05, n=800)
    one = task(found.right, 10.0 ** (8 + found.size))
    table = example_model([one | {"tokens": [10.0 ** (9 + found.tokens)] * 8}]).set_index("term")
    assert table["estimate"].to_dict() == pytest.approx(
        {"parameters": 0.2, "tokens": 0.2, "interaction": 0.5}, abs=0.08
    )
    assert table["sd_examples"].iloc[0] == pytest.approx(1, abs=0.1) and (table["df"] == 6).all()
    assert table.loc["interaction", "p_adjusted"] < 1e-4


def test_all_right_and_all_wrong_cells_are_said():
    right = np.random.default_rng(3).integers(0, 2, (4, 4, 30))
    right[0, 0], right[3, 3] = 0, 1
    table = example_model([task(right)])
    assert np.isfinite(table["estimate"]).all() and "2 of 16 cells" in table["note"][0]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (task(np.ones((3, 3, 5))), "every answer is right"),
        (task(np.eye(4)[None].repeat(2, 0)), "2 models"),
        (task(np.eye(4)[None].repeat(3, 0), np.array([5.0, 5.0, 5.0])), "one model size only"),
        ({"task": "t", "metric": "a", "note": "no model of examples: because"}, "because"),
        ({"task": "t", "metric": "a"}, "0 models"),
    ],
)
def test_no_model_in_words(bad, words):
    table = example_model([bad])
    assert table["term"].tolist() == list(TERMS)
    assert table["p"].isna().all() and table["note"].str.contains(words).all()


def test_long_trainings_are_thinned_in_words():
    right = np.random.default_rng(4).integers(0, 2, (3, 9, 20))
    table = example_model([task(right)], checkpoints=4)
    assert table["cells"].tolist() == [12] * 3 and "4 of 9 checkpoints" in table["note"][0]


def test_agreement_with_the_regression_of_cells():
    table = pd.DataFrame(
        {
            "task": list("abcd"),
            "metric": "m",
            "term": "interaction",
            "estimate": [1.0, 1, 1, np.nan],
            "p": [0.01, 0.01, 0.9, np.nan],
            "p_adjusted": [0.01, 0.01, 0.9, np.nan],
        }
    )
    cells = table.assign(estimate=[2.0, -2, 2, 2], p_adjusted=[0.02, 0.02, 0.02, 0.02])
    words = compare(table, cells, 0.05)["agrees_with_cells"].tolist()
    assert words == ["yes", "no: the signs differ", "no: significant over cells only", ""]


def test_answers_of_a_study_by_task():
    places = pd.DataFrame({"checkpoint": ["a", "b", "c"], "step": [0, 1, 2], "tokens": [0, 10, 100]})

    def one(model: str, size: int, value: float) -> Trajectory:
        values = {"accuracy": np.full((3, 2), value)}
        return Trajectory(model, "t", places, {"total": size}, np.array(["x", "y"]), np.arange(2), values)

    [found] = example_tasks([one("m", 5, 1), one("unknown", 0, 1)], [("t", "accuracy")], "total")
    assert (
        found["sizes"] == [5]
        and found["tokens"][0].tolist() == [10, 100]
        and found["answers"][0].shape == (2, 2)
    )
    assert found["left_out"] == {"of unknown size": 1}
    assert set(example_model([found])["note"]) == {
        "no model of examples: 1 models of known size with 2 or more token counts, at least 3 needed; 1 "
        "models of unknown size are left out"
    }
    [share] = example_tasks([one("m", 5, 0.5)], [("t", "accuracy")], "total")
    assert "not a 0/1 metric" in share["note"]
    [other] = example_tasks([one("m", 5, 1)], [("t", "loss")], "total")
    assert "loss has no value" in other["note"]
