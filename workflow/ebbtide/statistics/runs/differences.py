"""A difference whose variance is a sum of estimated parts: interval, p, equivalence, and detectable effect.

The parts from differences between runs are joined by Satterthwaite's formula (1946), and so are those of
examples and checkpoints:

    V = Σ_k V_k        df = V² / Σ_k V_k² / df_k, at least 1

For both groups together, quantiles are weighted by the variances (Cochran & Cox 1950):

    t(α) = (V_runs t_runs(α) + V_rest t_rest(α)) / V

Satterthwaite over all parts would lose its level. Where few runs happen to agree, their variance is too
small; so is their weight, which makes the degrees of freedom those of the examples, and p far too small.

The minimum detectable effect is the smallest true difference found with 80 % probability, by the noncentral
t distribution. A variance from few degrees of freedom is too small more often than too large: every part is
divided by its median in units of the true one, which makes it right in half of all studies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaincinv, nctdtr, stdtr, stdtridf, stdtrit
from scipy.stats import norm

from ebbtide.statistics.detectable import POWER

MOST_DF = 1e6  # the normal distribution
_LEAST_P = 1e-100


@dataclass(frozen=True)
class Part:
    """A part of the variance of a difference.

    Attributes
    ----------
    df
        Degrees of freedom of the estimate.
    between_runs
        Whether it is estimated from differences between runs.
    """

    variance: float
    df: float
    between_runs: bool = False


@dataclass(frozen=True)
class Difference:
    """A difference of two arms.

    Attributes
    ----------
    value
        The estimate.
    parts
        Its variance; none if no noise is known.
    se_examples, se_checkpoints, se_seeds
        Standard errors from one source each; NaN where it is unknown. The run's own changes on single
        examples count as noise of examples, so the squares do not exactly add up to V.
    source
        Which noise the interval contains, and which not.
    missing
        The sources that it does not contain, such as `seeds` or `seeds of a`.
    """

    value: float
    parts: tuple[Part, ...]
    se_examples: float
    se_checkpoints: float
    se_seeds: float
    source: str
    missing: tuple[str, ...] = ()

    @cached_property
    def se(self) -> float:
        """Standard error √V; NaN if no noise is known."""
        variance = sum(part.variance for part in self.parts)
        return float(np.sqrt(variance)) if variance > 0 else np.nan

    def critical(self, alpha: float) -> float:
        """Return the two-sided critical value in standard errors."""
        return -self._quantile(alpha / 2)

    def df(self, alpha: float) -> float:
        """Return the degrees of freedom of the t distribution with this critical value."""
        if len(self._groups) < 2:
            return self._groups[0].df if self._groups else np.nan
        low, high = sorted(part.df for part in self._groups)
        found = float(stdtridf(1 - alpha / 2, self.critical(alpha)))
        return min(max(found, low), high)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the interval at 1 - alpha."""
        reach = self.critical(alpha) * self.se
        return self.value - reach, self.value + reach

    def p(self) -> float:
        """Two-sided p of no difference."""
        return 2 * self._tail(abs(self.value) / self.se)

    def p_equivalent(self, margin: float) -> float:
        """Return the larger p of the two one-sided tests of |difference| < margin."""
        return self._tail((margin - abs(self.value)) / self.se)

    def detectable(self, alpha: float, power: float = POWER) -> float:
        """Return the smallest true difference that a test at level alpha detects with `power`."""
        typical = sum(part.variance / median_of_variance(part.df) for part in self.parts)
        return float(np.sqrt(typical) * detectable_shift(self.df(alpha), alpha, power))

    @cached_property
    def _groups(self) -> tuple[Part, ...]:
        """The parts between runs, joined, and the others, as far as there are any."""
        known = [part for part in self.parts if part.variance > 0]
        groups = ([part for part in known if part.between_runs == between] for between in (True, False))
        return tuple(joined(of) for of in groups if of)

    def _quantile(self, p: float) -> float:
        """Return the quantile of the difference in standard errors, for p below 0.5."""
        return float(sum(part.variance * stdtrit(part.df, p) for part in self._groups)) / self.se**2

    def _tail(self, t: float) -> float:
        """Return the probability of a value above t in standard errors: p with quantile(p) = -t."""
        if t < 0:
            return 1 - self._tail(-t)
        ends = sorted(max(float(stdtr(part.df, -t)), _LEAST_P) for part in self._groups)
        if self._quantile(ends[0]) + t >= 0:  # both ends agree, or p is below the least
            return ends[0]
        if self._quantile(ends[-1]) + t <= 0:
            return ends[-1]
        log_p = brentq(lambda x: self._quantile(np.exp(x)) + t, *np.log(ends), xtol=1e-10)
        return float(np.exp(log_p))


def joined(parts: Sequence[Part]) -> Part:
    """Return the sum of parts, with Satterthwaite's degrees of freedom."""
    variance = sum(part.variance for part in parts)
    df = variance**2 / sum(part.variance**2 / min(part.df, MOST_DF) for part in parts)
    return Part(variance, min(max(float(df), 1.0), MOST_DF))


def median_of_variance(df: float) -> float:
    """Return the median of an estimated variance in units of the true one: that of χ² / df."""
    half = min(df, MOST_DF) / 2  # χ² is twice a gamma distribution of this shape
    return float(gammaincinv(half, 0.5)) / half


def detectable_shift(df: float, alpha: float, power: float = POWER) -> float:
    """Return the minimum detectable effect in standard errors, by the noncentral t distribution."""
    if np.isnan(df):
        return np.nan
    if df >= MOST_DF:
        return float(norm.isf(alpha / 2) + norm.isf(1 - power))
    critical = -float(stdtrit(df, alpha / 2))
    return float(brentq(lambda shift: nctdtr(df, shift, critical) - (1 - power), 0.0, 10 * critical))
