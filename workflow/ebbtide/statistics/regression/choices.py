"""Analysis choices of one regression, changed one at a time: size, errors, model, and a model left out.

Where models differ only by seed, the base compares sizes (`mixed`). Then clusters are sizes, and each size is
left out in turn.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pandas as pd

from ebbtide.statistics.regression.covariance import Estimates, least_squares
from ebbtide.statistics.regression.design import (
    NO_REGRESSION,
    Size,
    cells_of,
    left_out_note,
    predictors_of,
    reason_for_no_regression,
    reason_of_arrays,
    response_and_design,
    standardise,
)
from ebbtide.statistics.regression.mixed import random_slopes
from ebbtide.statistics.regression.quasi_binomial import quasi_binomial, reason_for_no_shares
from ebbtide.statistics.regression.units import Units, units_of_cells
from ebbtide.statistics.replicates import Place

LEAST_SQUARES = "least squares over cells"  # the regression of the paper, where it is not the base
ROUGH_DF = 4  # with fewer Satterthwaite degrees of freedom, the t distribution is a rough approximation


@dataclass(frozen=True)
class Outcome:
    """Result of one choice: estimates of the three terms, or None and a note with the reason."""

    group: str
    choice: str
    cells: int
    models: int
    estimates: Estimates | None
    note: str


@dataclass(frozen=True)
class _Grid:
    """The cells of one task and metric with known size and tokens, as arrays."""

    y: np.ndarray  # (cells,), as measured
    predictors: np.ndarray  # (cells, 2): log10 N, log10 D
    models: np.ndarray
    n: np.ndarray  # examples; 0 where unknown
    note: str  # why there is no regression, or which cells are missing
    units: Units | None = None  # None: no two models are replicates

    @property
    def has_no_regression(self) -> bool:
        return self.note.startswith(NO_REGRESSION)

    @property
    def clusters(self) -> np.ndarray:
        """The size of each cell if there are replicates, else the model, (cells,)."""
        if self.units is None:
            return self.models
        return np.array([self.units.size_of[model] for model in self.models], dtype=object)

    def without(self, cluster: str) -> "_Grid":
        kept = self.clusters != cluster
        y, predictors, models = self.y[kept], self.predictors[kept], self.models[kept]
        return _Grid(y, predictors, models, self.n[kept], reason_of_arrays(y, predictors), self.units)

    def outcome(self, group: str, choice: str, fit: "Callable[[_Grid], Estimates | str]") -> Outcome:
        """Return the result of `fit`, with the notes of grid and fit."""
        found = self.note if self.has_no_regression else fit(self)
        count = len(self.y), len(np.unique(self.models))
        if isinstance(found, str):
            text = found if self.has_no_regression else f"{NO_REGRESSION}: {found}"
            return Outcome(group, choice, *count, None, text)
        return Outcome(group, choice, *count, found, "; ".join(n for n in (self.note, found.note) if n))


def outcomes(
    rows: pd.DataFrame, metric: str, parameters: Size, places: Mapping[str, Place] | None = None
) -> Iterator[Outcome]:
    """Yield the base and every other choice for the `rows` of one task. The base counts `parameters`.

    `places`: see `fit.regress`.
    """
    cells = cells_of(rows, metric, parameters)
    units = units_of_cells(cells["model"], cells["tokens"].to_numpy(dtype=float), places or {})
    base = replace(_grid(cells, parameters), units=units)
    if base.note:
        base = replace(base, note=reason_for_no_regression(rows, metric, parameters))
    else:
        notes = (left_out_note(rows, metric, parameters), _missing_cells_note(cells))
        base = replace(base, note="; ".join(filter(None, notes)))
    yield base.outcome("base", "base", _base)
    for size in get_args(Size):
        if size != parameters:
            yield _other_size(cells, size, base)
    yield base.outcome("errors", "HC3", _hc3)
    yield base.outcome("errors", "CR2 by model" if units is None else "CR2 by size", _cr2)
    if units is None:
        yield base.outcome("model", "random slopes", _random_slopes)
    else:
        yield base.outcome("model", LEAST_SQUARES, _plain)
        if units.by == "size":
            yield base.outcome("model", "random slopes by run", _random_slopes)
    yield base.outcome("model", "quasi-binomial", lambda grid: _quasi_binomial(grid, metric))
    clusters = cells.assign(cluster=base.clusters).sort_values([f"parameters_{parameters}", "cluster"])
    for cluster in clusters["cluster"].unique():
        yield base.without(cluster).outcome("left out", f"without {cluster}", _base)


def _grid(cells: pd.DataFrame, parameters: Size) -> _Grid:
    y = cells["value"].to_numpy(dtype=float)
    predictors = predictors_of(cells, parameters)
    n = cells["n"].to_numpy(dtype=float) if "n" in cells else np.zeros(len(y))
    return _Grid(y, predictors, cells["model"].to_numpy(dtype=object), n, reason_of_arrays(y, predictors))


def _missing_cells_note(cells: pd.DataFrame) -> str:
    """Return how many cells are missing: checkpoints that most models have and some lack."""
    models = cells["model"].nunique()
    having = cells.groupby("tokens")["model"].nunique()
    missing = int((models - having[having > models / 2]).sum())
    return f"incomplete grid: {len(cells)} of {len(cells) + missing} cells" if missing else ""


def _other_size(cells: pd.DataFrame, size: Size, base: _Grid) -> Outcome:
    column, choice = f"parameters_{size}", f"{size} parameters".replace("_", "-")
    known = cells[cells[column] > 0] if column in cells else cells[:0]
    if base.has_no_regression:
        return base.outcome("size", choice, _base)
    if known.empty:
        return replace(base, note=f"{NO_REGRESSION}: {choice} unknown").outcome("size", choice, _base)
    grid = replace(_grid(known, size), units=base.units)
    remarks = [grid.note or base.note]
    if len(known) < len(cells):
        remarks.append(f"{choice} unknown for {len(cells) - len(known)} of {len(cells)} cells")
    elif not grid.has_no_regression:
        remarks.append(_equal_sizes_note(grid, base))
    return replace(grid, note="; ".join(filter(None, remarks))).outcome("size", choice, _base)


def _equal_sizes_note(grid: _Grid, base: _Grid) -> str:
    """Return a note if another size gives the same regression, because standardised sizes are equal."""
    if np.array_equal(grid.predictors, base.predictors):
        return "the same sizes as the base"
    if np.allclose(standardise(grid.predictors), standardise(base.predictors), rtol=0, atol=1e-9):
        return "sizes in the same proportions as those of the base"
    return ""


def _base(grid: _Grid) -> Estimates | str:
    """As `fit.regress`."""
    if grid.units is None:
        return _plain(grid)
    size, tokens = standardise(grid.predictors).T
    return random_slopes(standardise(grid.y), size, tokens, grid.models, grid.units)


def _plain(grid: _Grid) -> Estimates:
    return _terms(least_squares(*response_and_design(grid.y, grid.predictors, "standardised")))


def _hc3(grid: _Grid) -> Estimates:
    return _terms(least_squares(*response_and_design(grid.y, grid.predictors, "standardised"), "HC3"))


def _cr2(grid: _Grid) -> Estimates | str:
    found = _terms(
        least_squares(
            *response_and_design(grid.y, grid.predictors, "standardised"), "CR2", clusters=grid.clusters
        )
    )
    if np.isnan(found.df).all():
        noun = "models" if grid.units is None else "sizes"
        return f"too few {noun} to estimate how they differ"
    least = np.nanmin(found.df)
    note = f"smallest df {least:.1f}: p is approximate" if least < ROUGH_DF else ""
    return Estimates(found.estimate, found.stderr, found.df, note)


def _random_slopes(grid: _Grid) -> Estimates | str:
    size, tokens = standardise(grid.predictors).T
    return random_slopes(standardise(grid.y), size, tokens, grid.models)


def _quasi_binomial(grid: _Grid, metric: str) -> Estimates | str:
    if reason := reason_for_no_shares(metric, grid.y, grid.n):
        return reason
    _, design = response_and_design(grid.y, grid.predictors, "standardised")
    found = quasi_binomial(grid.y, grid.n, design)
    return found if isinstance(found, str) else _terms(found)


def _terms(found: Estimates) -> Estimates:
    """Return the estimates without the intercept."""
    return Estimates(found.estimate[1:], found.stderr[1:], found.df[1:], found.note)
