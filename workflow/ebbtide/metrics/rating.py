"""Metrics of ratings: the expected rating, compared with the true one.

r = Σ_k v_k exp(lp_k) / Σ_k exp(lp_k) over the rating tokens k with values v_k; t is the true rating. All
metrics but `mse` have the unit of the ratings. Chance is a model that gives every rating the same
probability (r = mean of the v_k), not one that answers at random.
"""

import numpy as np

from ebbtide.metrics.errors_of_means import SQUARE_ROOT
from ebbtide.metrics.examples import GROUP, Examples
from ebbtide.metrics.registry import metric


def _rating(x: Examples) -> np.ndarray:
    return x.segments.sum(x.column("value") * x.probability)


def _null(x: Examples) -> np.ndarray:
    return x.segments.mean(x.column("value"))


def _squared_error_of_null(x: Examples) -> np.ndarray:
    squared: np.ndarray = (_null(x) - x.of_example("target")) ** 2
    return squared


def _bias_of_null(x: Examples) -> np.ndarray:
    bias: np.ndarray = _null(x) - x.of_example("target")
    return bias


@metric("rating", unit="rating", higher_is_better=None, chance=_null)
def expected_rating(x: Examples) -> np.ndarray:
    """r: the mean of the ratings, weighted by their probabilities.

    Between the lowest and the highest rating. Source: Ganguli et al. 2022.
    """
    return _rating(x)


# The first main metric of the kind, because it is a mean over examples, which statistics by example need.
@metric("rating", unit="squared rating", higher_is_better=False, main=True, chance=_squared_error_of_null)
def mse(x: Examples) -> np.ndarray:
    """mean (r - t)²; per example (r - t)².

    0 and above; chance: uniform probabilities. The square of `rmse`, so that both order models alike.
    """
    squared: np.ndarray = (_rating(x) - x.of_example("target")) ** 2
    return squared


@metric(
    "rating",
    unit="rating",
    higher_is_better=False,
    main=True,
    chance=_squared_error_of_null,
    transform=SQUARE_ROOT,
)
def rmse(x: Examples) -> np.ndarray:
    """sqrt(mean (r - t)²); per example (r - t)².

    0 and above; chance: uniform probabilities. Source: Ganguli et al. 2022. stderr: delta method.
    """
    return mse(x)


@metric("rating", unit="rating", higher_is_better=None, chance=_bias_of_null)
def bias(x: Examples) -> np.ndarray:
    """r - t: positive if the model rates too high.

    Any sign, within the range of the ratings.
    """
    difference: np.ndarray = _rating(x) - x.of_example("target")
    return difference


@metric(
    "rating",
    unit="rating",
    higher_is_better=None,
    needs=(f"{GROUP}item",),
    chance=_squared_error_of_null,
    transform=SQUARE_ROOT,
)
def item_mean_baseline(x: Examples) -> np.ndarray:
    """RMSE of predicting the mean of the item's other ratings; per example its squared error.

    0 and above, the same for every model. Items are the levels of the group `item`. For an item that is rated
    once, the prediction is the mean of all other ratings. Source: Ganguli et al. 2022, with means over other
    examples; here the means are over the examples of the task, without the predicted one.
    """
    target = x.of_example("target")
    item, _ = x.group("item")
    n = np.bincount(item)[item]
    sums = np.bincount(item, weights=target)[item]
    overall = (target.sum() - target) / max(len(target) - 1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        predicted = np.where(n > 1, (sums - target) / (n - 1), overall)
    squared: np.ndarray = (predicted - target) ** 2
    return squared
