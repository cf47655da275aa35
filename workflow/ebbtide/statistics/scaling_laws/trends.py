"""Scaling exponents at each M, prediction error against compute of the fit, and curves for figures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from ebbtide.errors import ScalingError
from ebbtide.statistics.compute import compute
from ebbtide.statistics.scaling_laws.laws import OVERTRAINED_FITTED
from ebbtide.statistics.scaling_laws.overtraining import TrainSet, fit_error, fit_loss
from ebbtide.statistics.scaling_laws.predictions import out_of_range, relative_error

EXPONENTS = ("train_set", "M", "E", "lambda", "eta", "stderr", "points", "note")
TRADEOFF = (
    *("train_set", "model", "M", "quantity", "fit_compute", "points"),
    *("predicted", "actual", "relative_error", "published", "note"),
)
CURVES = ("train_set", "M", "C", "loss", "quantity", "law", "value", "note")
MIN_RUNS = 3  # runs at one M, for a slope with a standard error


def exponents(train_sets: Sequence[TrainSet]) -> pd.DataFrame:
    """Estimate η at each M, with one E per train set. Eq. 4 assumes that η is the same for all M.

    For a given E, ln(L − E) = ln λ − η ln C is a line per M. E minimises the squared errors of the losses
    over the M of the fit and above. Only M with at least three runs among the models of the fit are used.
    Columns: train_set, M, E, lambda, eta, stderr, points, note.
    """
    rows: list[dict[str, Any]] = []
    for train_set in train_sets:
        small = train_set.runs[train_set.runs["model"].isin(train_set.loss_points["model"])]
        groups = [(M, g) for M, g in small.groupby("M") if len(g) >= MIN_RUNS]
        if not groups:
            note = f"no M has {MIN_RUNS} runs"
            rows.append({"train_set": train_set.name, "note": note})
            continue
        least = train_set.loss_points["M"].min()
        ceiling = min(g[train_set.chain].min() for _, g in groups)

        def scatter(
            E: float, groups: list[Any] = groups, chain: str = train_set.chain, least: float = least
        ) -> float:
            return sum(_line(g, chain, E)[3] for M, g in groups if least <= M)

        E = float(minimize_scalar(scatter, bounds=(0.0, 0.99 * ceiling), method="bounded").x)
        for M, group in groups:
            slope, intercept, stderr, _ = _line(group, train_set.chain, E)
            rows.append(
                {
                    "train_set": train_set.name,
                    "M": M,
                    "E": E,
                    "lambda": float(np.exp(intercept)),
                    "eta": -slope,
                    "stderr": stderr,
                    "points": len(group),
                    "note": "",
                }
            )
    return pd.DataFrame(rows, columns=list(EXPONENTS))


def tradeoff(train_sets: Sequence[TrainSet], errors: Sequence[str]) -> pd.DataFrame:
    """Relative error on the runs beyond the fit, for fits of increasing compute.

    A fit with budget c uses all runs with C ≤ c, from the fewest runs that Eq. 4 can be fitted to, up to all
    runs cheaper than the predicted one. Columns: train_set, model, M, quantity, fit_compute, points,
    predicted, actual, relative_error, published (whether it is the study's own fit), note. Errors are
    predicted by Eq. 5.
    """
    rows: list[dict[str, Any]] = []
    for train_set in train_sets:
        runs = train_set.runs.sort_values("C")
        beyond = runs[runs["C"] > train_set.error_points["C"].max()]
        least = len(OVERTRAINED_FITTED.parameters) + 1
        budgets = [(runs.iloc[:n], runs.iloc[:n], False) for n in range(least, len(runs))]
        budgets.append((train_set.loss_points, train_set.error_points, True))
        for points, error_points, own in budgets:
            targets = beyond[beyond["C"] > points["C"].max()]
            try:
                start = [list(train_set.fitted(train_set.chain).values.values())]
                loss = fit_loss(points, train_set.chain, starts=start)
                losses = loss.predict(N=targets["parameters"].to_numpy(), M=targets["M"].to_numpy())
                without = ""
            except ScalingError as error:
                losses, without = np.full(len(targets), np.nan), error.args[0]
            for quantity in (train_set.chain, *errors):
                values, note = losses, without
                if quantity != train_set.chain:
                    try:
                        near = [list(train_set.fitted(quantity).values.values())]
                        law = fit_error(error_points, quantity, train_set.chain, starts=near)
                        values = law.predict(L=losses)
                    except ScalingError as error:
                        values, note = np.full(len(targets), np.nan), error.args[0]
                actual = targets[quantity].to_numpy()
                table = targets[["train_set", "model", "M"]].assign(
                    quantity=quantity,
                    fit_compute=(points if quantity == train_set.chain else error_points)["C"].sum(),
                    points=len(points),
                    predicted=values,
                    actual=actual,
                    relative_error=relative_error(values, actual),
                    published=own,
                    note=[note or text for text in out_of_range(quantity, values, actual)],
                )
                rows += table.to_dict("records")
    return pd.DataFrame(rows, columns=list(TRADEOFF))


def curves(train_sets: Sequence[TrainSet], errors: Sequence[str], points: int = 60) -> pd.DataFrame:
    """Return curves for figures in long form, columns `CURVES`; errors are also drawn against `loss`.

    One curve per M and law over the compute range of all runs: Eq. 4, and for errors Eq. 5 and the bounded
    law. `points` is the number of points per curve. Train sets without a fitted law of the loss have no
    curves.
    """
    tables = []
    for train_set in train_sets:
        if train_set.chain in train_set.failed:
            continue
        low, high = np.log10(train_set.runs["C"].min()), np.log10(train_set.runs["C"].max())
        C = np.logspace(low - 0.1, high + 0.3, points)
        for M in sorted(train_set.runs["M"].unique()):
            loss = train_set.fits[train_set.chain].predict(N=np.sqrt(C / compute(1, M)), M=np.full(points, M))
            place = {"train_set": train_set.name, "M": M, "C": C, "loss": loss}
            for quantity in (train_set.chain, *errors):
                for law, fitted in train_set.laws(quantity).items():
                    if isinstance(fitted, str):
                        continue
                    value = loss if quantity == train_set.chain else fitted.predict(L=loss)
                    note = out_of_range(quantity, value, np.nan)
                    line = {**place, "quantity": quantity, "law": law, "value": value, "note": note}
                    tables.append(pd.DataFrame(line))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(CURVES))


def _line(group: pd.DataFrame, chain: str, E: float) -> tuple[float, float, float, float]:
    """Return slope, intercept and standard error of ln(L − E) on ln C, and the squared error of losses."""
    x, y = np.log(group["C"].to_numpy()), np.log(group[chain].to_numpy() - E)
    slope, intercept = np.polyfit(x, y, 1)
    squares = float(np.sum((y - intercept - slope * x) ** 2))
    stderr = np.sqrt(squares / (len(x) - 2) / np.sum((x - x.mean()) ** 2))
    misses = group[chain].to_numpy() - E - np.exp(intercept + slope * x)
    return float(slope), float(intercept), float(stderr), float(np.sum(misses**2))
