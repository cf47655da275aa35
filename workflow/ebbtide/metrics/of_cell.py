"""Metrics of one cell, over all examples and by group, as rows of the metrics table."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ebbtide.arrow import Columns, columns_of
from ebbtide.errors import CellError
from ebbtide.metrics.calibration import reliability_table
from ebbtide.metrics.direction import is_accuracy
from ebbtide.metrics.errors_of_means import Estimate, estimate, ratio, value_of
from ebbtide.metrics.examples import GROUP, LEADING_SPACE, Examples, join, key_order
from ebbtide.metrics.registry import METRICS, RATIOS, Metric, needed, reported
from ebbtide.tables import METRICS as TABLE
from ebbtide.tasks.kinds import kind_of

if TYPE_CHECKING:
    import pandas as pd

    from ebbtide.metrics.examples import Table

MAX_LEVELS = 50  # of a group that metrics are broken down by
MAX_RATIO_LEVELS = 6  # of a group whose ratios are reported
# Metrics that have values by example in the tables of examples, besides the main ones of a kind. Others would
# triple the size of these tables; stage resolution computes them from the cells that it needs.
FOLLOWED = (
    *("accuracy_per_character", "accuracy_per_byte", "accuracy_per_token", "accuracy_pmi"),
    *("margin", "coverage", "choice_probability", "classification_loss", "gold_bits_per_byte"),
    *("greedy_accuracy", "greedy_exact_match"),
)


def measure(cell: "Table", requests: "Table", definition: Mapping[str, Any] | None = None) -> "pd.DataFrame":
    """Compute the metrics of one cell.

    Parameters
    ----------
    cell
        Rows of a cell (see `tables.CELL`).
    requests
        The frozen task.
    definition
        The task's definition. Used are `kind` (default `choice`), `invert`, `cluster` (a group whose levels
        are the clusters for standard errors), `metrics` (only these, in this order) and `chance` (of
        `accuracy` and its normalised forms).

    Returns
    -------
    One row per metric: `metric, value, stderr, n, chance`. `chance` is the value for a model without
    knowledge: a uniformly random answer, or equal probabilities of all choices; NaN if undefined. `n` is the
    number of examples used. Further rows for groups (columns `group_NAME`): the main metrics of every level,
    `accuracy[NAME=LEVEL]`, for at most `MAX_LEVELS` levels; and for the kind binary the ratios of two levels,
    in alphabetical order, `accuracy_ratio[NAME=A/B]`, for at most `MAX_RATIO_LEVELS` levels.

    Raises
    ------
    CellError
        Cell and requests have different examples or choices, `gold` is missing, or an example lacks a right
        or a wrong choice, or a column that its kind needs.
    TaskError
        The definition has an unknown kind or metric, or a metric that these rows do not allow.
    """
    import pandas as pd

    return pd.DataFrame(measured(cell, requests, definition)[0])


def per_example(joined: "Table", definition: Mapping[str, Any] | None = None) -> "pd.DataFrame":
    """Return the metrics of each example (index `example`), a column per metric that is a plain mean.

    `joined` has the columns of a cell and of its requests, in any order of rows; `definition` as for
    `measure`.
    """
    import pandas as pd

    definition = definition or {}
    rows = columns_of(joined)
    order = key_order(rows)
    x = Examples({name: values[order] for name, values in rows.items()}, definition)
    of_examples = [m for m in _metrics(x, definition) if m.weights is None and m.transform is None]
    return pd.DataFrame({m.name: m.values(x) for m in of_examples}, index=pd.Index(x.names, name="example"))


def measured(
    cell: "Table", requests: "Table", definition: Mapping[str, Any] | None = None
) -> tuple[Columns, Columns]:
    """What `measure` returns, and the rows of the table of examples, as columns (see `metrics_of`)."""
    x = examples_of(cell, requests, definition or {})
    return metrics_of(x, definition or {}), example_rows(x, definition or {})


def examples_of(
    cell: "Table", requests: "Table", definition: Mapping[str, Any], order: np.ndarray | None = None
) -> Examples:
    """Return the examples of a cell. Raises the errors of `measure`, except those about metrics.

    `order` is the `key_order` of the requests, if it is known.
    """
    asked = columns_of(requests)
    if "gold" not in asked and kind_of(definition).gold == "choices":
        raise CellError(f"the requests have no column 'gold' (found: {', '.join(asked)}).")
    return Examples(join(cell, asked, order), definition)


def texts_needed(definition: Mapping[str, Any]) -> set[str]:
    """Return the columns of texts of the requests that the metrics of a definition need."""
    columns = needed(kind_of(definition).name, definition.get("metrics"))
    return {"continuation"} if LEADING_SPACE in columns else set()


def metrics_of(x: Examples, definition: Mapping[str, Any]) -> Columns:
    """Return the columns `metric, value, stderr, n, chance` of `measure`."""
    rows = list(_rows(x, definition))
    return {
        "metric": np.array([name for name, _, _ in rows], dtype=object),
        "value": np.array([of.value for _, of, _ in rows], dtype=float),
        "stderr": np.array([of.stderr for _, of, _ in rows], dtype=float),
        "n": np.array([of.n for _, of, _ in rows], dtype=np.int64),
        "chance": np.array([chance for _, _, chance in rows], dtype=float),
    }


def is_followed(m: Metric) -> bool:
    """Whether a metric is in the tables of examples: a mean that is a main metric, or one of `FOLLOWED`."""
    return (m.main or m.name in FOLLOWED) and m.transform is None


def followed_names() -> list[str]:
    """Return the names of the metrics that tables of examples may have."""
    return [m.name for m in METRICS.values() if is_followed(m)]


def incomparable(metric: Metric) -> str:
    """Say why single examples cannot get better or worse by a metric; empty if they can."""
    if metric.higher_is_better is None:
        return "of which neither a higher nor a lower value is better"
    if not metric.by_example:
        return "whose value of an example depends on the other examples"
    return "which is a transformed mean, not a mean over examples" if metric.transform else ""


def is_only_in_cells(m: Metric) -> bool:
    """Whether a metric of which one end is better has values by example only in cells."""
    return m.higher_is_better is not None and not is_followed(m)


def example_rows(
    x: Examples, definition: Mapping[str, Any], wanted: Callable[[Metric], bool] = is_followed
) -> Columns:
    """Return the rows of the table of examples (`tables.EXAMPLES`), without their task.

    The columns are `example, cluster`, and the metrics `wanted`. The plain mean of a column, NaN left out, is
    the metric, or that to which its transform is applied: examples of weight 0 are NaN, and where weights are
    sizes (tokens of documents) the values are w x n / Σ w.
    """
    names = np.array(list(map(str, x.names)), dtype=object)
    clusters = _clusters(x, definition.get("cluster"))
    levels = None if clusters is None else np.array(x.group(definition["cluster"])[1], dtype=object)
    table = {"example": names, "cluster": names if levels is None else levels[clusters]}
    for m in reported(x.kind.name, x.columns, None):
        if wanted(m):
            table[m.name] = example_values(x, m)
    return table


def example_values(x: Examples, m: Metric) -> np.ndarray:
    """Return the value of each example whose plain mean, NaN left out, is the mean of a metric."""
    weights = np.ones(len(x)) if m.weights is None else m.weights(x).astype(float)
    share = weights / weights[weights > 0].mean() if weights.any() else weights
    values: np.ndarray = np.where(weights > 0, m.values(x) * share, np.nan)
    return values


def reliability(
    cell: "Table", requests: "Table", definition: Mapping[str, Any] | None = None
) -> "pd.DataFrame":
    """Return the reliability table of a cell of kind choice or binary (`calibration.reliability_table`)."""
    return reliability_table(Examples(join(cell, requests), definition or {}))


def metrics_rows(
    rows: Mapping[str, np.ndarray], footer: Mapping[str, Any], where: Mapping[str, Any]
) -> Columns:
    """Add the columns of the metrics table to those of `metrics_of`.

    `where` has `model, checkpoint, step, tokens, parameters_nominal, task`; the other parameter counts are
    from the cell's footer.
    """
    constant = {
        **where,
        "parameters_total": footer["parameters_total"],
        "parameters_non_embedding": footer["parameters_non_embedding"],
        "parameters_active": footer.get("parameters_active", footer["parameters_non_embedding"]),
        "source": footer.get("source", "scored"),
    }
    count = len(rows["metric"])
    columns = {n: np.full(count, v, object if isinstance(v, str) else None) for n, v in constant.items()}
    columns |= rows
    return {name: columns[name] for name in TABLE.columns}


def loglikelihoods_sha256(cell: "Table", order: np.ndarray | None = None) -> str:
    """Return the sha256 of a cell's log-likelihoods: float64 bytes in the order of (example, choice).

    `order` is the `key_order` of the cell, if it is known.
    """
    rows = columns_of(cell)
    ordered = rows["loglikelihood"][key_order(rows) if order is None else order]
    return hashlib.sha256(ordered.astype("<f8").tobytes()).hexdigest()


def _metrics(x: Examples, definition: Mapping[str, Any]) -> list[Metric]:
    return reported(x.kind.name, x.columns, definition.get("metrics"))


def _rows(x: Examples, definition: Mapping[str, Any]) -> Iterator[tuple[str, Estimate, float]]:
    """Yield name, estimate and chance level of every row."""
    clusters = _clusters(x, definition.get("cluster"))
    metrics = [_Measured(m, x, clusters, definition.get("chance")) for m in _metrics(x, definition)]
    everything = np.ones(len(x), dtype=bool)
    for m in metrics:
        yield m.metric.name, m.estimate(everything), m.chance(everything)
    for group in x.groups:
        codes, names = x.group(group)
        if len(names) > MAX_LEVELS:
            continue
        levels = {name: codes == code for code, name in enumerate(names)}
        for m in metrics:
            if m.metric.main:
                for level, mask in levels.items():
                    yield f"{m.metric.name}[{group}={level}]", m.estimate(mask), m.chance(mask)
        if len(levels) > MAX_RATIO_LEVELS:
            continue
        for m in metrics:
            if m.metric.name in RATIOS.get(x.kind.name, ()):
                for i, a in enumerate(names):
                    for b in names[i + 1 :]:
                        name = f"{m.metric.name}_ratio[{group}={a}/{b}]"
                        yield name, m.ratio(levels[a], levels[b]), 1.0


class _Measured:
    """The values of a metric for all examples of a cell, to be averaged over subsets."""

    def __init__(self, metric: Metric, x: Examples, clusters: np.ndarray | None, given: float | None) -> None:
        self.metric = metric
        self.values = metric.values(x)
        self.weights = None if metric.weights is None else metric.weights(x).astype(float)
        self.clusters = clusters
        self.null = None if metric.chance is None else metric.chance(x)
        self.given = given if is_accuracy(metric.name) else None

    def estimate(self, mask: np.ndarray) -> Estimate:
        return estimate(self.values[mask], *self._of(mask), self.metric.transform)

    def ratio(self, first: np.ndarray, second: np.ndarray) -> Estimate:
        return ratio(first, second, self.values, self.weights, self.clusters)

    def chance(self, mask: np.ndarray) -> float:
        if self.given is not None:
            return float(self.given)
        if self.null is None:
            return np.nan
        weights, _ = self._of(mask)
        return value_of(self.null[mask], weights, self.metric.transform)

    def _of(self, mask: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        weights = None if self.weights is None else self.weights[mask]
        return weights, None if self.clusters is None else self.clusters[mask]


def _clusters(x: Examples, name: str | None) -> np.ndarray | None:
    if name is None:
        return None
    if name not in x.groups:
        found = ", ".join(x.groups) or "none"
        raise CellError(f"cluster: the requests have no column {GROUP}{name} (groups found: {found}).")
    codes, _ = x.group(name)
    if (codes < 0).any():
        raise CellError(f"cluster: example {x.names[int(np.argmin(codes))]} has no {GROUP}{name}.")
    return codes
