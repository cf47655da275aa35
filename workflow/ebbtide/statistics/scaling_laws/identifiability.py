"""Identifiability of the parameters of a fitted law: a verdict and a reason per parameter."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ebbtide.statistics.scaling_laws.fits import Fit, at_bound
from ebbtide.statistics.scaling_laws.uncertainty import linear_intervals, profile_interval

Verdict = Literal["identified", "weakly identified", "not identified"]
WEAK_HALF_WIDTH = 0.5  # of the estimate; wider intervals are weakly identified
_ZERO_SHARE = 1e-3  # of the estimate; closer ends count as 0, because profiles are accurate to 1e-4
FEW_DEGREES = 3  # with fewer degrees of freedom, the verdict contains a warning
_RANK_TOLERANCE = 1e-11  # of the largest singular value of the scaled Jacobian


@dataclass(frozen=True)
class Identified:
    """A verdict, its reason, and the interval it is based on (profile likelihood; NaN if there is none)."""

    verdict: Verdict
    why: str
    low: float
    high: float


def identifiability(fitted: Fit, level: float = 0.95) -> dict[str, Identified]:
    """Return a verdict per parameter.

    not identified      at a bound, outside its physical range, no degrees of freedom, a rank-deficient
                        Jacobian, or an interval that is unbounded or contains 0
    weakly identified   an interval wider than ± 50 % of the estimate
    identified          otherwise

    Intervals are from the profile likelihood; for robust fits, from the linearised law.
    """
    x = np.array(list(fitted.values.values()))
    pinned = at_bound(fitted.law, x)
    unidentifiable = _unidentifiable(fitted)
    found = {}
    for i, parameter in enumerate(fitted.law.parameters):
        verdict: Verdict = "not identified"
        low = high = float("nan")
        value, name = x[i], parameter.name
        if pinned[i] and fitted.bounded:
            why = f"pinned at its bound {value:.3g}: the unconstrained optimum is beyond it"
        elif not parameter.low <= value <= parameter.high:
            why = f"{value:.4g} is outside its physical range {parameter.low:g} to {parameter.high:g}"
        elif fitted.df <= 0:
            why = (
                f"{fitted.points} points for {len(x)} parameters: the law passes through every point, so "
                "its error is unknown"
            )
        elif unidentifiable[i]:
            others = [n for n, b in zip(fitted.law.names, unidentifiable, strict=True) if b and n != name]
            why = f"trades off against {' and '.join(others)}" if others else "affects no prediction"
        else:
            low, high = _interval(fitted, name, level)
            verdict, why = _by_interval(value, low, high, level)
        found[name] = Identified(verdict, why + _few_degrees_note(fitted), low, high)
    return found


def _interval(fitted: Fit, name: str, level: float) -> tuple[float, float]:
    if fitted.objective == "robust":
        return linear_intervals(fitted, level)[name]
    return profile_interval(fitted, name, level)


def _by_interval(value: float, low: float, high: float, level: float) -> tuple[Verdict, str]:
    interval_text = f"{level:.0%} interval {low:.4g} to {high:.4g}"
    if not (np.isfinite(low) and np.isfinite(high)):
        side = "above" if np.isfinite(low) else "below" if np.isfinite(high) else "above or below"
        return "not identified", f"no value {side} the estimate is excluded ({interval_text})"
    # At 0 a power law degenerates to a constant, so the profile ends just above 0, never at it.
    zero = _ZERO_SHARE * abs(value)
    if low <= zero and high >= -zero:
        return "not identified", f"not distinguishable from 0 ({interval_text})"
    half = (high - low) / 2 / abs(value)
    if half > WEAK_HALF_WIDTH:
        return (
            "weakly identified",
            f"only known to be between {low:.3g} and {high:.3g} ({level:.0%} interval)",
        )
    return "identified", interval_text


def _few_degrees_note(fitted: Fit) -> str:
    if 0 < fitted.df < FEW_DEGREES:
        freedom = "1 degree" if fitted.df == 1 else f"{fitted.df} degrees"
        return f"; {fitted.points} points for {len(fitted.values)} parameters leave {freedom} of freedom"
    return ""


def _unidentifiable(fitted: Fit) -> list[bool]:
    """Return which parameters are part of a direction that changes no prediction."""
    slopes = fitted.law.jacobian(fitted.values, **fitted.inputs)
    scale = np.linalg.norm(slopes, axis=0)
    if not np.all(np.isfinite(scale)):
        return [True] * slopes.shape[1]
    scaled = slopes / np.where(scale > 0, scale, 1.0)
    _, sizes, directions = np.linalg.svd(scaled, full_matrices=True)
    sizes = np.concatenate([sizes, np.zeros(slopes.shape[1] - len(sizes))])
    free = directions[sizes < _RANK_TOLERANCE * sizes.max()]
    return [bool(np.any(np.abs(free[:, i]) > 0.1)) for i in range(slopes.shape[1])]
