"""Rank correlations of a proxy with the target: over runs of one size, within sizes, and on held-out runs.

The correlation compares the proxy on one half of the examples and of the window's checkpoints with the target
on the other half, so that noise which both share does not count as agreement; it is the mean over the four
ways to choose the halves. Of means without examples, only the checkpoints are halved.

Within sizes, runs are ranked among those of their own size, so the correlation says nothing of the order of
sizes: r = Σ a b / √(Σ a² Σ b²), where a and b are the ranks of the k runs of a size, minus their mean, over
k + 1, so that a run counts the same at each size.

Of many proxies, the best by chance looks better than it is. Held out are the runs of one seed, or of one
size. On all other runs, the metric with the highest correlation is chosen; on those held out, it is
validated; each seed or size is held out once. If seeds are unknown, or every arm has its own, the i-th runs
of all arms are held out together.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from ebbtide.statistics.replicates import Place
from ebbtide.statistics.resolution.cells import Resolution
from ebbtide.statistics.resolution.decisions import (
    LEAST_RUNS,
    UNKNOWN,
    Interval,
    freedom,
    rank_interval,
)
from ebbtide.statistics.resolution.windows import Window

ALL_SIZES = "runs of all sizes"
SEEDS, POSITIONS, SIZES = "seeds", "sets of one run per arm", "sizes"

Pair = tuple[Window, Window]  # of the same model: target, proxy
Groups = Sequence[Sequence[Pair]]  # runs that are ranked among themselves
BySize = Mapping[str, Sequence[Pair]]  # from the smallest size to the largest of the target


class Basis(NamedTuple):
    """The runs over which a correlation is taken, and their name."""

    over: str
    groups: Groups

    @property
    def pairs(self) -> list[Pair]:
        """All runs."""
        return [pair for group in self.groups for pair in group]


class Held(NamedTuple):
    """The correlation of a proxy on the runs that were held out when it was chosen.

    `over` is what was held out (`SEEDS`, `POSITIONS` or `SIZES`), `folds` how many of them, `chosen` in how
    many the proxy had the highest correlation on the other runs.
    """

    over: str
    folds: int
    chosen: int
    correlation: Interval


def pairs_by_size(target: Sequence[Resolution], proxy: Sequence[Resolution]) -> dict[str, list[Pair]]:
    """Return the models that have both metrics, by size, of those that are compared at the same tokens."""
    others = {run.place.model: run for of in proxy for run in of.aligned}
    return {
        of.size: [(run, others[run.place.model]) for run in of.aligned if run.place.model in others]
        for of in target
    }


def basis_of(pairs: BySize) -> Basis:
    """Return the runs of the largest size; with fewer than four, of several within sizes; or of all sizes."""
    size, largest = list(pairs.items())[-1]
    several = [of for of in pairs.values() if len(of) > 1]
    if len(largest) >= LEAST_RUNS or len(pairs) < 2:
        return Basis(f"runs of size {size}", [largest])
    if len(several) > 1 and freedom(_sizes(several)) > 0:
        return Basis(f"runs within {len(several)} sizes", several)
    return Basis(ALL_SIZES, [[pair for of in pairs.values() for pair in of]])


def rank_of(groups: Groups, alpha: float) -> Interval:
    """Return the rank correlation within groups; unknown if there are too few runs."""
    if not freedom(_sizes(groups)) > 0:
        return UNKNOWN
    return rank_interval(_correlation(groups), _sizes(groups), alpha)


def held_out(of_proxies: Mapping[str, BySize], alpha: float) -> dict[str, Held]:
    """Return the held-out correlation of every proxy; empty if nothing can be held out.

    Parameters
    ----------
    of_proxies
        Proxy → runs of one task and target; folds are those of the first proxy.
    """
    over, folds = _folds(next(iter(of_proxies.values()), {}))
    chosen: dict[str, list[Sequence[Pair]]] = {name: [] for name in of_proxies}
    for models in folds:
        scores = {name: _score(pairs, over, models) for name, pairs in of_proxies.items()}
        best = max((score for score in scores.values() if not np.isnan(score)), default=np.nan)
        for name, score in scores.items():
            if score == best:
                every = [pair for of in of_proxies[name].values() for pair in of]
                chosen[name].append([pair for pair in every if pair[0].place.model in models])
    return (
        {name: Held(over, len(folds), len(of), rank_of(of, alpha)) for name, of in chosen.items()}
        if folds
        else {}
    )


def _folds(pairs: BySize) -> tuple[str, list[set[str]]]:
    """Return what is held out, and the models of each fold."""
    by_size = [[target.place for target, _ in of] for of in pairs.values()]
    for over, every in (*_by_seed(by_size[-1] if by_size else []), (SIZES, by_size)):
        folds = [{place.model for place in of} for of in every if len(of) > 1]
        if len(folds) > 1 and freedom([len(models) for models in folds]) > 0:
            return over, folds
    return "", []


def _by_seed(runs: Sequence[Place]) -> list[tuple[str, list[list[Place]]]]:
    """Return the ways to hold out seeds: by the seed, if all are known; by position in the arm.

    Two runs of one seed may have more in common than their size, such as the order of the data. So positions
    that would put one seed in two folds are not used.
    """
    of_arm: dict[str, int] = {}
    seeds: dict[int | None, list[Place]] = {}
    positions: dict[int, list[Place]] = {}
    for run in runs:
        of_arm[run.arm] = at = of_arm.get(run.arm, -1) + 1
        seeds.setdefault(run.seed, []).append(run)
        positions.setdefault(at, []).append(run)
    known = [{run.seed for run in of} - {None} for of in positions.values()]
    found = [] if None in seeds else [(SEEDS, list(seeds.values()))]
    if sum(map(len, known)) == len(set().union(*known)):
        found.append((POSITIONS, list(positions.values())))
    return found


def _score(pairs: BySize, over: str, without: set[str]) -> float:
    """Correlation over the runs that are not held out: of the largest size, or within the other sizes."""
    considered = [list(pairs.values())[-1]] if over != SIZES else list(pairs.values())
    kept = [[pair for pair in of if pair[0].place.model not in without] for of in considered]
    kept = [of for of in kept if len(of) > 1]
    return _correlation(kept) if kept else np.nan


def _sizes(groups: Groups) -> list[int]:
    return [len(group) for group in groups]


def _correlation(groups: Groups) -> float:
    """Mean over the four ways to choose halves."""
    return float(np.mean([_pooled(groups, part // 2, part % 2) for part in range(4)]))


def _pooled(groups: Groups, examples: int, checkpoints: int) -> float:
    a, b = (
        np.concatenate([_ranks([of.sign * _half(of, *half) for of in side]) for side in sides])
        for sides, half in (
            ([[target for target, _ in group] for group in groups], (examples, checkpoints)),
            ([[proxy for _, proxy in group] for group in groups], (1 - examples, 1 - checkpoints)),
        )
    )
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def _ranks(values: Sequence[float]) -> np.ndarray:
    ranks = rankdata(values)
    return np.asarray((ranks - ranks.mean()) / (len(ranks) + 1))


def _half(run: Window, examples: int, checkpoints: int) -> float:
    values = run.halves[examples] if len(run.halves) else run.values
    chosen = values[len(values) - 1 - checkpoints :: -2] if len(values) > 1 else values
    return float(chosen.mean())
