"""Errors of means of values that share a user or a film: against simulation, and against known cases."""

import numpy as np
import pytest

from ebbtide.metrics.errors_of_means import estimate
from ebbtide.statistics.two_way import two_way_bootstrap, two_way_error

USERS, ITEMS, N = 60, 40, 600


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values with an effect of each user and each item."""
    users, items = rng.integers(0, USERS, N), rng.integers(0, ITEMS, N)
    values = rng.normal(0, 0.5, USERS)[users] + rng.normal(0, 0.5, ITEMS)[items] + rng.normal(0, 1, N)
    return values, users, items


def test_errors_are_those_of_repeated_samples_and_one_way_errors_are_too_small() -> None:
    rng = np.random.default_rng(0)
    means, errors, alone, resampled = [], [], [], []
    for number in range(400):
        values, users, items = drawn(rng)
        means.append(values.mean())
        errors.append(two_way_error(values, users, items))
        alone.append(estimate(values, clusters=users).stderr)
        if number < 40:
            resampled.append(two_way_bootstrap(values[None], users, items, str(number), 400).std())
    spread = np.std(means)
    assert np.mean(errors) == pytest.approx(spread, rel=0.1)
    assert np.mean(alone) < 0.8 * spread
    assert 0.95 < np.mean(resampled) / spread < 1.25  # a bootstrap of both is conservative (Owen 2007)
    covered = np.abs(means) < 1.96 * np.array(errors)
    assert 0.91 < covered.mean() < 0.98


def test_with_one_rating_per_item_the_users_decide() -> None:
    values, users, _ = drawn(np.random.default_rng(1))
    alone = estimate(values, clusters=users).stderr
    assert two_way_error(values, users, np.arange(N)) == pytest.approx(alone)
    assert two_way_error(values, np.arange(N), users) == pytest.approx(alone)


def test_the_error_is_that_of_the_definition() -> None:
    values, users, items = drawn(np.random.default_rng(2))
    pairs = [estimate(values, clusters=of).stderr ** 2 for of in (users, items, users * ITEMS + items)]
    assert two_way_error(values, users, items) == pytest.approx(np.sqrt(pairs[0] + pairs[1] - pairs[2]))


def test_the_bootstrap_depends_on_its_name_only() -> None:
    values, users, items = drawn(np.random.default_rng(3))
    one, two, other = (
        two_way_bootstrap(np.stack([values, 2 * values]), users, items, name, 50) for name in ("a", "a", "b")
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    assert one[:, 1] == pytest.approx(2 * one[:, 0])  # both rows have the same draws
