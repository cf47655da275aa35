"""Token saving: the share of the reference's tokens after which an arm reaches its final value.

The final value is the mean of the reference over the last w common checkpoints. The arm reaches it where its
mean over w checkpoints does, and stays there; between two windows, log tokens are interpolated. The interval
contains every place at which the difference is not significant (a test inverted, as in Fieller 1954). The
noise of the difference is that of the examples of the two windows, plus the noise of checkpoints and seeds at
the end of training.
"""

from dataclasses import dataclass

import numpy as np

from ebbtide.statistics.runs.differences import Difference
from ebbtide.statistics.runs.pairs import Pair


@dataclass(frozen=True)
class Saving:
    """Ratio of tokens with its interval. `high` is infinite if the value may not be reached; NaN: unknown."""

    ratio: float
    low: float
    high: float
    note: str


def token_saving(pair: Pair, last: Difference, width: int, sign: int, alpha: float) -> Saving:
    """Return the ratio of tokens at which the arm reaches the final value of the reference.

    Parameters
    ----------
    last
        The difference over the last `width` checkpoints.
    sign
        -1 if lower values are better.
    """
    count = len(pair.reference.tokens)
    width = min(width, count)
    if count == width or not last.se > 0:
        return Saving(np.nan, np.nan, np.nan, "too few common checkpoints, or no known noise")
    window = np.lib.stride_tricks.sliding_window_view
    tokens = window(pair.arm.tokens, width).mean(axis=1)  # (K - w + 1,)
    end = pair.reference.tokens[-width:].mean()
    means = window(pair.arm.values.mean(axis=0), width).mean(axis=1)
    excess = sign * (means - pair.reference.values[:, -width:].mean())
    of_arm = window(pair.arm.influence, width, axis=0).mean(axis=2)
    of_end = pair.reference.influence[-width:].mean(axis=0)
    if pair.examples:
        examples = ((of_arm - of_end) ** 2).sum(axis=1)
    else:
        examples = (of_arm**2).sum(axis=1) + of_end @ of_end
    examples = np.nan_to_num(examples)
    variance = last.se**2 - examples[-1] + examples
    reach = last.critical(alpha) * np.sqrt(np.maximum(variance, last.se**2))
    x = np.log(tokens / end)
    ratio = np.exp(_reached(x, excess))
    low = np.exp(_reached(x, np.maximum.accumulate(excess + reach)))
    high = np.exp(_reached(x, excess - reach))
    notes = []
    if np.isinf(ratio):
        ratio, low = np.nan, low if np.isfinite(low) else 1.0
        notes.append("the reference's final value is not reached within the common checkpoints")
    elif excess.min() >= 0:
        notes.append("the reference's final value is reached before the first window")
    if (excess + reach)[0] >= 0:
        low = 0.0
        notes.append("no lower limit: the first window does not differ significantly from the final value")
    return Saving(float(ratio), float(low), float(high), "; ".join(notes))


def _reached(x: np.ndarray, excess: np.ndarray) -> float:
    """Return x from which on the excess is not negative, interpolated; infinite if it ends below 0."""
    below = np.flatnonzero(excess < 0)
    if not len(below):
        return float(x[0])
    if below[-1] == len(x) - 1:
        return np.inf
    place = below[-1]
    share = -excess[place] / (excess[place + 1] - excess[place])
    return float(x[place] + share * (x[place + 1] - x[place]))
