"""The over-training study: fit laws to a few small runs of a train set, and predict all its runs.

L(C, M) by Eq. 4 is fitted to the runs of `fit`. Err(L) by Eq. 5 is fitted to measured losses and errors of
the runs of `fit` and `error_fit_adds`. Errors of a run are predicted from its *predicted* loss (Gadre et al.
2024). Eq. 5 has no lower bound, so each error is also fitted by a sigmoid in the loss (Bhagia et al. 2024),
whose predictions stay between 0 and 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.fits import Fit, fit
from ebbtide.statistics.scaling_laws.identifiability import identifiability
from ebbtide.statistics.scaling_laws.laws import (
    ERROR,
    ERROR_SIGMOID,
    OVERTRAINED_FITTED,
    bounded_error,
    overtrained_from_fitted,
)
from ebbtide.statistics.scaling_laws.predictions import (
    Predicted,
    out_of_range,
    predict_errors,
    predict_runs,
    relative_error,
    within,
)
from ebbtide.statistics.scaling_laws.runs import ERROR_PREFIX, LOSS_PREFIX, select, wide
from ebbtide.statistics.scaling_laws.uncertainty import leave_one_out

FITS = (
    *("train_set", "quantity", "law", "formula", "parameter", "unit", "estimate", "stderr", "low", "high"),
    *("left_out_low", "left_out_high", "left_out_rmse"),
    *("verdict", "why", "points", "df", "sigma", "starts", "converged", "agreeing", "compute", "note"),
)


@dataclass(frozen=True)
class Settings:
    """Settings of the fits: evaluation set of the loss, and runs as rows of {models, M}."""

    loss: str
    fit: Sequence[Mapping[str, Any]]
    error_fit_adds: Sequence[Mapping[str, Any]] = ()
    level: float = 0.95

    @property
    def quantity(self) -> str:
        """Quantity of the loss that errors are predicted from."""
        return LOSS_PREFIX + self.loss


@dataclass(frozen=True)
class TrainSet:
    """One train set: its runs (one row each, see `runs.wide`), and its fits by quantity.

    `chain` is the loss that errors are predicted from. `failed` contains the reason why a quantity has no
    fit. `bounded` contains the bounded law of every error, or the reason why it has none.
    """

    name: str
    runs: pd.DataFrame
    loss_points: pd.DataFrame
    error_points: pd.DataFrame
    chain: str
    fits: dict[str, Fit] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    bounded: dict[str, Fit | str] = field(default_factory=dict)

    @property
    def compute(self) -> dict[str, float]:
        """FLOPs of the runs in the loss fits and in the error fits."""
        return {LOSS_PREFIX: self.loss_points["C"].sum(), ERROR_PREFIX: self.error_points["C"].sum()}

    def fitted(self, quantity: str) -> Fit:
        """Return the fit of a quantity. Raises `ScalingError` with the reason if there is none."""
        if quantity in self.failed:
            raise ScalingError(self.failed[quantity])
        return self.fits[quantity]

    def laws(self, quantity: str) -> dict[str, Fit | str]:
        """Return the fit of a quantity by law, or the reason why there is none; the paper's law is first."""
        first = self.failed.get(quantity) or self.fits[quantity]
        if quantity not in self.bounded:
            return {OVERTRAINED_FITTED.name: first}
        return {ERROR.name: first, ERROR_SIGMOID.name: self.bounded[quantity]}


def fit_train_sets(
    runs: pd.DataFrame, settings: Settings, chance: Mapping[str, float] | None = None
) -> list[TrainSet]:
    """Fit every loss and every error of every train set.

    `chance` is the chance level of accuracy by error quantity: the bounded law ends at 1 - chance. Raises
    `ScalingError` if runs or the loss named in the settings are missing.
    """
    known = chance or {}
    return [_fit_one(str(name), part, settings, known) for name, part in runs.groupby("train_set")]


def fit_loss(points: pd.DataFrame, quantity: str, **choices: Any) -> Fit:
    """Fit Eq. 4 to runs of one train set, in the form and from the starts of its authors."""
    N, M = points["parameters"].to_numpy(), points["M"].to_numpy()
    return fit(OVERTRAINED_FITTED, points[quantity].to_numpy(), N=N, M=M, **choices)


def fit_error(points: pd.DataFrame, quantity: str, chain: str, **choices: Any) -> Fit:
    """Fit Eq. 5 to measured losses and errors."""
    return fit(ERROR, points[quantity].to_numpy(), L=points[chain].to_numpy(), **choices)


def fit_bounded_error(points: pd.DataFrame, quantity: str, chain: str, chance: float = float("nan")) -> Fit:
    """Fit the bounded law to measured losses and errors; NaN is an unknown chance level."""
    law = bounded_error(None if np.isnan(chance) else 1 - chance)
    return fit(law, points[quantity].to_numpy(), bounded=True, L=points[chain].to_numpy())


def predict(train_set: TrainSet, fitted: Fit, at: pd.DataFrame, level: float) -> Predicted:
    """Predict the runs `at` with a fit of the train set; errors are predicted through the predicted loss."""
    where = {"N": at["parameters"].to_numpy(), "M": at["M"].to_numpy()}
    if fitted.law.output == "L":
        return predict_runs(fitted, level, **where)
    found = predict_errors(train_set.fits[train_set.chain], fitted, level, **where)
    return within(found, 0.0, 1.0) if fitted.bounded else found


def predictions(train_sets: Sequence[TrainSet], level: float = 0.95) -> pd.DataFrame:
    """Return the predicted and actual value of every quantity of every run, by every law of the quantity.

    Columns: train_set, model, parameters, tokens, M, C, quantity, law, predicted, low, high, actual,
    relative_error, in_fit (whether the run is in the fit), fit_compute (FLOPs of the runs in the fit),
    compute_ratio (C of the run / fit_compute), note.
    """
    tables = []
    for train_set in train_sets:
        runs = train_set.runs[["train_set", "model", "parameters", "tokens", "M", "C"]]
        for quantity in _quantities(train_set.runs):
            in_fit, spent = _in_fit(train_set, quantity)
            for law, fitted in train_set.laws(quantity).items():
                found, notes = _predicted(train_set, quantity, fitted, level)
                actual = train_set.runs[quantity].to_numpy()
                tables.append(
                    runs.assign(
                        quantity=quantity,
                        law=law,
                        predicted=found.value,
                        low=found.low,
                        high=found.high,
                        actual=actual,
                        relative_error=relative_error(found.value, np.where(actual > 0, actual, np.nan)),
                        in_fit=in_fit,
                        fit_compute=spent,
                        compute_ratio=runs["C"] / spent,
                        note=notes,
                    )
                )
    return pd.concat(tables, ignore_index=True)


def _predicted(
    train_set: TrainSet, quantity: str, fitted: Fit | str, level: float
) -> tuple[Predicted, list[str]]:
    """Return the predictions of every run by one law, and a note for each."""
    runs = train_set.runs
    if quantity.startswith(ERROR_PREFIX):  # errors need the law of the loss
        fitted = train_set.failed.get(train_set.chain, fitted)
    if isinstance(fitted, str):
        return Predicted(*(np.full(len(runs), np.nan) for _ in range(4))), [fitted] * len(runs)
    found = predict(train_set, fitted, runs, level)
    missing = "" if np.isfinite(found.low).all() else "no interval: no degrees of freedom"
    outside = out_of_range(quantity, found.value, runs[quantity].to_numpy())
    return found, ["; ".join(filter(None, (text, missing))) for text in outside]


def fits_table(train_sets: Sequence[TrainSet], level: float = 0.95) -> pd.DataFrame:
    """One row per fitted parameter: estimate, standard error, interval, and identifiability.

    Columns: train_set, quantity, law, formula, parameter, unit, estimate, stderr, low, high (profile
    likelihood), left_out_low, left_out_high (range of the estimate when each run is left out in turn),
    left_out_rmse (root mean square of observed − predicted for the run left out), verdict, why, points, df,
    sigma, starts, converged, agreeing, compute (FLOPs), note. `a` of Eq. 4, computed from `a6`, has a row of
    its own.
    """
    rows: list[dict[str, Any]] = []
    for train_set in train_sets:
        for quantity in _quantities(train_set.runs):
            for law, fitted in train_set.laws(quantity).items():
                common = {"train_set": train_set.name, "quantity": quantity, "law": law}
                if isinstance(fitted, str):
                    rows.append({**common, "note": fitted})
                    continue
                _, spent = _in_fit(train_set, quantity)
                rows += [{**common, **row, "compute": spent} for row in _parameter_rows(fitted, level)]
    return pd.DataFrame(rows, columns=list(FITS))


def _parameter_rows(fitted: Fit, level: float) -> list[dict[str, Any]]:
    """Return a row per parameter of one fit, and one for the `a` of Eq. 4."""
    verdicts, without = identifiability(fitted, level), leave_one_out(fitted)
    shared = {
        "formula": fitted.law.formula,
        "left_out_rmse": float(np.sqrt((without["missed_by"] ** 2).mean())),
        "points": fitted.points,
        "df": fitted.df,
        "sigma": fitted.sigma,
        "starts": fitted.starts,
        "converged": fitted.converged,
        "agreeing": fitted.agreeing,
        "note": "",
    }
    rows: list[dict[str, Any]] = [
        {
            **shared,
            "parameter": parameter.name,
            "unit": parameter.unit,
            "estimate": fitted.values[parameter.name],
            "stderr": fitted.stderr[parameter.name],
            "low": verdicts[parameter.name].low,
            "high": verdicts[parameter.name].high,
            "left_out_low": without[parameter.name].min(),
            "left_out_high": without[parameter.name].max(),
            "verdict": verdicts[parameter.name].verdict,
            "why": verdicts[parameter.name].why,
        }
        for parameter in fitted.law.parameters
    ]
    if fitted.law is OVERTRAINED_FITTED:
        a = overtrained_from_fitted(fitted.values)["a"]
        note = "a = a6 6^eta, the a of Eq. 4"
        rows.append({**shared, "parameter": "a", "unit": "nats FLOP^eta", "estimate": a, "note": note})
    return rows


def _fit_one(name: str, part: pd.DataFrame, settings: Settings, chance: Mapping[str, float]) -> TrainSet:
    table = wide(part)
    points = wide(select(part, settings.fit, f"{name}: scaling_laws.fit"))
    more = [*settings.fit, *settings.error_fit_adds]
    error_points = wide(select(part, more, f"{name}: scaling_laws.error_fit_adds"))
    if settings.quantity not in table:
        known = ", ".join(
            q.removeprefix(LOSS_PREFIX) for q in _quantities(table) if q.startswith(LOSS_PREFIX)
        )
        raise ScalingError(f"scaling_laws.loss: found {settings.loss!r}; {name} has: {known or 'no losses'}.")
    train_set = TrainSet(name, table, points, error_points, settings.quantity)
    for quantity in _quantities(table):
        try:
            if quantity.startswith(LOSS_PREFIX):
                train_set.fits[quantity] = fit_loss(points, quantity)
            else:
                train_set.fits[quantity] = fit_error(error_points, quantity, settings.quantity)
        except ScalingError as error:  # reported in the tables; other quantities are still fitted
            train_set.failed[quantity] = error.args[0]
        if quantity.startswith(ERROR_PREFIX):
            try:
                level = chance.get(quantity, float("nan"))
                bounded: Fit | str = fit_bounded_error(error_points, quantity, settings.quantity, level)
            except ScalingError as error:
                bounded = error.args[0]
            train_set.bounded[quantity] = bounded
    return train_set


def _quantities(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name.startswith((LOSS_PREFIX, ERROR_PREFIX))]


def _in_fit(train_set: TrainSet, quantity: str) -> tuple["pd.Series[bool]", float]:
    """Return which runs are in the fit of this quantity, and their total FLOPs."""
    is_loss = quantity.startswith(LOSS_PREFIX)
    points = train_set.loss_points if is_loss else train_set.error_points
    spent = train_set.compute[LOSS_PREFIX if is_loss else ERROR_PREFIX]
    keys = set(zip(points["model"], points["M"], strict=True))
    in_fit = [(m, M) in keys for m, M in zip(train_set.runs["model"], train_set.runs["M"], strict=True)]
    return pd.Series(in_fit, index=train_set.runs.index), float(spent)
