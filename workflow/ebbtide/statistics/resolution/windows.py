"""Windows: the end of one training run on one task, with draws of what other examples would have given.

A metric m_t of a run varies for three reasons: with other examples, from checkpoint to checkpoint, and with
another seed. This module reads the first two from one run. Its window is the last w trained checkpoints until
the end that it has in common with other runs of its size (`alignment.py`).

Three sources, in this order: values by example at all checkpoints; means at all checkpoints, with values by
example within the window (`ends.py`); means alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from ebbtide.files import digest
from ebbtide.metrics.chosen import followed_metrics
from ebbtide.metrics.direction import direction_of, find_metric, is_of_group, sign_of
from ebbtide.statistics.panel import Trajectory, trained_in_order
from ebbtide.statistics.replicates import Place
from ebbtide.statistics.resampling import bootstrap, named_rng
from ebbtide.statistics.resolution.alignment import Axis, Stops, axis_of
from ebbtide.statistics.resolution.curves import Curve, Summary, along, curve_of
from ebbtide.statistics.trends.slopes import slope_weights

DRAWS = 1000
EVERY: Stops = {}  # all windows end with their run
Ends = Callable[[str, str], Trajectory | None]  # model, task → values by example within the window


@dataclass(frozen=True)
class Settings:
    """What the stage looks at.

    Attributes
    ----------
    last
        Number of checkpoints in a window, w.
    targets
        Metrics that the study follows.
    alpha
        Level of tests.
    tolerance
        Largest difference of the tokens at which two runs are compared, as a share of them.
    """

    last: int
    targets: Sequence[str]
    alpha: float
    tolerance: float = 0.0


@dataclass(frozen=True)
class Window:
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
        Share of the training tokens (or steps) until the end of the window that lies within it.
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
    def end(self) -> Axis:
        """Where the window ends."""
        return Axis(self.in_tokens, (float(self.x[-1]),))

    @property
    def later(self) -> int:
        """Number of trained checkpoints after the window."""
        return int((self.checkpoints > self.x[-1]).sum())

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


def windows_of(
    trajectory: Trajectory,
    place: Place,
    settings: Settings,
    chances: Mapping[tuple[str, str], float],
    *,
    means: pd.DataFrame | None = None,
    ends: Ends | None = None,
    stops: Stops = EVERY,
) -> list[Window]:
    """Return the window of every metric of one model and task that can be judged.

    A metric needs a better end, two examples (clusters) or more, and finite values.

    Parameters
    ----------
    chances
        Levels of chance, of (task, metric).
    means, ends
        As for `windows_of_means`: metrics without values by example in the trajectory.
    stops
        Where windows end; those of others end with their run.
    """
    one = trajectory.trained()
    found = []
    for metric in filter(is_judged, one.values):
        sample = _sample(one, metric)
        if sample is None:
            continue
        data = (axis_of(one.checkpoints), sample.means, sample.draws, sample.halves)
        chance = chances.get((one.task, metric), np.nan)
        stop = stops.get((one.model, one.task, metric))
        found.append(_window(place, (one.task, metric), sample.size, data, chance, settings, stop))
    if means is not None:
        rest = means[~means["metric"].isin([window.metric for window in found])]
        found += windows_of_means(rest, place, settings, ends, stops)
    return with_targets(found, settings.targets)


def means_by_task(metrics: pd.DataFrame, places: Mapping[str, Place]) -> dict[tuple[str, str], pd.DataFrame]:
    """Return (model, task) → the rows of judged metrics, from rows of `tables.METRICS`."""
    judged = {
        name: not is_of_group(name) and is_judged(name) for name in map(str, metrics["metric"].unique())
    }
    rows = metrics[metrics["value"].notna() & metrics["metric"].map(judged).astype(bool)]
    rows = rows[rows["model"].isin(list(places))]
    return {(str(m), str(t)): of for (m, t), of in rows.groupby(["model", "task"], sort=False)}


def windows_of_means(
    rows: pd.DataFrame,
    place: Place,
    settings: Settings,
    ends: Ends | None = None,
    stops: Stops = EVERY,
) -> list[Window]:
    """Return the windows of metrics of which only means are known at all checkpoints; without targets.

    The errors of one model go together over checkpoints, and those of two models are independent, which
    overstates the error of a difference on the same examples. Within a window that `ends` has by example,
    they are resampled, as those of `windows_of`.

    Parameters
    ----------
    rows
        One model and task of `means_by_task`.
    ends
        Model and task → values by example at the checkpoints of the window, of metrics before their
        transforms; None if there are none.
    stops
        As for `windows_of`.
    """
    found = []
    for metric, of in rows.groupby("metric", sort=False):
        ordered = trained_in_order(of)
        means, errors = (ordered[name].to_numpy(dtype=float) for name in ("value", "stderr"))
        if not np.isfinite(means).all():
            continue
        model, task = (str(ordered[name].iloc[0]) for name in ("model", "task"))
        draws = named_rng(f"{model} {task}").standard_normal((DRAWS, 1)) * np.nan_to_num(errors)
        n, chance = int(ordered["n"].max()), float(ordered["chance"].iloc[-1])
        data = (axis_of(ordered), means, draws, np.zeros((0, len(means))))
        stop = stops.get((model, task, str(metric)))
        window = _window(place, (task, str(metric)), (n, n, ""), data, chance, settings, stop)
        found.append(_by_example(window, ordered, ends(model, task) if ends else None))
    return found


def _by_example(window: Window, rows: pd.DataFrame, end: Trajectory | None) -> Window:
    """Return a window of means with its values by example, if they are known."""
    stop = len(rows) - window.later
    names = list(rows["checkpoint"].iloc[stop - len(window.values) : stop])
    if end is None or window.metric not in end.values or list(end.checkpoints["checkpoint"]) != names:
        return window
    sample = _sample(end, window.metric, _transform_of(window.metric))
    if sample is None:
        return window
    n, groups, examples = sample.size
    draws = sample.draws.astype(np.float32)
    return replace(window, n=n, groups=groups, examples=examples, deviations=draws, halves=sample.halves)


class _Sample(NamedTuple):
    """A metric at T checkpoints: numbers of examples and clusters, digest of names, and what they give."""

    size: tuple[int, int, str]
    means: np.ndarray  # (T,)
    draws: np.ndarray  # (B, T), deviations of resampled means
    halves: np.ndarray  # (2, T)


Transform = Callable[[np.ndarray], np.ndarray]  # of means, element by element


def _sample(one: Trajectory, metric: str, transform: Transform = np.asarray) -> _Sample | None:
    """Resample the examples of a metric; None with fewer than two (clusters), or a mean that is infinite."""
    values, clusters = one.counted(metric)
    groups = int(clusters.max(initial=-1)) + 1
    if groups < 2:
        return None
    counts = ~np.isnan(one.values[metric]).any(axis=0)
    means = transform(values.mean(axis=1))
    if not np.isfinite(means).all():
        return None
    draws = transform(bootstrap(values, clusters, one.task, DRAWS)) - means
    halves = np.stack([transform(values[:, clusters % 2 == part].mean(axis=1)) for part in (0, 1)])
    size = (values.shape[1], groups, digest(list(map(str, one.examples[counts]))))
    return _Sample(size, means, draws, halves)


def _transform_of(metric: str) -> Transform:
    registered = find_metric(metric)
    if registered is None or registered.transform is None:
        return np.asarray
    return np.vectorize(registered.transform.apply, otypes=[float])


def with_targets(windows: Sequence[Window], wanted: Sequence[str]) -> list[Window]:
    """Add to the windows of one model and task how they go along with its target metrics over training."""
    names = followed_metrics([window.metric for window in windows], wanted)
    targets = [window for window in windows if window.metric in names]
    found = []
    for window in windows:
        same = [
            of for of in targets if of is not window and np.array_equal(of.checkpoints, window.checkpoints)
        ]
        correlated = {of.metric: along(window.curve, of.curve) for of in same}
        short = window.curve._replace(ranks=np.zeros((0, 0), dtype=np.float32))  # not needed any more
        found.append(replace(window, along=correlated, curve=short))
    return found


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


def _window(  # noqa: PLR0917 (what it is of, its data, and how to look at them)
    place: Place,
    what: tuple[str, str],
    size: tuple[int, int, str],
    data: tuple[Axis, np.ndarray, np.ndarray, np.ndarray],
    chance: float,
    settings: Settings,
    stop: float | None,
) -> Window:
    (axis, means, draws, halves), (task, metric) = data, what
    x, sign = np.array(axis.at), sign_of(metric)
    count = len(x) if stop is None else int(np.searchsorted(x, stop, side="right")) or len(x)
    end = slice(max(count - settings.last, 0), count)
    own, name = own_wiggle(x[end], means[end], draws[:, end]), f"{place.model} {task} {metric}"
    curve = curve_of(name, x, sign * means, sign * draws, own, sign * chance, settings.alpha)
    reach = float(np.ptp(x[end]) / x[end][-1]) if x[end][-1] > 0 else np.nan
    window = (x[end], means[end], draws[:, end].astype(np.float32), halves[:, end])
    return Window(place, task, metric, *size, x, reach, *window, curve, {}, axis.in_tokens)


def own_wiggle(x: np.ndarray, values: np.ndarray, deviations: np.ndarray) -> float:
    """Return the sd between checkpoints that examples do not explain; 0 with fewer than three."""
    free = len(x) - 2
    if free < 1:
        return 0.0
    found = np.sum(around_line(x, values) ** 2) / free
    sampling = np.mean(np.sum(around_line(x, deviations) ** 2, axis=1)) / free
    return float(np.sqrt(max(found - sampling, 0.0)))


def by_size(runs: Sequence[Window]) -> dict[str, list[Window]]:
    """Return size → its runs, from the smallest size to the largest."""
    largest: dict[str, int] = {}
    for run in runs:
        largest[run.place.size] = max(largest.get(run.place.size, 0), run.place.parameters)
    order = sorted(largest, key=lambda size: (largest[size], size))
    return {size: [run for run in runs if run.place.size == size] for size in order}
