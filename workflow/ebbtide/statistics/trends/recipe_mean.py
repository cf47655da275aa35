"""The mean of a recipe over its runs, with the noise of seeds and of examples.

The R runs of a recipe answer the same examples. With the notation of `runs.contrasts`, the variance of their
mean over other seeds and other examples has two parts:

    V_1 = S²/R                  seeds, checkpoints and the runs' own answers            R - 1 df
    V_2 = max(E - U/R, 0)       what examples add that all runs share                   G - 1 df

The half-width of the interval is √(t_1² V_1 + t_2² V_2), each part with the quantile of its own degrees of
freedom (Howe 1974, Journal of the American Statistical Association 69:789). With two runs, one t with the
degrees of freedom of Satterthwaite covers 88 to 93 % in simulation, because an S² that is small by chance
also makes them large; this covers 94 to 98 %.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t as student

from ebbtide.statistics.runs.differences import Part
from ebbtide.statistics.runs.pairs import Arm

_LEAST_LOG_P = -690.0  # p of 1e-300


@dataclass(frozen=True)
class RecipeMean:
    """Mean over the runs of a recipe.

    Attributes
    ----------
    value
        The mean.
    runs
        Number of runs, R.
    between, own
        S² and U, variances of a single run.
    examples
        E, variance of the mean over examples, with its degrees of freedom; NaN if unknown.
    """

    value: float
    runs: int
    between: float
    own: float
    examples: Part

    @property
    def _parts(self) -> tuple[Part, Part]:
        rest = np.maximum(self.examples.variance - self.own / self.runs, 0.0)  # NaN stays NaN
        return Part(self.between / self.runs, self.runs - 1), Part(float(rest), self.examples.df)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the interval over other seeds and other examples; NaN if nothing is known of examples."""
        return self._around(_reach(self._parts, alpha))

    def over_seeds(self, alpha: float) -> tuple[float, float]:
        """Return the interval over other seeds, on these examples."""
        return self._around(_reach(self._parts[:1], alpha))

    def over_examples(self, alpha: float) -> tuple[float, float]:
        """Return the interval over other examples, of these runs."""
        return self._around(_reach((self.examples,), alpha))

    def p(self) -> float:
        """Two-sided p of a mean of 0: the level whose `interval` ends at 0. NaN without any noise."""
        parts = self._parts
        if self.value == 0 and not np.isnan(parts[1].variance):
            return 1.0
        if not sum(part.variance for part in parts) > 0:
            return np.nan

        def excess(log_p: float) -> float:
            return _reach(parts, float(np.exp(log_p))) - abs(self.value)

        if excess(_LEAST_LOG_P) < 0:
            return float(np.exp(_LEAST_LOG_P))
        return float(np.exp(brentq(excess, _LEAST_LOG_P, 0.0)))

    def _around(self, reach: float) -> tuple[float, float]:
        return self.value - reach, self.value + reach


def recipe_mean(arm: Arm, at: int, df: float) -> RecipeMean:
    """Return the mean of two runs or more at one point of their curves; `df` are those over examples."""
    influence = arm.influence[at]
    return RecipeMean(
        float(arm.values[:, at].mean()),
        arm.runs,
        float(arm.values[:, at].var(ddof=1)),
        float(arm.within[at, at]),
        Part(float(influence @ influence), df),
    )


def _reach(parts: tuple[Part, ...], alpha: float) -> float:
    # A part without variance is left out: its quantile may be infinite.
    noisy = [part for part in parts if part.variance != 0]
    return math.hypot(*(student.isf(alpha / 2, part.df) * math.sqrt(part.variance) for part in noisy))
