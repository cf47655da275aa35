"""Runs: the end of one training run on one task, with draws of what other examples would have given.

A metric m_t of a run varies for three reasons: with other examples, from checkpoint to checkpoint, and with
another seed. This module reads the first two from one run. Its window is the last w trained checkpoints.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ebbtide.files import digest
from ebbtide.metrics.direction import direction_of, sign_of
from ebbtide.statistics.panel import Trajectory, trained_in_order
from ebbtide.statistics.replicates import Place
from ebbtide.statistics.resampling import bootstrap, named_rng
from ebbtide.statistics.resolution.curves import Curve, Summary, along, curve_of
from ebbtide.statistics.trends.slopes import slope_weights

DRAWS = 1000


@dataclass(frozen=True)
class Settings:
    """What the stage looks at: the last checkpoints of a run, its target metrics, and the level of tests."""

    last: int
    targets: Sequence[str]
    alpha: float


@dataclass(frozen=True)
class Run:
    """One metric of one task at the end of one training run.

    Attributes
    ----------
    place
        The model, with its arm, size and seed.
    n, groups
        Number of examples, and of clusters of examples.
    examples
        Digest of the names of the examples; "" if only means are known.
    checkpoints
        (T,) training tokens (or steps) of all trained checkpoints.
    span
        Share of the training tokens (or steps) that lies within the window.
    x
        (w,) training tokens (or steps) of the window.
    values
        (w,) the metric at the checkpoints of the window.
    deviations
        (B, w) draws of its sampling error over examples; runs on the same examples share the draws.
    halves
        (2, w) the metric on each half of the examples; empty, (0, w), without examples.
    curve
        Summaries of all trained checkpoints.
    along
        Target metric → rank correlation with it over the trained checkpoints, higher being better in both.
    in_tokens
        Whether `x` and `checkpoints` are tokens.
    """

    place: Place
    task: str
    metric: str
    n: int
    groups: int
    examples: str
    checkpoints: np.ndarray
    span: float
    x: np.ndarray
    values: np.ndarray
    deviations: np.ndarray
    halves: np.ndarray
    curve: Curve
    along: Mapping[str, Summary]
    in_tokens: bool = True

    @property
    def mean(self) -> float:
        """The average over the window."""
        return float(self.values.mean())

    @property
    def sign(self) -> int:
        """-1 if lower is better, else 1."""
        return sign_of(self.metric)

    @property
    def df(self) -> int:
        """Degrees of freedom of the scatter around a line through the window; 0 with fewer than three."""
        return max(len(self.values) - 2, 0)


def is_judged(metric: str) -> bool:
    """Whether a metric has a better end. Ties and baselines have none, so they tell no run from another."""
    return bool(direction_of(metric))


def runs_of(
    trajectory: Trajectory, place: Place, settings: Settings, chances: Mapping[tuple[str, str], float]
) -> list[Run]:
    """Return the run of every judged metric of a trajectory that has two examples (clusters) or more.

    `chances` is that of (task, metric).
    """
    one = trajectory.trained()
    found = []
    for metric in filter(is_judged, one.values):
        values, clusters = one.counted(metric)
        groups = int(clusters.max(initial=-1)) + 1
        if groups < 2:
            continue
        counts = ~np.isnan(one.values[metric]).any(axis=0)
        means = values.mean(axis=1)
        draws = bootstrap(values, clusters, one.task, DRAWS) - means
        halves = np.stack([values[:, clusters % 2 == part].mean(axis=1) for part in (0, 1)])
        size = (values.shape[1], groups, digest(list(map(str, one.examples[counts]))))
        chance = chances.get((one.task, metric), np.nan)
        data = (_axis(one.checkpoints), means, draws, halves)
        run = _run(place, (one.task, metric), size, data, chance, settings)
        found.append(replace(run, in_tokens=_tokens_known(one.checkpoints)))
    return with_targets(found, settings.targets)


def runs_of_means(
    metrics: pd.DataFrame, places: Mapping[str, Place], known: Iterable[tuple[str, str]], settings: Settings
) -> Iterator[Run]:
    """Yield the runs of models and tasks of which only means are known, from rows of `tables.METRICS`.

    The errors of one model go together over checkpoints, and those of two models are independent, which
    overstates the error of a difference on the same examples.

    Parameters
    ----------
    known
        Models and tasks that have results by example.
    """
    have = set(known)
    rows = metrics[metrics["value"].notna() & ~metrics["metric"].str.contains("[", regex=False)]
    for (model, task), of_task in rows.groupby(["model", "task"], sort=False):
        if (model, task) in have or model not in places:
            continue
        found = []
        for metric, of in of_task.groupby("metric", sort=False):
            if not is_judged(str(metric)):
                continue
            ordered = trained_in_order(of)
            means, errors = (ordered[name].to_numpy(dtype=float) for name in ("value", "stderr"))
            draws = named_rng(f"{model} {task}").standard_normal((DRAWS, 1)) * np.nan_to_num(errors)
            n, chance = int(ordered["n"].max()), float(ordered["chance"].iloc[-1])
            data = (_axis(ordered), means, draws, np.zeros((0, len(means))))
            what = (str(task), str(metric))
            run = _run(places[str(model)], what, (n, n, ""), data, chance, settings)
            found.append(replace(run, in_tokens=_tokens_known(ordered)))
        yield from with_targets(found, settings.targets)


def with_targets(runs: Sequence[Run], wanted: Sequence[str]) -> list[Run]:
    """Add to the runs of one model and task how they go along with its target metrics over training."""
    names = targets_of([run.metric for run in runs], wanted)
    targets = [run for run in runs if run.metric in names]
    found = []
    for run in runs:
        same = [of for of in targets if of is not run and np.array_equal(of.checkpoints, run.checkpoints)]
        correlated = {of.metric: along(run.curve, of.curve) for of in same}
        short = run.curve._replace(ranks=np.zeros((0, 0), dtype=np.float32))  # not needed any more
        found.append(replace(run, along=correlated, curve=short))
    return found


def targets_of(metrics: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the wanted metrics that a task has, or else its first."""
    return [name for name in wanted if name in metrics] or list(metrics)[:1]


def chances_of(metrics: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Return (task, metric) → level of chance, where it is known."""
    rows = metrics[metrics["chance"].notna()].drop_duplicates(["task", "metric"], keep="last")
    return {
        (str(task), str(metric)): float(chance)
        for task, metric, chance in rows[["task", "metric", "chance"]].itertuples(index=False)
    }


def around_line(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return values (…, w) minus their least-squares line over log x (w,), or x if it has zeros.

    In a short window, both are the same line. If checkpoints are spaced evenly on a log scale, so that the
    window spans much of training, curves are straighter over log x.
    """
    x = np.log(x) if (x > 0).all() else x
    centred = values - values.mean(axis=-1, keepdims=True)
    if np.ptp(x) == 0:
        return np.asarray(centred)
    slope = centred @ slope_weights(x)
    return np.asarray(centred - slope[..., None] * (x - x.mean()))


def _run(  # noqa: PLR0917 (what it is of, its data, and how to look at them)
    place: Place,
    what: tuple[str, str],
    size: tuple[int, int, str],
    data: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    chance: float,
    settings: Settings,
) -> Run:
    (x, means, draws, halves), (task, metric) = data, what
    end, sign = slice(-settings.last, None), sign_of(metric)
    own, name = own_wiggle(x[end], means[end], draws[:, end]), f"{place.model} {task} {metric}"
    curve = curve_of(name, x, sign * means, sign * draws, own, sign * chance, settings.alpha)
    reach = float(np.ptp(x[end]) / x[-1]) if x[-1] > 0 else np.nan
    window = (x[end], means[end], draws[:, end].astype(np.float32), halves[:, end])
    return Run(place, task, metric, *size, x, reach, *window, curve, {})


def own_wiggle(x: np.ndarray, values: np.ndarray, deviations: np.ndarray) -> float:
    """Return the sd between checkpoints that examples do not explain; 0 with fewer than three."""
    free = len(x) - 2
    if free < 1:
        return 0.0
    found = np.sum(around_line(x, values) ** 2) / free
    sampling = np.mean(np.sum(around_line(x, deviations) ** 2, axis=1)) / free
    return float(np.sqrt(max(found - sampling, 0.0)))


def _axis(checkpoints: pd.DataFrame) -> np.ndarray:
    """Training tokens of the checkpoints, or steps where tokens are unknown."""
    known = _tokens_known(checkpoints)
    return checkpoints["tokens" if known else "step"].to_numpy(dtype=float)


def _tokens_known(checkpoints: pd.DataFrame) -> bool:
    return bool((checkpoints["tokens"] > 0).all())


def by_size(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return size → its runs, from the smallest size to the largest."""
    largest: dict[str, int] = {}
    for run in runs:
        largest[run.place.size] = max(largest.get(run.place.size, 0), run.place.parameters)
    order = sorted(largest, key=lambda size: (largest[size], size))
    return {size: [run for run in runs if run.place.size == size] for size in order}
