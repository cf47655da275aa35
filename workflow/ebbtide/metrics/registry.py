"""The register of metrics, by name and by kind of task."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from ebbtide.errors import TaskError, nearest
from ebbtide.metrics.errors_of_means import Transform
from ebbtide.metrics.examples import Examples
from ebbtide.tasks.generation.pipelines import EXACT, of_filter, pipelines_in
from ebbtide.tasks.kinds import kind_of

Values = Callable[[Examples], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """One metric: `transform` of the mean, weighted by `weights`, of `values`.

    `values`, `weights` and `chance` are functions of the examples of a cell that return one number per
    example. `chance` is the value for a model without knowledge (equal probabilities of all choices). `needs`
    lists the required columns. `main` metrics are also reported by group. `higher_is_better` is None if
    neither is. `harness` is the name of the metric in lm-evaluation-harness. `by_example` is False if the
    value of one example also depends on the others, so that single examples cannot be compared.
    """

    name: str
    kinds: tuple[str, ...]
    unit: str
    higher_is_better: bool | None
    harness: str
    main: bool
    needs: tuple[str, ...]
    values: Values
    weights: Values | None
    chance: Values | None
    transform: Transform | None
    by_example: bool = True


METRICS: dict[str, Metric] = {}

# Kind of task → metrics whose ratios between two levels of a group are reported.
RATIOS: dict[str, tuple[str, ...]] = {}


def metric(
    *kinds: str,
    unit: str,
    higher_is_better: bool | None,
    harness: str = "",
    main: bool = False,
    needs: tuple[str, ...] = (),
    weights: Values | None = None,
    chance: Values | None = None,
    transform: Transform | None = None,
    by_example: bool = True,
) -> Callable[[Values], Values]:
    """Return a decorator that registers a function as the metric of its name."""

    def register(values: Values) -> Values:
        name = values.__name__
        METRICS[name] = Metric(
            *(name, kinds, unit, higher_is_better, harness, main, needs, values, weights, chance, transform),
            by_example=by_example,
        )
        return values

    return register


def needed(kind: str, wanted: list[str] | None) -> set[str]:
    """Return the columns that metrics of a kind need, or only those of `wanted`."""
    metrics = [METRICS[name] for name in wanted or METRICS if name in METRICS]
    return {column for metric in metrics if kind in metric.kinds for column in metric.needs}


def check_metrics(kind: str, wanted: list[str] | None, where: str) -> None:
    """Raise `TaskError` for a metric that is unknown, or belongs to another kind of task."""
    allowed = [name for name, metric in METRICS.items() if kind in metric.kinds]
    for name in wanted or []:
        if name not in allowed:
            raise TaskError(
                f"{where}: metrics: found {name!r}; allowed for the kind {kind}: {', '.join(allowed)}"
                f"{nearest(name, allowed) or '.'}"
            )


def reported(kind: str, columns: Collection[str], wanted: list[str] | None) -> list[Metric]:
    """Return the metrics of a kind whose columns are available; if `wanted` is given, these in its order.

    A metric of answers after filters is one for each pipeline of which there is a column.

    Raises `TaskError` for an unknown kind, and for a wanted metric that is unknown, belongs to another kind,
    or lacks its columns.
    """
    kind_of({"kind": kind})
    of_kind = {name: m for name, m in METRICS.items() if kind in m.kinds}
    available = set(columns)
    if wanted is None:
        every = [one for m in of_kind.values() for one in _of_pipelines(m, columns)]
        return [m for m in every if available.issuperset(m.needs)]
    for name in wanted:
        if name not in of_kind:
            allowed = list(of_kind)
            raise TaskError(
                f"metrics: found {name!r}; allowed for the kind {kind}: {', '.join(allowed)}"
                f"{nearest(name, allowed) or '.'}"
            )
    chosen = [one for name in dict.fromkeys(wanted) for one in _of_pipelines(of_kind[name], columns)]
    for one in chosen:
        if missing := [n for n in one.needs if n not in available]:
            raise TaskError(
                f"metrics: {one.name} needs {', '.join(missing)}, which neither the requests nor the cell "
                "have."
            )
    return chosen


def _of_pipelines(metric: Metric, columns: Collection[str]) -> list[Metric]:
    """Return a metric for each pipeline of filters that the columns have, else the metric itself."""
    pipelines = pipelines_in(columns) if EXACT in metric.needs else []
    return [_after(metric, pipeline) for pipeline in pipelines] or [metric]


def _after(metric: Metric, pipeline: str) -> Metric:
    def values(x: Examples) -> np.ndarray:
        return metric.values(x.after(pipeline))

    needs = tuple(of_filter(name, pipeline) for name in metric.needs)
    return replace(metric, name=of_filter(metric.name, pipeline), needs=needs, values=values)
