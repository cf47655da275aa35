"""Sensitivity of predictions to analysis choices: objective, bounds, start, law, points of the fit."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.fits import Fit, fit
from ebbtide.statistics.scaling_laws.laws import CHINCHILLA, OVERTRAINED, OVERTRAINED_FITTED
from ebbtide.statistics.scaling_laws.overtraining import TrainSet, fit_error, fit_loss
from ebbtide.statistics.scaling_laws.predictions import out_of_range, relative_error
from ebbtide.statistics.scaling_laws.runs import ERROR_PREFIX

FEW_STARTS = 16  # evenly spaced starts of the law, enough to detect several optima


def sensitivity(train_sets: Sequence[TrainSet], errors: Sequence[str]) -> pd.DataFrame:
    """Predict the runs beyond the fit under each choice.

    `errors` are the error quantities to predict. Runs beyond the fit have more compute than any run in it.
    Columns: train_set, model, M, quantity, group (base, optimiser, objective, start, law, dropped point),
    choice, predicted, actual, relative_error, agreement (of the starts), note.
    """
    rows = []
    for train_set in train_sets:
        beyond = train_set.runs[train_set.runs["C"] > train_set.error_points["C"].max()]
        for quantity, group, choice, make in _choices(train_set, errors):
            try:
                fitted, values = make(beyond)
                agreement, note = fitted.agreement(), _note(fitted)
            except ScalingError as error:
                values, agreement, note = np.full(len(beyond), np.nan), "", error.args[0]
            actual = beyond[quantity].to_numpy()
            rows.append(
                beyond[["train_set", "model", "M"]].assign(
                    quantity=quantity,
                    group=group,
                    choice=choice,
                    predicted=values,
                    actual=actual,
                    relative_error=relative_error(values, actual),
                    agreement=agreement,
                    note=[
                        "; ".join(filter(None, (note, text)))
                        for text in out_of_range(quantity, values, actual)
                    ],
                )
            )
    table: pd.DataFrame = pd.concat(rows, ignore_index=True)
    return table


def _choices(
    train_set: TrainSet, errors: Sequence[str]
) -> Iterator[tuple[str, str, str, Callable[[pd.DataFrame], tuple[Fit, Any]]]]:
    """Yield (quantity, group, choice, function from runs to the fit and its predictions)."""
    chain, points = train_set.chain, train_set.loss_points
    few = OVERTRAINED_FITTED.starts()[:: len(OVERTRAINED_FITTED.starts()) // FEW_STARTS]
    ones = [[1.0, 1.0, 1.0, -0.5]]  # E, a6, b and the exponent of N: the default start of curve fitters

    def loss(**choices: Any) -> Callable[[pd.DataFrame], tuple[Fit, Any]]:
        return lambda at: _at(fit_loss(choices.pop("points", points), chain, **choices), at)

    yield chain, "base", "least squares, Levenberg-Marquardt, 128 starts", loss()
    yield chain, "optimiser", "trust region within physical bounds", loss(bounded=True, starts=few)
    yield chain, "objective", "Huber on log loss", loss(objective="robust", starts=few)
    yield chain, "start", "one start, all parameters of the paper's form 1", loss(starts=ones)
    yield chain, "law", OVERTRAINED.formula, lambda at: _at_compute(points, chain, at)
    yield chain, "law", CHINCHILLA.formula, lambda at: _at_tokens(points, chain, at)
    for i in range(len(points)):
        left = points.drop(index=points.index[i])
        yield chain, "dropped point", _name(points.iloc[i]), loss(points=left)

    measured = train_set.error_points

    def error(quantity: str, points: pd.DataFrame, **choices: Any) -> Callable[..., tuple[Fit, Any]]:
        def make(at: pd.DataFrame) -> tuple[Fit, Any]:
            fitted = fit_error(points, quantity, chain, **choices)
            losses, _ = _at(train_set.fitted(chain), at)[::-1]
            return fitted, fitted.predict(L=losses)

        return make

    def bounded(quantity: str) -> Callable[..., tuple[Fit, Any]]:
        def make(at: pd.DataFrame) -> tuple[Fit, Any]:
            fitted = train_set.bounded[quantity]
            if isinstance(fitted, str):
                raise ScalingError(fitted)
            return fitted, fitted.predict(L=_at(train_set.fitted(chain), at)[1])

        return make

    for quantity in errors:
        yield quantity, "base", "least squares, Levenberg-Marquardt", error(quantity, measured)
        yield (
            quantity,
            "optimiser",
            "trust region within physical bounds",
            error(quantity, measured, bounded=True),
        )
        yield quantity, "objective", "Huber on log error", error(quantity, measured, objective="robust")
        yield quantity, "start", "one start, all parameters 1", error(quantity, measured, starts=[[1.0] * 3])
        yield quantity, "law", "sigmoid in the loss, between 0 and 1", bounded(quantity)
        for i in range(len(measured)):
            left = measured.drop(index=measured.index[i])
            yield quantity, "dropped point", _name(measured.iloc[i]), error(quantity, left)


def _at(fitted: Fit, at: pd.DataFrame) -> tuple[Fit, Any]:
    return fitted, fitted.predict(N=at["parameters"].to_numpy(), M=at["M"].to_numpy())


def _at_compute(points: pd.DataFrame, quantity: str, at: pd.DataFrame) -> tuple[Fit, Any]:
    """Fit and predict with Eq. 4 in C and M; runs whose D is not exactly MN differ slightly."""
    fitted = fit(OVERTRAINED, points[quantity].to_numpy(), C=points["C"].to_numpy(), M=points["M"].to_numpy())
    return fitted, fitted.predict(C=at["C"].to_numpy(), M=at["M"].to_numpy())


def _at_tokens(points: pd.DataFrame, quantity: str, at: pd.DataFrame) -> tuple[Fit, Any]:
    """Fit and predict with Chinchilla's law, which has two exponents."""
    N, D = points["parameters"].to_numpy(), points["tokens"].to_numpy()
    fitted = fit(CHINCHILLA, points[quantity].to_numpy(), N=N, D=D)
    return fitted, fitted.predict(N=at["parameters"].to_numpy(), D=at["tokens"].to_numpy())


def _name(run: "pd.Series[Any]") -> str:
    return f"without {run['model']} at M = {run['M']:g}"


def _note(fitted: Fit) -> str:
    if fitted.df == 0:
        return f"{fitted.points} points for {len(fitted.values)} parameters leave no degrees of freedom"
    return ""


def errors_of(runs: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return the error quantities of those `names` (without prefix) that the runs have."""
    known = set(runs["quantity"])
    return [ERROR_PREFIX + name for name in names if ERROR_PREFIX + name in known]
