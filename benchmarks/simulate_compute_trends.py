"""Does the interval of a doubling time cover it? Coverage for tables of models whose spread grows.

    python benchmarks/simulate_compute_trends.py --draws 1500

The true doubling time is 6 months. `least_squares` is the same line with equal variances.
"""

import argparse

import numpy as np
import pandas as pd
import statsmodels.api as sm

from ebbtide.statistics.compute_trends.growth import MONTHS, growth
from ebbtide.statistics.compute_trends.models import COLUMNS, years_of

DOUBLING = 6.0  # months
SIZES = (12, 30, 100, 250)


def made_up(rng: np.random.Generator, n: int, slope: float) -> pd.DataFrame:
    """Models over ten years whose compute grows by `slope` decades a year; their spread grows threefold."""
    days = np.sort(rng.integers(0, 3652, n))
    spread = 0.7 + 1.4 * days / 3652
    decades = 16 + slope * days / 365.25 + spread * rng.standard_normal(n)
    dates = pd.Timestamp("2012-01-01") + pd.to_timedelta(days, unit="D")
    rows = pd.DataFrame({"date": dates.strftime("%Y-%m-%d"), "flops": 10**decades})
    return rows.assign(sector="Industry", categories="Industry", model="m", reason="").reindex(
        columns=list(COLUMNS), fill_value=""
    )


def covers(models: pd.DataFrame) -> bool:
    """Whether the interval of the doubling time of all models contains the true one; no end is infinity."""
    row = growth(models).iloc[0]
    low, high = (float(row[f"doubling_months_{end}"]) for end in ("low", "high"))
    return low <= DOUBLING <= (np.inf if np.isnan(high) else high)


def covers_by_least_squares(models: pd.DataFrame) -> bool:
    """The same of the slope, with errors of equal variances."""
    years, decades = years_of(models["date"]).to_numpy(float), np.log10(models["flops"].to_numpy(float))
    low, high = sm.OLS(decades, sm.add_constant(years)).fit().conf_int()[1]
    return bool(low <= MONTHS / DOUBLING <= high)


def simulate_compute_trends(draws: int) -> pd.DataFrame:
    """One row per number of models: coverage, nominal 0.95."""
    rows = []
    for n in SIZES:
        rng = np.random.default_rng(n)
        tables = [made_up(rng, n, MONTHS / DOUBLING) for _ in range(draws)]
        rows.append(
            {
                "models": n,
                "coverage": np.mean([covers(table) for table in tables]),
                "least_squares": np.mean([covers_by_least_squares(table) for table in tables]),
                "draws": draws,
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    rates = simulate_compute_trends(parser.parse_args().draws)
    print(rates.to_csv(sep="\t", index=False, float_format="%.3g"))
