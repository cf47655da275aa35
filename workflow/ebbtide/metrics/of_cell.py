"""Metrics of one cell, over all examples and by group, as rows of the metrics table."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.metrics.calibration import reliability_table
from ebbtide.metrics.direction import is_accuracy
from ebbtide.metrics.errors_of_means import Estimate, estimate, ratio
from ebbtide.metrics.examples import GROUP, Examples, in_order, join
from ebbtide.metrics.registry import RATIOS, Metric, reported
from ebbtide.tables import METRICS as TABLE
from ebbtide.tasks.kinds import kind_of

MAX_LEVELS = 50  # of a group that metrics are broken down by
MAX_RATIO_LEVELS = 6  # of a group whose ratios are reported
CONTINUOUS = (
    "margin",
    "coverage",
    "choice_probability",
    "classification_loss",
)  # unlike accuracy, which is 0 or 1


def measure(
    cell: pd.DataFrame, requests: pd.DataFrame, definition: Mapping[str, Any] | None = None
) -> pd.DataFrame:
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
    return _measured(_examples(cell, requests, definition or {}), definition or {})


def per_example(joined: pd.DataFrame, definition: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Return the metrics of each example (index `example`), a column per metric that is a plain mean.

    `joined` has the columns of a cell and of its requests; `definition` as for `measure`.
    """
    definition = definition or {}
    x = Examples(joined, definition)
    of_examples = [m for m in _metrics(x, definition) if m.weights is None and m.transform is None]
    return pd.DataFrame({m.name: m.values(x) for m in of_examples}, index=x.index)


def measured(
    cell: pd.DataFrame, requests: pd.DataFrame, definition: Mapping[str, Any] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What `measure` returns, and the rows of the table of examples (`tables.EXAMPLES`), without their task.

    The latter has `example, cluster`, the main metrics of the kind and those of `CONTINUOUS`, as far as they
    are means over examples. The plain mean of a column, NaN left out, is the metric: examples of weight 0 are
    NaN, and where weights are sizes (tokens of documents) the values are w x n / Σ w.
    """
    x = _examples(cell, requests, definition or {})
    return _measured(x, definition or {}), _example_rows(x, definition or {})


def reliability(
    cell: pd.DataFrame, requests: pd.DataFrame, definition: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Return the reliability table of a cell of kind choice or binary (`calibration.reliability_table`)."""
    return reliability_table(Examples(join(cell, requests), definition or {}))


def metrics_rows(rows: pd.DataFrame, footer: Mapping[str, Any], where: Mapping[str, Any]) -> pd.DataFrame:
    """Add the columns of the metrics table to rows of `measure`.

    `where` has `model, checkpoint, step, tokens, parameters_nominal, task`; the other parameter counts are
    from the cell's footer.
    """
    columns = {
        **where,
        "parameters_total": footer["parameters_total"],
        "parameters_non_embedding": footer["parameters_non_embedding"],
        "parameters_active": footer.get("parameters_active", footer["parameters_non_embedding"]),
        "source": footer.get("source", "scored"),
    }
    measured = {name: rows[name] for name in rows.columns}
    return pd.DataFrame({**measured, **columns}, columns=list(TABLE.columns), index=rows.index)


def loglikelihoods_sha256(cell: pd.DataFrame) -> str:
    """Return the sha256 of a cell's log-likelihoods: float64 bytes in the order of (example, choice)."""
    ordered = in_order(cell[["example", "choice", "loglikelihood"]])
    return hashlib.sha256(ordered["loglikelihood"].to_numpy(dtype="<f8").tobytes()).hexdigest()


def _examples(cell: pd.DataFrame, requests: pd.DataFrame, definition: Mapping[str, Any]) -> Examples:
    if "gold" not in requests.columns and kind_of(definition).gold == "choices":
        raise CellError(f"the requests have no column 'gold' (found: {', '.join(requests.columns)}).")
    return Examples(join(cell, requests), definition)


def _measured(x: Examples, definition: Mapping[str, Any]) -> pd.DataFrame:
    rows = [{"metric": name, **of._asdict(), "chance": chance} for name, of, chance in _rows(x, definition)]
    return pd.DataFrame(rows).astype({"value": float, "stderr": float, "n": "int64", "chance": float})


def _example_rows(x: Examples, definition: Mapping[str, Any]) -> pd.DataFrame:
    names = x.index.astype(str)
    clusters = _clusters(x, definition.get("cluster"))
    of = names if clusters is None else pd.Index(x.group(definition["cluster"])[1])[clusters]
    table = {"example": names, "cluster": of}
    for m in reported(x.kind.name, x.columns, None):
        if (m.main or m.name in CONTINUOUS) and m.transform is None:
            weights = np.ones(len(x)) if m.weights is None else m.weights(x).astype(float)
            share = weights / weights[weights > 0].mean() if weights.any() else weights
            table[m.name] = np.where(weights > 0, m.values(x) * share, np.nan)
    return pd.DataFrame(table)


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
        return estimate(self.null[mask], *self._of(mask), self.metric.transform).value

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
        raise CellError(f"cluster: example {x.index[int(np.argmin(codes))]} has no {GROUP}{name}.")
    return codes
