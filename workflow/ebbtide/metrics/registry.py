"""The register of all metrics, by name and by the kinds of tasks that they are for."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ebbtide.errors import TaskError, nearest
from ebbtide.metrics.errors_of_means import Transform
from ebbtide.metrics.examples import Examples
from ebbtide.tasks.kinds import kind_of

Values = Callable[[Examples], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """One metric: `transform` of the mean, weighted by `weights`, of `values`.

    `values`, `weights` and `chance` take the examples of a cell and give one number per example. `chance`
    holds what a model without any knowledge gets (the same probability for every choice). `needs` names the
    columns without which there is no such metric. `main` metrics are also reported group by group.
    `higher_is_better` is None where neither is. `harness` is the metric's name in lm-evaluation-harness.
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


METRICS: dict[str, Metric] = {}

# By kind: names of metrics of which the ratios between two levels of a group are reported, too.
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
) -> Callable[[Values], Values]:
    """Register a function under its name; the function itself does not change."""

    def register(values: Values) -> Values:
        name = values.__name__
        METRICS[name] = Metric(
            name, kinds, unit, higher_is_better, harness, main, needs, values, weights, chance, transform
        )
        return values

    return register


def check_metrics(kind: str, wanted: list[str] | None, where: str) -> None:
    """Raise `TaskError` for a wanted metric that is unknown, or of another kind of task."""
    allowed = [name for name, metric in METRICS.items() if kind in metric.kinds]
    for name in wanted or []:
        if name not in allowed:
            raise TaskError(
                f"{where}: metrics: found {name!r}; allowed for the kind {kind}: {', '.join(allowed)}"
                f"{nearest(name, allowed) or '.'}"
            )


def reported(kind: str, columns: frozenset[str], wanted: list[str] | None) -> list[Metric]:
    """Metrics of a kind for which the columns are there; all of `wanted`, in its order, when it is given.

    Raises `TaskError` for an unknown kind, and for a wanted metric that is unknown, of another kind, or
    without its columns.
    """
    kind_of({"kind": kind})
    of_kind = {name: m for name, m in METRICS.items() if kind in m.kinds}
    if wanted is None:
        return [m for m in of_kind.values() if columns.issuperset(m.needs)]
    for name in wanted:
        if name not in of_kind:
            allowed = list(of_kind)
            raise TaskError(
                f"metrics: found {name!r}; allowed for the kind {kind}: {', '.join(allowed)}"
                f"{nearest(name, allowed) or '.'}"
            )
        if missing := [n for n in of_kind[name].needs if n not in columns]:
            raise TaskError(f"metrics: {name} needs {', '.join(missing)}, which requests and cell lack.")
    return [of_kind[name] for name in dict.fromkeys(wanted)]
