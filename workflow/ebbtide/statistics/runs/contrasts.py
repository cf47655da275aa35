"""The difference of two arms of runs, with the noise of examples, checkpoints and seeds.

Run r of arm a has at checkpoint t, on example i, the value

    x_arti = μ_at + s_ar + c_art + e_ati + f_arti

with the mean of the recipe μ, the effect of the seed s (its variance may differ from arm to arm), the
checkpoint's own deviation c, and what examples add: e is common to the runs of an arm (difficulty, and what
the arm is better at), f is the run's own at that checkpoint. With Y_ar, the mean of run r over the examples
and the w averaged checkpoints, the estimate is D = Ȳ_a - Ȳ_b. All runs are scored on the same examples, so
examples and runs are crossed: f is in the variance over examples and in that between runs, and must count
once. From the data come

    S²_a    variance between the runs of arm a: seeds, checkpoints and f             R_a - 1 df
    U_a     variance of f, from the deviations of runs from the mean of their arm, example by example
    E       variance of D over examples (clusters), paired (Miller 2024)             G - 1 df
    C       checkpoint noise of D around its local trend, without f (`trend_noise`)  W - 2 df

With at least two runs in both arms,

    V = S²_a/R_a + S²_b/R_b + max(E - U_a/R_a - U_b/R_b, 0)

the variance of Welch (1947) plus that of the examples which all runs share, as in the analysis of readers and
cases (Hillis 2007, Statistics in Medicine 26:596; 2014, 33:330). S² contains the checkpoint noise of the
runs, however it persists, so none is added. An arm with one run says nothing of its seeds: it adds C, once,
to E instead of S² and U, and the square of `seed_sd` if that was given. Otherwise V is the noise of these
runs alone. D / √V is compared with t, with degrees of freedom for each part (`differences`).

Equivalence: both one-sided tests of |D| < margin (Schuirmann 1987). That seeds and data order are sources of
variance beside examples is the point of Bouthillier et al. (2021, arXiv:2103.03098); their third,
hyperparameters, is part of the recipe here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ebbtide.statistics.runs.differences import Difference, Part
from ebbtide.statistics.runs.pairs import Arm, Pair
from ebbtide.statistics.runs.trend_noise import checkpoint_noise, local_scatter


@dataclass(frozen=True)
class SeedNoise:
    """Standard deviation of seeds from elsewhere, and its degrees of freedom; `source` says from where.

    Equal ones are one estimate, whose errors are the same in all arms and sizes that use it.
    """

    sd: float
    df: float
    source: str


def contrast(
    pairs: Sequence[Pair],
    at: Sequence[np.ndarray],
    *,
    pooled: bool = False,
    seed_noise: Mapping[tuple[str, str], SeedNoise] | None = None,
) -> Difference:
    """Return the mean difference over pairs (one per size), each over its checkpoints `at`.

    Parameters
    ----------
    pairs
        Pairs of the same arms and examples.
    at
        For every pair, the indices of the averaged checkpoints.
    pooled
        Assume the same noise between runs in both arms.
    seed_noise
        (arm, size) → noise of seeds, for arms with one run.
    """
    found = [
        _OfPair(pair, index, pooled, seed_noise or {}, len(pairs))
        for pair, index in zip(pairs, at, strict=True)
    ]
    examples = _of_examples(found)
    parts = [part for one in found for part in one.parts]
    given: dict[SeedNoise, float] = {}  # an estimate that several arms and sizes use is one
    for one in found:
        for seeds in one.given:
            given[seeds] = given.get(seeds, 0.0) + one.scale * seeds.sd**2
    parts += [Part(variance, seeds.df, between_runs=True) for seeds, variance in given.items()]
    if not np.isnan(examples):
        rest = max(examples - sum(one.own_of_examples for one in found), 0.0)
        parts.append(Part(rest, min(pair.df for pair in pairs)))
    known, missing = _sources(found, examples, pooled=pooled)
    return Difference(
        float(np.mean([one.value for one in found])),
        tuple(parts),
        float(np.sqrt(examples)),
        float(np.sqrt(sum(one.checkpoints for one in found))),
        float(np.sqrt(sum(one.seeds for one in found))),
        "; not ".join([", ".join(known) or "nothing", *([", ".join(missing)] if missing else [])]),
        missing,
    )


class _OfPair:
    """Parts of the variance of the difference at one size, scaled for the mean over `count` sizes."""

    def __init__(
        self,
        pair: Pair,
        at: np.ndarray,
        pooled: bool,
        given: Mapping[tuple[str, str], SeedNoise],
        count: int,
    ) -> None:
        self.pair, self.at, self.scale = pair, at, 1 / count**2
        self.arms = (pair.arm, pair.reference)
        self.value = float(pair.difference[at].mean())
        self.influence = pair.influence[at].mean(axis=0)
        self.parts: list[Part] = []
        self.own_of_examples = 0.0
        self.seeds = self.checkpoints = 0.0
        self.unknown: list[str] = []
        self.given: list[SeedNoise] = []
        several = [arm for arm in self.arms if arm.runs > 1]
        own = {arm.name: np.nan_to_num(arm.within[np.ix_(at, at)].mean()) for arm in several}
        between = {arm.name: float(arm.values[:, at].mean(axis=1).var(ddof=1)) for arm in several}
        noise = {arm.name: noise_of_runs(arm, at) for arm in self.arms}
        self.checkpoints = self.scale * sum(noise[arm.name] / arm.runs for arm in self.arms)
        self.known = [arm.name for arm in several]
        if pooled and several:
            self._pool(several, between, own)
        else:
            for arm in several:
                variance = self.scale * between[arm.name] / arm.runs
                self.parts.append(Part(variance, arm.runs - 1, between_runs=True))
                self.own_of_examples += self.scale * own[arm.name] / arm.runs
            if len(several) < len(self.arms):
                self._single([arm for arm in self.arms if arm.runs == 1], given)
        for arm in several:
            rest = between[arm.name] - own[arm.name] - np.nan_to_num(noise[arm.name])
            self.seeds += self.scale * max(rest, 0.0) / arm.runs

    def _pool(self, several: Sequence[Arm], between: Mapping[str, float], own: Mapping[str, float]) -> None:
        df = sum(arm.runs - 1 for arm in several)
        means = [sum((a.runs - 1) * of[a.name] for a in several) / df for of in (between, own)]
        weight = self.scale * sum(1 / arm.runs for arm in self.arms)
        self.parts.append(Part(means[0] * weight, df, between_runs=True))
        self.own_of_examples += means[1] * weight

    def _single(self, arms: Sequence[Arm], given: Mapping[tuple[str, str], SeedNoise]) -> None:
        """Add checkpoint noise and given noise of seeds, for arms with one run."""
        pair = self.pair
        noise = checkpoint_noise(pair.reference.tokens, pair.difference, pair.covariance, self.at)
        self.checkpoints = self.scale * noise.variance
        if noise.variance > 0:
            self.parts.append(Part(self.scale * noise.variance, noise.df))
        for arm in arms:
            if seeds := given.get((arm.name, self.pair.size)):
                self.seeds += self.scale * seeds.sd**2
                self.given.append(seeds)
            else:
                self.unknown.append(arm.name)
                self.seeds = np.nan


def noise_of_runs(arm: Arm, at: np.ndarray) -> float:
    """Return the variance that checkpoints add to a mean over `at` of a run; NaN if it is unknown.

    They count as independent. Only for display, the mean over runs: the variance between runs contains it.
    """
    curves, covariance = arm.own_curves
    found = [local_scatter(arm.tokens, values, covariance, at) for values in curves]
    return max(float(np.mean(found)), 0.0) / len(at) if not np.isnan(found).any() else np.nan


def _of_examples(found: Sequence[_OfPair]) -> float:
    """Variance over examples of the mean over sizes, which share examples; NaN if unknown."""
    sums: dict[tuple[str, int], np.ndarray] = {}
    for one in found:
        key = (one.pair.examples, len(one.influence))
        sums[key] = sums.get(key, 0.0) + one.influence
    return float(sum(total @ total for total in sums.values())) / len(found) ** 2


def _sources(
    found: Sequence[_OfPair], examples: float, *, pooled: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words for the sources of noise that an interval contains, and for those that it does not."""
    known: list[str] = []
    missing: list[str] = []
    (missing if np.isnan(examples) else known).append("examples")
    several = list(dict.fromkeys(name for one in found for name in one.known))
    unknown = list(dict.fromkeys(name for one in found for name in one.unknown))
    given = list(dict.fromkeys(seeds for one in found for seeds in one.given))
    single = unknown or given
    (missing if single and any(np.isnan(one.checkpoints) for one in found) else known).append("checkpoints")
    if several:
        words = "pooled" if pooled else f"of {' and '.join(several)}" if single else ""
        known.append(f"seeds {words}".strip())
    known += [f"seeds (sd {seeds.sd:.3g}: {seeds.source})" for seeds in given]
    if unknown:
        missing.append(f"seeds of {' and '.join(unknown)}" if several or given else "seeds")
    return tuple(known), tuple(missing)


def windows(count: int, last: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield scope and indices of every point, and of the last checkpoints."""
    for index in range(count):
        yield "point", np.array([index])
    yield "last", np.arange(max(count - last, 0), count)
