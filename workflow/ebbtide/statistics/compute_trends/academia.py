"""The share of academia among models over time: LOWESS of a 0/1 response."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.nonparametric.smoothers_lowess import lowess

from ebbtide.statistics.compute_trends.models import used, years_of

COLUMNS = ("date", "rule", "share", "iterations")
FIRST_LISTED, NO_INDUSTRY = "first listed", "no industry"
ACADEMIA, INDUSTRY = "Academia", "Industry"
FEWEST = 10  # models


def shares(models: pd.DataFrame, fraction: float, iterations: Sequence[int]) -> pd.DataFrame:
    """Smooth 1[the model is from academia] over time by LOWESS (Cleveland 1979).

    A model is from academia by the rule `first listed` if its first category is Academia, and by the rule
    `no industry` if Industry is not among its categories. A local line is fitted to the nearest `fraction` of
    the models with tricube weights. Robustness iterations then lower the weights of models far from it.
    Of a 0/1 response, these are those of the minority, so the share may be pulled to 0 or 1: compare with 0
    iterations.

    Parameters
    ----------
    models
        Rows of `models.COLUMNS`.
    fraction
        Share of the models in each neighbourhood, 0 to 1.
    iterations
        Numbers of robustness iterations, a curve each.

    Returns
    -------
    One row per rule, number of iterations and first day of a month from the first to the last model:
    `COLUMNS`. Empty with fewer than `FEWEST` models or less than a month between them.
    """
    rows = used(models)
    days = _months(rows) if len(rows) >= FEWEST else pd.Series(dtype="datetime64[ns]")
    if days.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    at = years_of(days).to_numpy(float)
    curves = [
        pd.DataFrame(
            {
                "date": days.dt.strftime("%Y-%m-%d"),
                "rule": rule,
                "share": _smooth(rows["years"].to_numpy(float), response, at, fraction, count),
                "iterations": count,
            }
        )
        for rule, response in _responses(rows).items()
        for count in iterations
    ]
    return pd.concat(curves, ignore_index=True)[list(COLUMNS)]


def collapsed(table: pd.DataFrame, least: float = 0.1) -> Iterator[Mapping[Any, Any]]:
    """Yield the month of each curve where robustness iterations move it most, if by `least` or more.

    `rule, iterations, date, share`, and `plain`, the share of the same rule without iterations.
    """
    plain = table[table["iterations"] == 0].set_index(["rule", "date"])["share"].rename("plain")
    joined = table[table["iterations"] > 0].join(plain, on=["rule", "date"])
    for _, curve in joined.dropna().groupby(["rule", "iterations"], sort=False):
        moved = (curve["share"] - curve["plain"]).abs().to_numpy()
        worst = curve.iloc[int(moved.argmax())]
        if abs(worst["share"] - worst["plain"]) >= least:
            yield worst.to_dict()


def _responses(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    listed = rows["categories"].str.split(",").map(lambda names: [name.strip() for name in names])
    return {
        FIRST_LISTED: (rows["sector"] == ACADEMIA).to_numpy(float),
        NO_INDUSTRY: np.array([INDUSTRY not in names for names in listed], dtype=float),
    }


def _months(rows: pd.DataFrame) -> pd.Series:
    days = pd.to_datetime(rows["date"])
    return pd.Series(pd.date_range(days.min(), days.max(), freq="MS"))


def _smooth(x: np.ndarray, y: np.ndarray, at: np.ndarray, fraction: float, iterations: int) -> np.ndarray:
    fitted: np.ndarray = lowess(y, x, frac=fraction, it=iterations, delta=0.0, xvals=at)
    return fitted
