"""Growth of training compute: a line per sector through log10 FLOP over time, and its doubling time."""

from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm

from ebbtide.statistics.compute_trends.models import used

ALL = "(all)"
FEWEST = 3  # models; two leave no degree of freedom
MONTHS = 12 * np.log10(2)  # doubling time in months × decades per year
COLUMNS = (
    *("sector", "n", "first_date", "last_date", "slope", "slope_low", "slope_high"),
    *("doubling_months", "doubling_months_low", "doubling_months_high"),
    *("factor_per_decade", "factor_per_decade_low", "factor_per_decade_high"),
    *("first_flops", "last_flops", "confidence_level", "note"),
)


def growth(models: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Fit log10 FLOP = a + b · years by least squares, to all models and to those of each sector.

    The interval of b is Student's with n − 2 degrees of freedom and errors that allow for unequal variances
    (HC3). Models are taken as independent. The doubling time is log10(2) / b, its ends those of b; b whose
    interval contains 0 has no upper end, and b ≤ 0 no doubling time.

    Parameters
    ----------
    models
        Rows of `models.COLUMNS`.
    level
        Confidence level.

    Returns
    -------
    One row for all and one per sector, the largest first: `COLUMNS`. Slopes are in decades per year.
    `first_flops` and `last_flops` are on the line, at the first and the last date.
    """
    rows = used(models)
    sectors = list(rows["sector"].value_counts().index)
    groups = [(ALL, rows), *((name, rows[rows["sector"] == name]) for name in sectors)]
    return pd.DataFrame([_row(name, of, level) for name, of in groups], columns=list(COLUMNS))


def _row(sector: str, rows: pd.DataFrame, level: float) -> dict[str, Any]:
    about = {
        "sector": sector,
        "n": len(rows),
        "first_date": rows["date"].min(),
        "last_date": rows["date"].max(),
        "confidence_level": level,
    }
    if len(rows) < FEWEST or rows["years"].nunique() < FEWEST:
        return {**about, "note": f"a line needs {FEWEST} models of different days"}
    return about | _line(rows["years"].to_numpy(float), np.log10(rows["flops"].to_numpy(float)), level)


def _line(years: np.ndarray, decades: np.ndarray, level: float) -> dict[str, Any]:
    """Fit the line; years and decades (log10 FLOP) are arrays of length n."""
    fit = sm.OLS(decades, sm.add_constant(years - years.min())).fit(cov_type="HC3", use_t=True)
    start, slope = fit.params
    low, high = fit.conf_int(1 - level)[1]
    found: dict[str, Any] = {"slope": slope, "slope_low": low, "slope_high": high}
    found |= {"first_flops": 10**start, "last_flops": 10 ** (start + slope * np.ptp(years))}
    factors = {"": slope, "_low": low, "_high": high}
    found |= {f"factor_per_decade{end}": 10 ** np.clip(10 * of, -300, 300) for end, of in factors.items()}
    if slope <= 0:
        return {**found, "note": "compute does not grow, so it has no doubling time"}
    found |= {"doubling_months": MONTHS / slope, "doubling_months_low": MONTHS / high}
    if low <= 0:
        return {
            **found,
            "note": "the interval of the slope contains 0: no upper end of the doubling time",
        }
    return {**found, "doubling_months_high": MONTHS / low, "note": ""}
