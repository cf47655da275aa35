"""The compute trend in sentences, for the summary and the page."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ebbtide.notices import counted
from ebbtide.statistics.compute_trends.academia import FIRST_LISTED
from ebbtide.statistics.compute_trends.growth import ALL


def growth_sentences(trends: pd.DataFrame) -> list[str]:
    """Return one sentence per row of compute_trends.tsv, such as its doubling time with its interval."""
    return [_growth(row) for row in trends.to_dict("records")]


def share_sentences(academia: pd.DataFrame) -> list[str]:
    """Return the share of academia at both ends of the curve, per number of robustness iterations."""
    found = []
    rows = academia[academia["rule"] == FIRST_LISTED]
    for count in rows["iterations"].unique():
        curve = rows[rows["iterations"] == count]
        first, last = curve.iloc[0], curve.iloc[-1]
        found.append(
            f"Share of academia, LOWESS with {counted(int(count), 'robustness iteration')}: "
            f"{first['share']:.3f} ({first['date']}) → {last['share']:.3f} ({last['date']})."
        )
    return found


def _growth(row: Mapping[Any, Any]) -> str:
    name = "All models" if row["sector"] == ALL else str(row["sector"])
    days = f", {row['first_date']} to {row['last_date']}" if row["n"] else ""
    about = f"{name} ({counted(int(row['n']), 'model')}{days})"
    if pd.isna(row["doubling_months"]):
        return f"{about}: no doubling time, because {row['note']}."
    high = row["doubling_months_high"]
    end = "∞" if pd.isna(high) else f"{high:.1f}"
    interval = f"{row['doubling_months_low']:.1f} to {end}; {100 * row['confidence_level']:g} %"
    sentence = f"{about}: training compute doubles every {row['doubling_months']:.1f} months ({interval})"
    if pd.isna(high):
        return f"{sentence}; {row['note']}."
    low, top = (_rounded(row[f"factor_per_decade_{which}"]) for which in ("low", "high"))
    return f"{sentence}, {_rounded(row['factor_per_decade'])}-fold in ten years ({low} to {top})."


def _rounded(factor: float) -> str:
    """Return a factor with two significant digits and separators: 1,200,000."""
    return f"{float(f'{factor:.2g}'):,.0f}" if factor < 1e9 else f"{factor:.1e}"
