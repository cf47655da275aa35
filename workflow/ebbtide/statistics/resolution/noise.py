"""Noise of the runs of one size, and the differences that can be told from it.

Three parts of the variance of a difference between two runs at their last checkpoint, or between averages
over their last w checkpoints:

    V_1 = E_1 + 2 s² + 2 r²        V_w = E_w + 2 s²/w + 2 r²

* E: examples. Variance of the difference over resampled examples, which both runs share; E_1 is the mean over
  the last checkpoints that the windows of all runs have. It includes answers that flicker from checkpoint to
  checkpoint. For shares of answers it is at least that of half an example.
* s: checkpoints. The scatter of a run around a line through its window has the variance σ² = s² + f², where
  f² is what flickering answers alone would give; s² = max(0, σ² - f²) is common to all examples.
* r: seeds. The averages of runs of one arm and size scatter with the variance S², which is V_w / 2 without r;
  r² is what exceeds that, at least 0. Unknown, and left out, without two runs of an arm whose size is known.

MDE = (z_{1-α/2} + z_{0.8}) √V: the true difference of two runs that a two-sided test at level α finds with
80 % probability. Every estimate has draws of the truth given the data: the estimated variance times ν/χ²_ν
as far as scatter was observed, which for the checkpoints is simulated from the noise itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from ebbtide.metrics.direction import is_share, unit_of
from ebbtide.statistics.detectable import POWER
from ebbtide.statistics.resampling import named_rng
from ebbtide.statistics.resolution.curves import Summary
from ebbtide.statistics.resolution.windows import DRAWS, Window, around_line

_TINY = 1e-12


@dataclass(frozen=True)
class Noise:
    """Noise of the runs of one task, metric and size, as standard deviations unless stated.

    Attributes
    ----------
    step, step_raw
        Scatter of single checkpoints, around a line through the window and around its mean.
    shared
        The part of `step` that is common to all examples, and its draws.
    runs
        Scatter S of the averages of runs that differ only by seed, which contains examples and checkpoints;
        None without such runs.
    seed_part
        The rest r of it: what exceeds examples and checkpoints.
    examples_1, examples_w
        Variance E of a difference of single checkpoints, and of averages over the window.
    paired
        Whether these are differences of pairs of runs on the same examples. If not, a run has to stand for
        two on other examples, which overstates them.
    width
        Number of checkpoints w in the window.
    """

    step: Summary
    step_raw: Summary
    shared: Summary
    runs: Summary | None
    seed_part: Summary
    examples_1: Summary
    examples_w: Summary
    paired: bool
    width: int

    def variance(self, averaged: bool = False) -> Summary:
        """Return the variance of a difference of two runs, of single checkpoints or averaged over w."""
        of, width = (self.examples_w, self.width) if averaged else (self.examples_1, 1)
        fixed = self.fixed(width)
        return Summary(of.value + fixed.value, of.drawn + fixed.drawn)

    def fixed(self, width: int = 1) -> Summary:
        """Return the part of the variance that more examples do not reduce."""
        shared, seed = self.shared, self.seed_part
        return Summary(
            2 * shared.value**2 / width + 2 * seed.value**2, 2 * shared.drawn**2 / width + 2 * seed.drawn**2
        )

    def detectable(self, alpha: float, averaged: bool = False) -> Summary:
        """Return the minimum detectable difference of two runs (MDE)."""
        reach = ndtri(1 - alpha / 2) + ndtri(POWER)
        value, drawn = self.variance(averaged)
        return Summary(float(reach * np.sqrt(value)), reach * np.sqrt(drawn))

    def examples_to_halve(self, n: int) -> Summary:
        """Return how many examples halve the MDE of single checkpoints; infinite if none do."""
        fixed = self.fixed()
        examples = np.append(self.examples_1.value, self.examples_1.drawn)
        others = np.append(fixed.value, fixed.drawn)
        room = (examples + others) / 4 - others  # what is left for the examples
        needed = n * np.divide(examples, room, out=np.full_like(room, np.inf), where=room > _TINY)
        return Summary(float(needed[0]), needed[1:])


def noise_of(runs: Sequence[Window]) -> Noise | None:
    """Return the noise of runs of one task and metric; None if no window has three checkpoints."""
    df = sum(run.df for run in runs)
    if not df:
        return None
    name = f"{runs[0].task} {runs[0].metric} {runs[0].place.size}"
    rng = named_rng(name)
    usable = [run for run in runs if run.df]
    found = sum(np.sum(around_line(run.x, run.values) ** 2) for run in usable) / df
    sampled = [around_line(run.x, run.deviations.astype(float)) for run in usable]
    flicker = sum(np.mean(np.sum(of**2, axis=1)) for of in sampled) / df
    shared = np.sqrt(max(found - flicker, 0.0))
    worlds = [run.deviations + shared * rng.standard_normal(run.deviations.shape) for run in usable]
    again = (
        sum(np.sum(around_line(run.x, w) ** 2, axis=1) for run, w in zip(usable, worlds, strict=True)) / df
    )
    truth = found * (flicker + shared**2) / np.maximum(again, _TINY)
    width = min(len(run.values) for run in usable)
    paired = len(runs) > 1 and len({run.examples for run in runs}) == 1 and runs[0].examples != ""
    ends = [run.deviations[:, -width:].astype(float) for run in runs]
    free = max(min(run.groups for run in runs) - 1, 1)
    counts = is_share(runs[0].metric) and unit_of(runs[0].metric) != "probability"  # of right answers
    least = 2 * max((0.5 / run.n if run.n else 0.0) ** 2 for run in runs) if counts else 0.0
    common = min(end.shape[1] for end in ends)  # runs with one or two checkpoints have no scatter
    at = [_of_pairs(np.stack([end[:, -t] for end in ends]), paired=paired) for t in range(1, common + 1)]
    over = _of_pairs(np.stack([end.mean(axis=1) for end in ends]), paired=paired)
    one, averages = (
        Summary(value, value * free / rng.chisquare(free, DRAWS))
        for value in (max(float(np.mean(at)), least), max(over, least))
    )
    shared_draws = np.sqrt(np.maximum(truth - flicker, 0.0))
    known = Noise(
        Summary(float(np.sqrt(found)), np.sqrt(truth)),
        _raw(usable, worlds),
        Summary(float(shared), shared_draws),
        None,
        Summary(0.0, np.zeros(DRAWS)),
        one,
        averages,
        paired,
        width,
    )
    return _with_seeds(known, runs, rng)


def _of_pairs(draws: np.ndarray, *, paired: bool) -> float:
    """Variance of a difference of two runs over draws (runs, B) of their values, the mean over all pairs."""
    k, own = len(draws), float(draws.var(axis=1).sum())
    if not paired:
        return 2 * own / k
    return max(2 / (k * (k - 1)) * (k * own - float(draws.sum(axis=0).var())), 0.0)


def _raw(runs: Sequence[Window], worlds: Sequence[np.ndarray]) -> Summary:
    """Scatter of checkpoints around the mean of the window, which includes a trend."""
    df = sum(len(run.values) - 1 for run in runs)
    value = sum(np.sum((run.values - run.values.mean()) ** 2) for run in runs) / df
    lines = [run.values - around_line(run.x, run.values) for run in runs]
    drawn = [line + world for line, world in zip(lines, worlds, strict=True)]
    again = sum(np.sum((of - of.mean(axis=1, keepdims=True)) ** 2, axis=1) for of in drawn) / df
    centred = value * np.mean(again) / np.maximum(again, _TINY)
    return Summary(float(np.sqrt(value)), np.sqrt(centred))


def _with_seeds(noise: Noise, runs: Sequence[Window], rng: np.random.Generator) -> Noise:
    """Add what runs of the same arm and size show, which differ only by seed.

    Runs of unknown size may differ by more, as in `replicates.replicates`.
    """
    arms: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        if run.place.parameters:
            arms.setdefault((run.place.arm, run.place.size), []).append(run.mean)
    repeated = [np.array(values) for values in arms.values() if len(values) > 1]
    df = sum(len(values) - 1 for values in repeated)
    if not df:
        return noise
    found = sum(np.sum((values - values.mean()) ** 2) for values in repeated) / df
    truth = found * df / rng.chisquare(df, DRAWS)
    rest = noise.variance(averaged=True)
    part = Summary(
        float(np.sqrt(max(found - rest.value / 2, 0.0))), np.sqrt(np.maximum(truth - rest.drawn / 2, 0.0))
    )
    return replace(noise, runs=Summary(float(np.sqrt(found)), np.sqrt(truth)), seed_part=part)
