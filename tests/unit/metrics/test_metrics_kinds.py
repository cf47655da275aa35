"""Metrics of every kind of task: cases by hand, what must not matter, and what is refused."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.errors import CellError, TaskError
from ebbtide.metrics import METRICS, per_example, reliability
from ebbtide.metrics.of_cell import measure

log = math.log
CELL_COLUMNS = ("loglikelihood", "tokens", "bytes", "characters", "greedy")


def split(rows: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cell and requests of rows that hold the columns of both; counts are 1 unless given."""
    table = pd.DataFrame(rows)
    for name, default in (("tokens", 1), ("bytes", 1), ("characters", 1), ("greedy", False)):
        table[name] = table[name].fillna(default) if name in table else default
    keys = ["example", "choice"]
    return table[[*keys, *CELL_COLUMNS]], table.drop(columns=list(CELL_COLUMNS))


def values(rows: list[dict[str, Any]], **definition: Any) -> pd.Series:
    """Metric → value."""
    return measure(*split(rows), definition).set_index("metric")["value"]


def choices(example: str, lps: list[float], gold: int, **columns: Any) -> list[dict[str, Any]]:
    """Rows of one example; a list in `columns` has one value per choice."""
    return [
        {
            "example": example,
            "choice": k,
            "loglikelihood": lp,
            "gold": k == gold,
            **{name: v[k] if isinstance(v, list) else v for name, v in columns.items()},
        }
        for k, lp in enumerate(lps)
    ]


# ---- choice


def test_lengths_that_choose_differently() -> None:
    """-4, -5, -6: the first wins by itself, the second per byte, the third per token."""
    rows = choices("a", [-4.0, -5.0, -6.0], 0, bytes=[4, 10, 6], tokens=[1, 2, 3], characters=[4, 10, 5])
    for gold, right in enumerate(["accuracy", "accuracy_per_byte", "accuracy_per_token"]):
        found = values([{**row, "gold": row["choice"] == gold} for row in rows])
        of = {name: found[name] for name in ("accuracy", "accuracy_per_byte", "accuracy_per_token")}
        assert of == {name: float(name == right) for name in of}
    assert values([{**row, "gold": row["choice"] == 1} for row in rows])["accuracy_per_character"] == 1


@pytest.mark.parametrize("column", ["tokens", "bytes", "characters"])
def test_a_count_that_is_unknown_normalises_nothing(column: str) -> None:
    rows = choices("a", [-1.0, -2.0], 0) + choices("b", [-1.0, -2.0], 0, **{column: -1})
    metric = f"accuracy_per_{column[:-1]}"
    assert metric not in values(rows)
    with pytest.raises(
        TaskError, match=f"{metric} needs {column}, which neither the requests nor the cell have"
    ):
        values(rows, metrics=[metric])


def pmi_rows() -> list[dict[str, Any]]:
    """The second choice is likelier, but even likelier without the question."""
    asked = [{**row, "role": "choice", "of": row["choice"]} for row in choices("a", [-3.0, -2.0], 0)]
    bare = [
        {**row, "role": "unconditional", "of": row["choice"], "choice": row["choice"] + 2}
        for row in choices("a", [-6.0, -2.5], 0)
    ]
    return asked + bare


def test_pmi_subtracts_what_the_choice_gets_without_the_question() -> None:
    found = values(pmi_rows())
    assert (found["accuracy"], found["accuracy_pmi"]) == (0, 1)
    # Only the choices that are asked count: two, not four.
    assert found["choice_probability"] == pytest.approx(1 / (1 + math.e))
    assert "accuracy_pmi" not in values(choices("a", [-3.0, -2.0], 0))


def test_half_a_pair_is_refused() -> None:
    with pytest.raises(CellError, match="example a, choice 1 has no row of the role unconditional"):
        values(pmi_rows()[:3])
    with pytest.raises(CellError, match="example a, choice 1 has no row of the role choice"):
        values([row for row in pmi_rows() if row["choice"] != 1])
    with pytest.raises(CellError, match="two rows of the role unconditional for choice 0"):
        values([*pmi_rows(), {**pmi_rows()[2], "choice": 9}])
    with pytest.raises(CellError, match="role: found 'chioce', allowed: choice, unconditional, stop, other"):
        values([{**row, "role": "chioce"} for row in choices("a", [-1.0, -2.0], 0)])


def truthful() -> list[dict[str, Any]]:
    """True: 1 (the best), 3, not sorted. The likeliest is true, but not among the choices of MC1."""
    rows = choices("a", [log(0.1), log(0.2), log(0.15), log(0.4)], 0, best=[0, 1, -1, -1])
    return [{**row, "gold": row["choice"] in (1, 3)} for row in rows]


def test_mc1_and_mc2_by_hand() -> None:
    found = measure(*split(truthful())).set_index("metric")
    assert found.loc["mc1", ["value", "chance"]].tolist() == [1.0, 0.5]
    assert found.loc["mc2", ["value", "chance"]].tolist() == pytest.approx([0.6 / 0.85, 0.5])
    worse = [{**r, "loglikelihood": log(0.3)} if r["choice"] == 0 else r for r in truthful()]
    assert values(worse)["mc1"] == 0
    assert values(worse)["accuracy"] == 1


@settings(deadline=None, max_examples=24)
@given(order=st.permutations(range(4)))
def test_mc2_does_not_care_for_the_order_of_labels(order: list[int]) -> None:
    rows = [{**truthful()[old], "choice": new} for new, old in enumerate(order)]
    assert values(rows)[["mc1", "mc2"]].tolist() == pytest.approx([1.0, 0.6 / 0.85])


@pytest.mark.parametrize("best", [[0, 0, -1, -1], [1, 1, -1, 0], [1, -1, -1, -1]])
def test_mc1_needs_one_best_and_a_wrong_choice(best: list[int]) -> None:
    with pytest.raises(CellError, match="example a needs one best and a wrong choice"):
        values([{**row, "best": b} for row, b in zip(truthful(), best, strict=True)])


def test_the_majority_baseline_is_the_best_constant_answer() -> None:
    rows = [r for e, g in enumerate([2, 0, 2, 1, 2]) for r in choices(f"e{e}", [-1.0, -2.0, -3.0], g)]
    found = measure(*split(rows)).set_index("metric").loc["majority_baseline"]
    assert found["value"] == pytest.approx(3 / 5)
    assert found["stderr"] == pytest.approx(math.sqrt(0.6 * 0.4 / 4))


def two(p: float, right: bool, name: str) -> list[dict[str, Any]]:
    """An answer given with probability p > 1/2."""
    return choices(name, [log(p), log(1 - p)], 0 if right else 1)


def test_calibration_by_hand() -> None:
    """In (0.5, 0.6] 0.6 twice, once right; in (0.8, 0.9] 0.85, wrong and 0.9, right; nothing elsewhere."""
    cases = [(0.6, True), (0.6, False), (0.85, False), (0.9, True)]
    rows = [r for i, (p, right) in enumerate(cases) for r in two(p, right, f"e{i}")]
    assert values(rows)["calibration_error"] == pytest.approx((abs(1 - 1.2) + abs(1 - 1.75)) / 4)
    table = reliability(*split(rows))
    assert table["n"].tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 2, 0]
    assert table["low"].tolist() == pytest.approx(np.arange(10) / 10)
    filled = table[table["n"] > 0]
    assert filled["confidence"].tolist() == pytest.approx([0.6, 0.875])
    assert filled["accuracy"].tolist() == pytest.approx([0.5, 0.5])
    assert table.loc[table["n"] == 0, ["confidence", "accuracy"]].isna().all(axis=None)
    gap = (filled["n"] * (filled["accuracy"] - filled["confidence"]).abs()).sum() / len(cases)
    assert values(rows)["calibration_error"] == pytest.approx(gap)


def test_probabilities_that_are_what_they_say_have_little_calibration_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.0, 20_000)
    right = rng.random(len(p)) < p
    table = pd.DataFrame({"example": np.repeat(np.arange(len(p)), 2), "choice": np.tile([0, 1], len(p))})
    cell = table.assign(loglikelihood=np.log(np.stack([p, 1 - p], 1)).ravel())
    requests = table.assign(gold=np.stack([right, ~right], 1).ravel())
    found = measure(cell, requests).set_index("metric")["value"]
    assert found["calibration_error"] < 0.015
    # And those that are not: a model twice as sure as it should be.
    sure = measure(cell.assign(loglikelihood=2 * cell["loglikelihood"]), requests).set_index("metric")[
        "value"
    ]
    p2 = p**2 / (p**2 + (1 - p) ** 2)
    assert sure["calibration_error"] == pytest.approx((p2 - p).mean(), abs=0.01)
    assert sure["brier"] > found["brier"]


@st.composite
def several(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    for e in range(draw(st.integers(2, 6))):
        lps = draw(st.lists(st.floats(-40, -0.01), min_size=2, max_size=5, unique=True))
        rows += choices(f"e{e}", lps, draw(st.integers(0, len(lps) - 1)), group_part=str(e % 2))
    return rows


SHIFTED = [
    *("coverage", "gold_probability", "gold_bits_per_byte"),
    *(
        f"{name}_per_{length}"
        for name in ("accuracy", "gold_probability", "choice_probability")
        for length in ("byte", "character", "token")
    ),
]


@settings(deadline=None, max_examples=40)
@given(rows=several(), shift=st.floats(-30, 0))
def test_a_shift_of_all_choices_moves_only_what_is_not_relative_to_them(
    rows: list[dict[str, Any]], shift: float
) -> None:
    before = values(rows).drop(SHIFTED)
    after = values([{**row, "loglikelihood": row["loglikelihood"] + shift} for row in rows])
    for mass in ("coverage", "gold_probability"):
        assert after[mass] == pytest.approx(values(rows)[mass] * math.exp(shift), rel=1e-9)
    pd.testing.assert_series_equal(after.drop(SHIFTED), before, rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(rows=several(), seed=st.integers(0, 99))
def test_the_order_of_rows_and_choices_does_not_matter(rows: list[dict[str, Any]], seed: int) -> None:
    """Of choices in another order, only the place that is right most often may be another."""
    rng = np.random.default_rng(seed)
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    pd.testing.assert_series_equal(values(shuffled), values(rows))
    seen: dict[str, int] = {}
    renumbered = [{**row, "choice": seen.setdefault(row["example"], -1)} for row in shuffled]
    for row in renumbered:
        seen[row["example"]] += 1
        row["choice"] = seen[row["example"]]
    place = ["majority_baseline"]
    pd.testing.assert_series_equal(values(renumbered).drop(place), values(rows).drop(place), rtol=1e-9)


@settings(deadline=None, max_examples=40)
@given(rows=several())
def test_inverted_is_the_prize_s_formula(rows: list[dict[str, Any]]) -> None:
    """acc' = 1 - acc, loss' = -log(1 - exp(-loss)), example by example."""
    joined = pd.DataFrame(rows)
    plain, inverted = per_example(joined), per_example(joined, {"invert": True})
    assert (inverted["accuracy"] == 1 - plain["accuracy"]).all()
    # Where one loss is great the other is about 0, and the formula, unlike the metric, loses its digits.
    expected = -np.log(-np.expm1(-plain["classification_loss"]))
    ordinary = plain["classification_loss"].between(1e-6, 10)
    np.testing.assert_allclose(inverted["classification_loss"][ordinary], expected[ordinary], rtol=1e-6)
    np.testing.assert_allclose(inverted["classification_loss"], expected, rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(inverted["margin"], -plain["margin"])
    np.testing.assert_allclose(inverted["choice_probability"], 1 - plain["choice_probability"], atol=1e-12)


def test_inverted_chance_levels() -> None:
    asked = [{**row, "best": 0} if row["choice"] == 2 else row for row in truthful()]  # three choices in MC1
    found = measure(*split(asked), {"invert": True}).set_index("metric")
    assert found.loc["mc1", ["value", "chance"]].tolist() == pytest.approx([0.0, 2 / 3])
    assert found.loc["mc2", "value"] == pytest.approx(0.25 / 0.85)
    three = measure(*split(choices("a", [-1.0, -2.0, -3.0], 0)), {"invert": True}).set_index("metric")
    assert three.loc["accuracy", "chance"] == pytest.approx(2 / 3)
    assert three.loc["classification_loss", "chance"] == pytest.approx(-log(2 / 3))


# ---- sequence


def sequences() -> list[dict[str, Any]]:
    return [
        *choices("a", [-6.0], 0, tokens=2, bytes=12, greedy=False),
        *choices("b", [-1.0], 0, tokens=1, bytes=4, greedy=True),
    ]


def test_sequences_by_hand() -> None:
    assert values(sequences(), kind="sequence").to_dict() == pytest.approx(
        {
            "sequence_loss": 3.5,
            "sequence_loss_per_token": (3 + 1) / 2,
            "sequence_loss_per_byte": (0.5 + 0.25) / 2,
            "sequence_perplexity": math.exp(3.5),
            "greedy_accuracy": 0.5,
        }
    )


def test_an_inverted_sequence_is_the_loss_of_its_improbability() -> None:
    rows = [*choices("a", [log(0.75)], 0), *choices("b", [-1000.0], 0), *choices("c", [log(1 - 1e-12)], 0)]
    losses = per_example(pd.DataFrame(rows), {"kind": "sequence", "invert": True})["sequence_loss"]
    assert losses.tolist() == pytest.approx([-log(0.25), 0.0, -log(1e-12)], rel=1e-4)
    certain = pd.DataFrame(choices("a", [1e-9], 0))
    assert per_example(certain, {"kind": "sequence", "invert": True})["sequence_loss"].tolist() == [math.inf]


# ---- log odds


def odds(example: str, lps: list[float], answer: int) -> list[dict[str, Any]]:
    """After prompt: classes 0, 1; after other_prompt: classes 0, 1."""
    rows = choices(example, lps, answer)
    roles = [("choice", 0), ("choice", 1), ("other", 0), ("other", 1)]
    return [
        {**row, "role": role, "of": of, "gold": of == answer}
        for row, (role, of) in zip(rows, roles, strict=True)
    ]


def test_log_odds_by_hand() -> None:
    """(-1 + 3) - (-2 + 2.5) = 1.5 for class 0; turned where class 1 is the answer."""
    rows = odds("a", [-1.0, -3.0, -2.0, -2.5], 0) + odds("b", [-1.0, -3.0, -2.0, -2.25], 1)
    found = measure(*split(rows), {"kind": "log_odds"}).set_index("metric")
    assert found["value"].to_dict() == {"log_odds": (1.5 - 1.75) / 2, "absolute_log_odds": (1.5 + 1.75) / 2}
    assert found.loc["log_odds", "chance"] == 0
    assert values(rows, kind="log_odds", invert=True)["log_odds"] == (1.75 - 1.5) / 2


@settings(deadline=None, max_examples=30)
@given(shifts=st.tuples(st.floats(-5, 5), st.floats(-5, 5)))
def test_log_odds_depend_on_differences_of_classes_alone(shifts: tuple[float, float]) -> None:
    rows = odds("a", [-10.0, -13.0, -12.0, -12.5], 0)
    moved = [{**r, "loglikelihood": r["loglikelihood"] + shifts[r["role"] == "other"]} for r in rows]
    assert values(moved, kind="log_odds")["log_odds"] == pytest.approx(2.5)


def test_log_odds_need_all_four_rows() -> None:
    rows = odds("a", [-1.0, -3.0, -2.0, -2.5], 0)
    with pytest.raises(CellError, match="choice 1 has no row of the role other"):
        values(rows[:3], kind="log_odds")
    with pytest.raises(CellError, match="the requests have no 'other', which the kind log_odds needs"):
        values(rows[:2], kind="log_odds")


# ---- rating


def ratings(example: str, probabilities: list[float], target: float, **columns: Any) -> list[dict[str, Any]]:
    rows = choices(example, [log(p) for p in probabilities], 0, target=target, **columns)
    return [{**row, "value": row["choice"] + 1.0} for row in rows]


def test_ratings_by_hand() -> None:
    """Probabilities that do not add up to 1."""
    rows = ratings("a", [0.0625, 0.125, 0.0625, 0.25], 4.0) + ratings("b", [0.3, 0.3, 1e-99, 1e-99], 1.0)
    r = (1 * 0.0625 + 2 * 0.125 + 3 * 0.0625 + 4 * 0.25) / 0.5
    found = measure(*split(rows), {"kind": "rating"}).set_index("metric")
    assert found.loc["expected_rating", "value"] == pytest.approx((r + 1.5) / 2)
    assert found.loc["bias", "value"] == pytest.approx(((r - 4) + 0.5) / 2)
    assert found.loc["rmse", "value"] == pytest.approx(math.sqrt(((r - 4) ** 2 + 0.25) / 2))
    assert found.loc["mse", "value"] == pytest.approx(((r - 4) ** 2 + 0.25) / 2)
    assert found.loc["coverage", "value"] == pytest.approx((0.5 + 0.6) / 2)
    # Uniform over 1 … 4: 2.5.
    assert found["chance"].dropna().to_dict() == pytest.approx(
        {"expected_rating": 2.5, "bias": (-1.5 + 1.5) / 2, "mse": 2.25, "rmse": 1.5}
    )


def test_the_null_of_movielens_is_uniform_probabilities() -> None:
    """Shares of the ratings 1 … 5 in MovieLens 1M: RMSE 1.26, where a random integer has 1.89."""
    counts = [56174, 107557, 261197, 348971, 226310]
    targets = np.repeat(np.arange(1.0, 6.0), [round(c / 1000) for c in counts])
    rows = [r for i, t in enumerate(targets) for r in ratings(f"e{i}", [0.2, 0.1, 0.1, 0.1, 0.1], t)]
    chance = measure(*split(rows), {"kind": "rating"}).set_index("metric").loc["rmse", "chance"]
    assert chance == pytest.approx(1.26, abs=0.005)
    assert math.sqrt(chance**2 + 2) == pytest.approx(1.89, abs=0.01)


def test_the_item_s_mean_leaves_out_what_it_predicts() -> None:
    """Item x: 1, 3, 5; item y: 4, once."""
    cases = [("x", 1.0), ("x", 3.0), ("x", 5.0), ("y", 4.0)]
    rows = [r for i, (item, t) in enumerate(cases) for r in ratings(f"e{i}", [0.5, 0.5], t, group_item=item)]
    errors = [4 - 1, 3 - 3, 2 - 5, 3 - 4]
    found = measure(*split(rows), {"kind": "rating"}).set_index("metric")["value"]
    assert found["item_mean_baseline"] == pytest.approx(math.sqrt(sum(e * e for e in errors) / 4))
    assert found["rmse[item=y]"] == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": [1.0, 2.0]}, "example a has more than one target"),
        ({"target": [math.nan, math.nan]}, "example a has a target that is not a number"),
        ({"value": [1.0, math.inf]}, "example a has a value that is not a number"),
    ],
)
def test_ratings_that_are_refused(change: dict[str, list[float]], sentence: str) -> None:
    rows = ratings("a", [0.5, 0.5], 2.0)
    for name, column in change.items():
        rows = [{**row, name: column[row["choice"]]} for row in rows]
    with pytest.raises(CellError, match=sentence):
        values(rows, kind="rating")


def test_ratings_need_values_and_targets() -> None:
    for name in ("value", "target"):
        rows = [{k: v for k, v in row.items() if k != name} for row in ratings("a", [0.5, 0.5], 2.0)]
        with pytest.raises(CellError, match=f"the requests have no '{name}', which the kind rating needs"):
            values(rows, kind="rating")


# ---- binary


def yes_no(example: str, p: float, truth: bool, group: str | None = None) -> list[dict[str, Any]]:
    """P(yes) = p/2, P(no) = (1 - p)/2; yes comes first."""
    rows = choices(example, [log(p / 2), log((1 - p) / 2)], 0 if truth else 1, value=[1.0, 0.0])
    return rows if group is None else [{**row, "group_race": group} for row in rows]


def accused() -> list[dict[str, Any]]:
    """Group a: of 4 no 2 called yes, of 2 yes 1 called no. Group b: of 4 no 1, of 1 yes 0."""
    cases = [
        *[("a", p, False) for p in (0.9, 0.6, 0.4, 0.1)],
        *[("a", p, True) for p in (0.7, 0.2)],
        *[("b", p, False) for p in (0.8, 0.3, 0.2, 0.1)],
        ("b", 0.9, True),
    ]
    return [r for i, (g, p, t) in enumerate(cases) for r in yes_no(f"e{i:02}", p, t, g)]


def test_error_rates_by_hand() -> None:
    found = measure(*split(accused()), {"kind": "binary"}).set_index("metric")
    expected = {
        "accuracy": (7 / 11, 11),
        "false_positive_rate": (3 / 8, 8),
        "false_negative_rate": (1 / 3, 3),
        "accuracy[race=a]": (1 / 2, 6),
        "accuracy[race=b]": (4 / 5, 5),
        "false_positive_rate[race=a]": (1 / 2, 4),
        "false_positive_rate[race=b]": (1 / 4, 4),
        "false_negative_rate[race=a]": (1 / 2, 2),
        "false_negative_rate[race=b]": (0.0, 1),
        "accuracy_ratio[race=a/b]": (5 / 8, 11),
        "false_positive_rate_ratio[race=a/b]": (2.0, 8),
        "coverage": (0.5, 11),
    }
    for name, (value, n) in expected.items():
        assert found.loc[name, "value"] == pytest.approx(value), name
        assert found.loc[name, "n"] == n, name
    assert math.isnan(found.loc["false_negative_rate_ratio[race=a/b]", "value"])
    # A share of n: sqrt(p (1 - p) / (n - 1)); of a ratio: relative errors added in squares.
    a, b = math.sqrt(0.25 / 3), math.sqrt(0.25 * 0.75 / 3)
    assert found.loc["false_positive_rate[race=a]", "stderr"] == pytest.approx(a)
    ratio = found.loc["false_positive_rate_ratio[race=a/b]"]
    squares = 3 * a**2 / 4 / 0.5**2 + 3 * b**2 / 4 / 0.25**2  # each with n instead of n - 1
    assert ratio["stderr"] == pytest.approx(2 * math.sqrt(squares * 8 / 7))
    assert ratio["chance"] == 1
    assert found.loc["false_positive_rate", "chance"] == 0.5


def test_rates_without_an_example_are_missing() -> None:
    found = measure(*split(yes_no("a", 0.9, True)), {"kind": "binary"}).set_index("metric")
    assert math.isnan(found.loc["false_positive_rate", "value"])
    assert found.loc["false_positive_rate", "n"] == 0
    assert found.loc["false_negative_rate", "value"] == 0


def test_fairlearn_says_the_same() -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics", reason="fairlearn is not installed")
    table = pd.DataFrame(accused())
    yes = table[table["value"] == 1]
    frame = fairlearn.MetricFrame(
        metrics={m: getattr(fairlearn, m) for m in ("false_positive_rate", "false_negative_rate")},
        y_true=yes["gold"].astype(int),
        y_pred=(yes["loglikelihood"] > log(0.25)).astype(int),
        sensitive_features=yes["group_race"],
    )
    found = values(accused(), kind="binary")
    for metric, column in frame.by_group.items():
        for level, value in column.items():
            assert found[f"{metric}[race={level}]"] == pytest.approx(value)


def test_binary_needs_a_yes_and_a_no() -> None:
    with pytest.raises(CellError, match="example a needs one choice of value 1 and one of value 0"):
        values([{**row, "value": 1.0} for row in yes_no("a", 0.5, True)], kind="binary")
    with pytest.raises(CellError, match="example a has 3 choices, but the kind binary has 2"):
        values(choices("a", [-1.0, -2.0, -3.0], 0, value=[1.0, 0.0, 0.5]), kind="binary")
    with pytest.raises(CellError, match="the requests have no 'value', which the kind binary needs"):
        values(choices("a", [-1.0, -2.0], 0), kind="binary")


# ---- rolling


def documents() -> list[dict[str, Any]]:
    return [
        *choices("a", [-20.0], 0, tokens=10, bytes=50),
        *choices("b", [-10.0], 0, tokens=2, bytes=10),
        *choices("empty", [0.0], 0, tokens=0, bytes=0),
    ]


@pytest.mark.filterwarnings("error")
def test_documents_weigh_as_much_as_they_are_long() -> None:
    found = measure(*split(documents()), {"kind": "rolling"}).set_index("metric")
    assert found["value"].to_dict() == pytest.approx(
        {
            "loss": 30 / 12,
            "bits_per_byte": 30 / 60 / log(2),
            "perplexity": math.exp(30 / 12),
            "byte_perplexity": math.exp(30 / 60),
        }
    )
    # Residuals 20 - 2.5·10 = -5 and 10 - 2.5·2 = 5; two documents.
    assert found.loc["loss", "stderr"] == pytest.approx(math.sqrt(2 * 50) / 12)
    assert found.loc["perplexity", "stderr"] == pytest.approx(math.exp(2.5) * math.sqrt(2 * 50) / 12)
    assert found["n"].unique().tolist() == [2]


@pytest.mark.filterwarnings("error")
def test_a_perplexity_may_be_infinite() -> None:
    found = values(choices("a", [-9000.0], 0, tokens=2, bytes=8), kind="rolling")
    assert found["perplexity"] == math.inf
    assert found["loss"] == 4500


# ---- all kinds


def test_only_the_metrics_that_are_asked_for() -> None:
    rows = choices("a", [-1.0, -2.0], 0, group_part="1")
    found = values(rows, metrics=["margin", "accuracy"])
    assert found.index.tolist() == ["margin", "accuracy", "accuracy[part=1]"]


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        (
            {"metrics": ["acuracy"]},
            r"metrics: found 'acuracy'; allowed for the kind choice: .*mean 'accuracy'",
        ),
        ({"metrics": ["rmse"]}, r"metrics: found 'rmse'; allowed for the kind choice: accuracy, "),
        (
            {"metrics": ["accuracy_pmi"]},
            "accuracy_pmi needs unconditional, which neither the requests nor the cell have",
        ),
        ({"kind": "chioce"}, "kind: found 'chioce', allowed: choice, sequence"),
        ({"kind": "rating", "invert": True}, "invert: the kind rating has no right and wrong"),
    ],
)
def test_definitions_that_ask_for_what_is_not_there(definition: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence):
        values(choices("a", [-1.0, -2.0], 0), **definition)


@pytest.mark.parametrize("lp", [math.nan, -math.inf, math.inf])
def test_a_log_likelihood_must_be_finite(lp: float) -> None:
    with pytest.raises(CellError, match=r"example b, choice 1 has the log-likelihood .* not finite"):
        values(choices("a", [-1.0, -2.0], 0) + choices("b", [-1.0, lp], 0))


def test_more_than_one_row_is_no_sequence() -> None:
    with pytest.raises(CellError, match="example a has 2 choices, but the kind sequence has 1"):
        values(choices("a", [-1.0, -2.0], 0), kind="sequence")


def test_no_examples() -> None:
    cell, requests = split(choices("a", [-1.0, -2.0], 0))
    with pytest.raises(CellError, match="have no examples"):
        measure(cell.iloc[:0], requests.iloc[:0])


def test_gold_is_needed_where_there_is_a_right_choice() -> None:
    def without_gold(rows: list[dict[str, Any]], kind: str) -> pd.Series:
        return values([{k: v for k, v in row.items() if k != "gold"} for row in rows], kind=kind)

    for kind, rows in (("binary", yes_no("a", 0.5, True)), ("choice", choices("a", [-1.0, -2.0], 0))):
        with pytest.raises(CellError, match="no column 'gold'"):
            without_gold(rows, kind)
    assert without_gold(documents(), "rolling")["loss"] == 2.5
    assert without_gold(sequences(), "sequence")["sequence_loss"] == 3.5


def test_a_chance_level_that_is_given_is_that_of_accuracies() -> None:
    rows = choices("a", [-1.0, -2.0], 0, group_part="1")
    found = measure(*split(rows), {"chance": 0.3}).set_index("metric")["chance"]
    accuracies = [name for name in found.index if name.startswith("accuracy")]
    assert len(accuracies) == 5
    assert (found[accuracies] == 0.3).all()
    assert found["choice_probability"] == 0.5


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        text = metric.values.__doc__ or ""
        assert metric.name == name == metric.values.__name__
        assert metric.kinds, name
        assert any(
            word in text for word in ("0 to 1", "0 to 2", "0 and above", "1 and above", "ny sign", "etween")
        ), name


def test_no_two_metrics_of_a_kind_have_one_name_in_the_harness() -> None:
    named = [(kind, m.harness) for m in METRICS.values() for kind in m.kinds if m.harness]
    assert len(set(named)) == len(named)
