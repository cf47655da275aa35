"""Calibration: the Brier score, the expected calibration error, and the reliability table.

Probabilities are exp(lp) normalised over the choices of an example.
"""

from typing import TYPE_CHECKING

import numpy as np

from ebbtide.metrics.examples import Examples
from ebbtide.metrics.registry import metric

if TYPE_CHECKING:
    import pandas as pd

BINS = 10


def _truth(x: Examples) -> np.ndarray:
    """Target probabilities: 1/|G| for right choices, 0 for the others."""
    truth: np.ndarray = x.gold / x.right_count[x.segments.of]
    return truth


def _brier_of_uniform(x: Examples) -> np.ndarray:
    return x.segments.sum((1 / x.segments.sizes[x.segments.of] - _truth(x)) ** 2)


@metric(
    *("choice", "binary"),
    unit="squared probability",
    higher_is_better=False,
    harness="brier_score",
    chance=_brier_of_uniform,
)
def brier(x: Examples) -> np.ndarray:
    """Σ_k (p_k - y_k)², y = 1/|G| for right choices and 0 for the others.

    0 to 2; mean (1/|G| - 1/K) for a uniform model. Source: Brier 1950, over all classes; the harness
    (brier_score). For two choices it is twice the (p - y)² of one choice.
    """
    return x.segments.sum((x.probability - _truth(x)) ** 2)


@metric(*("choice", "binary"), unit="probability", higher_is_better=False, by_example=False)
def calibration_error(x: Examples) -> np.ndarray:
    """Expected calibration error: Σ_b n_b/n |accuracy_b - confidence_b|, over ten bins.

    Probability, 0 to 1. Confidence is the probability of the answer given. The bins are (0, 0.1], (0.1, 0.2]
    … (0.9, 1]. Source: Naeini et al. 2015, Guo et al. 2017. Biased upwards in small samples. stderr: delta
    method with the signs of the bins held fixed, so it is too small if the gap of a bin is near 0. The value
    of an example is ±(right - confidence), with the sign of the gap of its bin.
    """
    gap = x.right_where(x.lp) - _confidence(x)
    bin_ = _bin(_confidence(x))
    sign = np.sign(np.bincount(bin_, weights=gap, minlength=BINS))
    signed: np.ndarray = sign[bin_] * gap
    return signed


def reliability_table(x: Examples) -> "pd.DataFrame":
    """Return the table behind the calibration error, one row per bin.

    Returns
    -------
    `low`, `high` (the bin is (low, high]), `n`, `confidence` and `accuracy` (means, NaN in an empty bin).
    """
    import pandas as pd

    bin_ = _bin(_confidence(x))
    n = np.bincount(bin_, minlength=BINS)
    means = {
        name: np.bincount(bin_, weights=values, minlength=BINS) / np.where(n, n, np.nan)
        for name, values in (("confidence", _confidence(x)), ("accuracy", x.right_where(x.lp)))
    }
    edges = np.arange(BINS + 1) / BINS
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": n, **means})


def _confidence(x: Examples) -> np.ndarray:
    confidence: np.ndarray = x.probability[x.answer]
    return confidence


def _bin(confidence: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.arange(1, BINS) / BINS, confidence, side="left")
