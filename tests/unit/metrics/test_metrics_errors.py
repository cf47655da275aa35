"""Standard errors: by hand, by simulation, clustered and by group."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.errors import CellError
from ebbtide.metrics.errors_of_means import EXPONENTIAL, SQUARE_ROOT, estimate, ratio
from ebbtide.metrics.of_cell import measure

NUMBERS = st.lists(st.floats(-100, 100), min_size=2, max_size=30)


@settings(deadline=None)
@given(values=NUMBERS)
def test_every_example_its_own_cluster_is_the_textbook(values: list[float]) -> None:
    found = estimate(np.array(values), clusters=np.arange(len(values)))
    assert found == estimate(np.array(values))
    assert found.value == pytest.approx(statistics.fmean(values), abs=1e-9)
    expected = statistics.stdev(values) / math.sqrt(len(values))
    assert found.stderr == pytest.approx(expected, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(values=NUMBERS, copies=st.integers(2, 5))
def test_copies_within_a_cluster_are_no_evidence(values: list[float], copies: int) -> None:
    clusters = np.repeat(np.arange(len(values)), copies)
    found = estimate(np.repeat(values, copies), clusters=clusters)
    assert found.stderr == pytest.approx(estimate(np.array(values)).stderr, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(values=NUMBERS, seed=st.integers(0, 99))
def test_equal_weights_are_none_and_weight_zero_is_absence(values: list[float], seed: int) -> None:
    x = np.array(values)
    assert estimate(x, np.full(len(x), 3.0))[:2] == pytest.approx(estimate(x)[:2], rel=1e-6, abs=1e-9)
    absent = np.random.default_rng(seed).random(2 * len(x)).argsort() < len(x)
    mixed, weights = np.full(2 * len(x), np.nan), np.zeros(2 * len(x))
    mixed[absent], weights[absent] = x, 1.0
    assert estimate(mixed, weights) == pytest.approx(estimate(x), rel=1e-6, abs=1e-9)


def test_clusters_as_statsmodels_has_them() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 12, 200)
    x = rng.normal(size=12)[clusters] + rng.normal(size=200)
    weights = rng.integers(1, 9, 200).astype(float)
    for w in (None, weights):
        model = sm.WLS(x, np.ones(200), weights=1.0 if w is None else w)
        # Its correction for a mean is G/(G - 1) · (n - 1)/(n - 1).
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": clusters})
        found = estimate(x, w, clusters)
        assert found[:2] == pytest.approx((fit.params[0], fit.bse[0]))


def test_one_cluster_has_no_error() -> None:
    assert math.isnan(estimate(np.array([1.0, 2.0]), clusters=np.array([3, 3])).stderr)
    assert math.isnan(estimate(np.array([1.0])).stderr)
    assert math.isnan(estimate(np.array([1.0]), np.array([0.0])).value)


def test_functions_of_a_mean() -> None:
    x = np.array([1.0, 4.0, 7.0])
    mean, error, _ = estimate(x)
    assert estimate(x, transform=SQUARE_ROOT)[:2] == pytest.approx((2.0, error / 4))
    assert estimate(x, transform=EXPONENTIAL)[:2] == pytest.approx((math.exp(mean), math.exp(mean) * error))
    assert math.isnan(estimate(np.zeros(3), transform=SQUARE_ROOT).stderr)


CLUSTERS, SIZE, REPEATS = 40, 8, 1500


def test_clustered_intervals_cover_and_the_others_do_not() -> None:
    """Passages of eight questions: a share of each example's score is the passage's."""
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(CLUSTERS), SIZE)
    reach = statistics.NormalDist().inv_cdf(0.975)
    covered = {"clustered": 0, "unclustered": 0}
    for _ in range(REPEATS):
        x = 0.7 * rng.normal(size=CLUSTERS)[clusters] + rng.normal(size=len(clusters))
        for name, groups in (("clustered", clusters), ("unclustered", None)):
            value, stderr, _ = estimate(x, clusters=groups)
            covered[name] += abs(value) < reach * stderr
    assert 0.93 <= covered["clustered"] / REPEATS <= 0.97
    assert covered["unclustered"] / REPEATS < 0.85


def test_intervals_of_a_corpus_cover_its_loss() -> None:
    """Documents of very different lengths, of which the long ones are easier."""
    rng = np.random.default_rng(2)
    reach = statistics.NormalDist().inv_cdf(0.975)
    covered = 0
    # E[tokens] = 200; E[tokens · loss per token] with loss 4 below 100 tokens and 3 above.
    population = rng.exponential(200, 1_000_000) + 1
    truth = np.sum(population * np.where(population < 100, 4.0, 3.0)) / np.sum(population)
    for _ in range(REPEATS):
        tokens = rng.exponential(200, 150) + 1
        losses = np.where(tokens < 100, 4.0, 3.0) + rng.normal(0, 0.5, 150)
        value, stderr, _ = estimate(losses, tokens)
        covered += abs(value - truth) < reach * stderr
    assert 0.93 <= covered / REPEATS <= 0.97


def test_intervals_of_a_ratio_cover_it() -> None:
    rng = np.random.default_rng(3)
    first = np.arange(900) < 300
    reach = statistics.NormalDist().inv_cdf(0.975)
    covered = 0
    for _ in range(REPEATS):
        x = (rng.random(900) < np.where(first, 0.4, 0.2)).astype(float)
        value, stderr, _ = ratio(first, ~first, x)
        covered += abs(value - 2) < reach * stderr
    assert 0.93 <= covered / REPEATS <= 0.97


def test_a_ratio_within_clusters_sees_that_they_are_shared() -> None:
    """Both groups have one example in every cluster, with the same value: their ratio does not vary."""
    x = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    first = np.arange(6) < 3
    assert ratio(first, ~first, x, clusters=np.array([0, 1, 2, 0, 1, 2])).stderr == pytest.approx(
        0, abs=1e-12
    )
    assert ratio(first, ~first, x).stderr > 0.3


# ---- in the rows of a cell


def grouped(levels: list[str | None], passages: list[str | None]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Examples of two choices; the right one wins in every other example."""
    n = len(levels)
    table = pd.DataFrame(
        {
            "example": np.repeat([f"e{i:03}" for i in range(n)], 2),
            "choice": np.tile([0, 1], n),
            "loglikelihood": np.ravel([[-1.0, -2.0] if i % 2 else [-2.0, -1.0] for i in range(n)]),
            "gold": np.tile([True, False], n),
            "group_part": np.repeat(np.array(levels, dtype=object), 2),
            "group_passage": np.repeat(np.array(passages, dtype=object), 2),
        }
    )
    return table[["example", "choice", "loglikelihood"]], table.drop(columns="loglikelihood")


def test_rows_of_groups() -> None:
    cell, requests = grouped(["1", "1", "2", "2", "2", None], ["p"] * 6)
    found = measure(cell, requests).set_index("metric")
    assert found.loc["accuracy[part=1]", ["value", "n"]].tolist() == [0.5, 2]
    assert found.loc["accuracy[part=2]", "value"] == pytest.approx(1 / 3)
    assert found.loc["accuracy[part=2]", "stderr"] == pytest.approx(math.sqrt((1 / 3) * (2 / 3) / 2))
    assert found.loc["accuracy[part=2]", "chance"] == 0.5
    assert found.loc["accuracy", "n"] == 6  # with the one that is in no part
    assert [name for name in found.index if name.startswith("margin[")] == []


def test_the_errors_of_a_task_that_names_its_clusters() -> None:
    passages = [f"p{i // 2 % 3}" for i in range(12)]
    cell, requests = grouped(["1"] * 6 + ["2"] * 6, passages)
    requests = requests.assign(group_passage=requests["group_passage"].str.replace("p2", "p0"))
    found = measure(cell, requests, {"cluster": "passage"}).set_index("metric")
    accuracy = np.array([i % 2 for i in range(12)], dtype=float)
    clusters = np.array([{"p0": 0, "p1": 1, "p2": 0}[p] for p in passages])
    assert found.loc["accuracy", "stderr"] == estimate(accuracy, clusters=clusters).stderr
    assert found.loc["accuracy[part=1]", "stderr"] == estimate(accuracy[:6], clusters=clusters[:6]).stderr
    # Within a passage there is one cluster.
    assert math.isnan(found.loc["accuracy[passage=p1]", "stderr"])


def test_a_group_of_many_levels_has_no_rows() -> None:
    for count, rows in ((50, 50), (51, 0)):
        cell, requests = grouped([f"{i}" for i in range(count)], ["p"] * count)
        found = measure(cell, requests)["metric"]
        assert found.str.startswith("accuracy[part=").sum() == rows


def test_groups_that_are_numbers_are_named_by_them() -> None:
    cell, requests = grouped(["1", "10", "2"], ["p"] * 3)
    numbered = requests.assign(group_part=requests["group_part"].astype(int))
    pd.testing.assert_frame_equal(measure(cell, numbered), measure(cell, requests))


def test_groups_that_are_refused() -> None:
    cell, requests = grouped(["1", "1"], ["p", None])
    with pytest.raises(CellError, match=r"cluster: .* no column group_round \(groups found: part, passage\)"):
        measure(cell, requests, {"cluster": "round"})
    with pytest.raises(CellError, match="cluster: example e001 has no group_passage"):
        measure(cell, requests, {"cluster": "passage"})
    with pytest.raises(CellError, match="example e000 has more than one group_part"):
        measure(cell, requests.assign(group_part=["1", "2", "1", "1"]))
