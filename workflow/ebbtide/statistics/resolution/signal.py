"""Signal: how far the runs of a task lie apart, and its ratio to the noise.

The runs are arms of one size, each averaged over its seeds, or without two arms the sizes of the study. The
signal is the largest difference between their averages over the window. Noise makes it larger than that of
the true values. So its draws are signal ± (draw - signal), at least 0: the true spread may be smaller by as
much as the draws are larger, and two runs that are equal by chance may differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ebbtide.statistics.resampling import named_rng
from ebbtide.statistics.resolution.curves import Summary
from ebbtide.statistics.resolution.noise import Noise
from ebbtide.statistics.resolution.windows import Window, around_line

ARMS, SIZES = "arms", "sizes"


@dataclass(frozen=True)
class Signal:
    """The spread of the averages of groups of runs, `ARMS` of one size or `SIZES`."""

    kind: str
    spread: Summary
    groups: tuple[tuple[Window, ...], ...]


def groups_of(own: Sequence[Window], by_size: Sequence[Sequence[Window]]) -> tuple[str, list[list[Window]]]:
    """Return what the runs of a size can be compared as, and the groups.

    Parameters
    ----------
    own
        Runs of the size.
    by_size
        Runs of every size, `own` among them.
    """
    arms: dict[str, list[Window]] = {}
    for run in own:
        arms.setdefault(run.place.arm, []).append(run)
    if len(arms) > 1:
        return ARMS, list(arms.values())
    return SIZES, [list(runs) for runs in by_size]


def signal_of(kind: str, groups: Sequence[Sequence[Window]], noise: Noise) -> Signal:
    """Return the spread of groups of runs, with the noise of these runs."""
    first = groups[0][0]
    rng = named_rng(f"signal {first.task} {first.metric} {first.place.size}")
    values, draws = [], []
    for group in groups:
        values.append(np.mean([run.mean for run in group]))
        mean = np.mean([run.deviations.mean(axis=1) for run in group], axis=0)
        wiggle = np.mean([1 / len(run.values) for run in group]) * noise.shared.drawn**2
        sd = np.sqrt((wiggle + noise.seed_part.drawn**2) / len(group))
        draws.append(values[-1] + mean + sd * rng.standard_normal(len(mean)))
    spread = float(np.ptp(values))
    apart = np.ptp(np.stack(draws), axis=0) - spread
    drawn = np.maximum(spread + rng.choice((-1.0, 1.0), len(apart)) * apart, 0.0)
    return Signal(kind, Summary(spread, drawn), tuple(map(tuple, groups)))


def within_ratio(signal: Signal, noise: Noise) -> Summary:
    """Return signal / step noise: the spread of runs over the scatter of checkpoints within a run."""
    if not noise.step.value:
        return Summary(np.nan, np.full_like(noise.step.drawn, np.nan))
    return Summary(signal.spread.value / noise.step.value, signal.spread.drawn / noise.step.drawn)


def published_ratio(signal: Signal, own: Sequence[Window], noise: Noise) -> Summary:
    """Return ((max - min) / mean) / (sd / mean) as in the code of Heineman et al. 2025.

    The sd, with ddof 0, is that of all values of the windows of all runs together, so that it includes the
    differences between the runs: with k runs the ratio is at most √(2k), however small the noise is.
    """
    rng = named_rng(f"published {own[0].task} {own[0].metric} {own[0].place.size}")
    values, draws = [], []
    for group in signal.groups:
        parts = [_worlds(run, noise, rng).mean(axis=1) for run in group]
        values.append(np.mean([run.mean for run in group]))
        draws.append(np.mean(parts, axis=0))
    ends = np.concatenate([run.values for run in own])
    worlds = np.concatenate([_worlds(run, noise, rng) for run in own], axis=1)
    value = _published(np.array(values)[None, :], ends[None, :])[0]
    drawn = _published(np.stack(draws, axis=1), worlds)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Summary(float(value), value * np.exp(np.log(drawn).mean()) / drawn)


def _published(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The ratio for signals (B, groups) and noisy values (B, m); NaN without noise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = np.ptp(signal, axis=1) / signal.mean(axis=1)
        found = dispersion / (noise.std(axis=1) / noise.mean(axis=1))
    return np.where(np.isfinite(found), found, np.nan)


def _worlds(run: Window, noise: Noise, rng: np.random.Generator) -> np.ndarray:
    wiggle = noise.shared.value * rng.standard_normal(run.deviations.shape)
    return np.asarray(run.values - around_line(run.x, run.values) + run.deviations + wiggle)
