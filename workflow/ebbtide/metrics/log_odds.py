"""Metrics of two classes after two prompts: the shift of the log odds between prompts."""

import numpy as np

from ebbtide.metrics.examples import Examples
from ebbtide.metrics.registry import metric


def _zero(x: Examples) -> np.ndarray:
    return np.zeros(len(x))


@metric("log_odds", unit="nats", higher_is_better=None, main=True, chance=_zero)
def log_odds(x: Examples) -> np.ndarray:
    """[lp_0 - lp_1 after prompt] - [lp_0 - lp_1 after other_prompt]; times -1 if class 1 is the answer.

    Nats, any sign: how much more the first prompt favours the answer than the other prompt does. 0 for a
    model that ignores the prompt. Source: Inverse Scaling Prize, McKenzie et al. 2023. `invert` changes the
    sign.
    """
    shift = x.lp - x.column("other")
    return x.segments.sum(np.where(x.gold, shift, -shift))


@metric("log_odds", unit="nats", higher_is_better=None)
def absolute_log_odds(x: Examples) -> np.ndarray:
    """|log odds|, per example.

    Nats, 0 and above. Source: Inverse Scaling Prize, McKenzie et al. 2023.
    """
    return np.abs(log_odds(x))
