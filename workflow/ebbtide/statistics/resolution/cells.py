"""Resolution of one task, metric and size: its noise, signal, detectable differences and decisions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ebbtide.statistics.resolution.alignment import common_ends
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
    every
        The runs of this size.
    aligned
        Those whose windows end at the same tokens, so that they are compared; empty if no two of several do.
    noise
        Noise of the aligned runs; None if no window has three checkpoints.
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
    every: tuple[Window, ...]
    aligned: tuple[Window, ...]
    noise: Noise | None
    signal: Signal | None
    compared: Noise | None
    decisions: Decisions | None
    is_largest: bool
    told: str

    @property
    def runs(self) -> tuple[Window, ...]:
        """The runs that the row describes: those that are compared, or if none are, all."""
        return self.aligned or self.every

    @property
    def apart(self) -> list[str]:
        """The models that are not compared."""
        compared = {run.place.model for run in self.aligned}
        return [run.place.model for run in self.every if run.place.model not in compared]


def resolutions(runs: Sequence[Window], alpha: float, tolerance: float) -> list[Resolution]:
    """Return the resolution at every size, smallest first, of the runs of one task and metric.

    Runs of one size are compared if their windows end at the same tokens, up to the share `tolerance`.
    """
    sizes = by_size(runs)
    largest = list(sizes)[-1]
    aligned = {size: _aligned(of, tolerance) for size, of in sizes.items()}
    others = [of for of in aligned.values() if of]
    over_all = noise_of([run for of in others for run in of])
    found = []
    for size, own in aligned.items():
        noise = noise_of(own)
        kind, groups = groups_of(own, others)
        compared = noise if kind == ARMS else over_all
        signal = signal_of(kind, groups, compared) if noise and compared and len(groups) > 1 else None
        against = None if size == largest else decisions(by_arm(own), by_arm(aligned[largest]), alpha)
        told = _told(signal, compared, alpha)
        windows = (tuple(sizes[size]), tuple(own))
        found.append(Resolution(size, *windows, noise, signal, compared, against, size == largest, told))
    return found


def _aligned(runs: Sequence[Window], tolerance: float) -> list[Window]:
    ends = common_ends(tuple(run.end for run in runs), tolerance)
    return [run for run, end in zip(runs, ends, strict=True) if end is not None]


def _told(signal: Signal | None, noise: Noise | None, alpha: float) -> str:
    if signal is None or noise is None or not noise.variance().value:
        return CANNOT
    for told, averaged in ((USE, False), (AVERAGE, True)):
        exceeds = signal.spread.drawn > noise.detectable(alpha, averaged=averaged).drawn
        if np.mean(exceeds) >= 1 - alpha / 2:
            return told
    return CANNOT


def by_arm(runs: Sequence[Window]) -> dict[str, float]:
    """Return arm → mean of its runs; higher is better."""
    return mean_by_arm([(run.place.arm, run.sign * run.mean) for run in runs])
