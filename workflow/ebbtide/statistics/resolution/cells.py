"""Resolution of one task, metric and size: its noise, signal, detectable differences and decisions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ebbtide.statistics.resolution.decisions import Decisions, decisions, mean_by_arm
from ebbtide.statistics.resolution.noise import Noise, noise_of
from ebbtide.statistics.resolution.signal import ARMS, Signal, groups_of, signal_of
from ebbtide.statistics.resolution.windows import Window, by_size

USE, AVERAGE, PROXY, CANNOT = "use", "use averaged over", "watch by proxy", "cannot tell"


@dataclass(frozen=True)
class Resolution:
    """What one metric of one task can tell at one size.

    Attributes
    ----------
    runs
        The runs of this size.
    noise
        Their noise; None if no window has three checkpoints.
    signal
        None without noise, or without anything to compare.
    compared
        Noise of the runs that the signal compares: `noise`, or if the signal is that of sizes, the noise of
        the runs of all sizes.
    decisions
        Arms of this size against those of the largest; None if they share fewer than two arms.
    told
        `USE` or `AVERAGE` if the signal exceeds the detectable difference of single checkpoints, or of
        averages; else `CANNOT`, also where no noise is seen, such as in rounded means without errors.
    """

    size: str
    runs: tuple[Window, ...]
    noise: Noise | None
    signal: Signal | None
    compared: Noise | None
    decisions: Decisions | None
    is_largest: bool
    told: str


def resolutions(runs: Sequence[Window], alpha: float) -> list[Resolution]:
    """Return the resolution at every size, smallest first, of the runs of one task and metric."""
    sizes = by_size(runs)
    largest = list(sizes)[-1]
    over_all = noise_of(runs)
    found = []
    for size, own in sizes.items():
        noise = noise_of(own)
        kind, groups = groups_of(own, list(sizes.values()))
        compared = noise if kind == ARMS else over_all
        signal = signal_of(kind, groups, compared) if noise and compared and len(groups) > 1 else None
        against = None if size == largest else decisions(_by_arm(own), _by_arm(sizes[largest]), alpha)
        told = _told(signal, compared, alpha)
        is_largest = size == largest
        found.append(Resolution(size, tuple(own), noise, signal, compared, against, is_largest, told))
    return found


def _told(signal: Signal | None, noise: Noise | None, alpha: float) -> str:
    if signal is None or noise is None or not noise.variance().value:
        return CANNOT
    for told, averaged in ((USE, False), (AVERAGE, True)):
        exceeds = signal.spread.drawn > noise.detectable(alpha, averaged=averaged).drawn
        if np.mean(exceeds) >= 1 - alpha / 2:
            return told
    return CANNOT


def _by_arm(runs: Sequence[Window]) -> dict[str, float]:
    return mean_by_arm([(run.place.arm, run.sign * run.mean) for run in runs])
