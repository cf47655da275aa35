"""Can the runs tell a parameter at all? A verdict per parameter, in words."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ebbtide.statistics.scaling_laws.fits import Fit, at_bound
from ebbtide.statistics.scaling_laws.uncertainty import linear_intervals, profile_interval

Verdict = Literal["identified", "weakly identified", "not identified"]
WIDE = 0.5  # half an interval above this share of the estimate is weak
_NOTHING = 1e-3  # an end closer to 0 than this share of the estimate is 0; a profile is known to 1e-4
FEW = 3  # degrees of freedom below which an interval rests on hardly any residuals
_RANK = 1e-11  # singular values of the scaled slopes below this share of the largest are none


@dataclass(frozen=True)
class Identified:
    """A verdict, why, and the interval it rests on (profile likelihood; NaN where there is none)."""

    verdict: Verdict
    why: str
    low: float
    high: float


def identifiability(fitted: Fit, level: float = 0.95) -> dict[str, Identified]:
    """A verdict per parameter.

    not identified      pinned at a bound, outside its physical range, no degrees of freedom, slopes
                        without full rank, or an interval that is open or holds 0
    weakly identified   an interval wider than ± 50 % of the estimate
    identified          else

    The interval is that of the profile likelihood; of a robust fit, of the linearised law.
    """
    x = np.array(list(fitted.values.values()))
    pinned = at_bound(fitted.law, x)
    blind = _blind(fitted)
    found = {}
    for i, parameter in enumerate(fitted.law.parameters):
        verdict: Verdict = "not identified"
        low = high = float("nan")
        value, name = x[i], parameter.name
        if pinned[i] and fitted.bounded:
            why = f"pinned at its bound {value:.3g}: the runs would take it further"
        elif not parameter.low <= value <= parameter.high:
            why = f"{value:.4g} is outside its physical range {parameter.low:g} to {parameter.high:g}"
        elif fitted.df <= 0:
            why = (
                f"{fitted.points} points for {len(x)} parameters: the law passes through every point, and "
                "nothing says how wrong it is"
            )
        elif blind[i]:
            others = [n for n, b in zip(fitted.law.names, blind, strict=True) if b and n != name]
            why = f"moves freely against {' and '.join(others) or 'nothing'}: the runs cannot tell them apart"
        else:
            low, high = _interval(fitted, name, level)
            verdict, why = _by_interval(value, low, high, level)
        found[name] = Identified(verdict, why + _few(fitted), low, high)
    return found


def _interval(fitted: Fit, name: str, level: float) -> tuple[float, float]:
    if fitted.objective == "robust":
        return linear_intervals(fitted, level)[name]
    return profile_interval(fitted, name, level)


def _by_interval(value: float, low: float, high: float, level: float) -> tuple[Verdict, str]:
    shown = f"{level:.0%} interval {low:.4g} to {high:.4g}"
    if not (np.isfinite(low) and np.isfinite(high)):
        side = "above" if np.isfinite(low) else "below" if np.isfinite(high) else "above or below"
        return "not identified", f"no value {side} the estimate is excluded ({shown})"
    # Near 0 the law of a power degenerates to a constant: the profile ends just above 0, never at it.
    nothing = _NOTHING * abs(value)
    if low <= nothing and high >= -nothing:
        return "not identified", f"not told from 0 ({shown})"
    half = (high - low) / 2 / abs(value)
    if half > WIDE:
        return "weakly identified", f"known only from {low:.3g} to {high:.3g} ({level:.0%} interval)"
    return "identified", shown


def _few(fitted: Fit) -> str:
    if 0 < fitted.df < FEW:
        freedom = "1 degree" if fitted.df == 1 else f"{fitted.df} degrees"
        return f"; {fitted.points} points for {len(fitted.values)} parameters leave {freedom} of freedom"
    return ""


def _blind(fitted: Fit) -> list[bool]:
    """Which parameters take part in a direction that changes no prediction."""
    slopes = fitted.law.jacobian(fitted.values, **fitted.inputs)
    scale = np.linalg.norm(slopes, axis=0)
    if not np.all(np.isfinite(scale)):
        return [True] * slopes.shape[1]
    scaled = slopes / np.where(scale > 0, scale, 1.0)
    _, sizes, directions = np.linalg.svd(scaled, full_matrices=True)
    sizes = np.concatenate([sizes, np.zeros(slopes.shape[1] - len(sizes))])
    free = directions[sizes < _RANK * sizes.max()]
    return [bool(np.any(np.abs(free[:, i]) > 0.1)) for i in range(slopes.shape[1])]
