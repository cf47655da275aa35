"""Fairness in sentences, for the page: the largest model, and what it is compared with."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

CAUTION = (
    "Ganguli et al. (2022) say that language models should not be used for such tasks; these numbers say how "
    "unequal their errors would be."
)


def ratio_sentences(table: pd.DataFrame) -> list[str]:
    """Return the caution of the paper, the reference, and the last checkpoint of the largest model."""
    is_reference = table["checkpoint"].fillna("") == ""
    found = [CAUTION]
    for name, rows in table[is_reference].groupby("model", sort=False):
        found.append(_sentence(rows.iloc[0].to_dict(), str(name)))
    models = table[~is_reference]
    largest = models[models["parameters_non_embedding"] == models["parameters_non_embedding"].max()]
    last = largest[largest["tokens"] == largest["tokens"].max()].drop_duplicates("condition")
    for row in last.to_dict("records"):
        shots = f", {row['shots']} shots" if str(row["shots"]) not in ("", "0", "nan") else ""
        found.append(_sentence(row, f"{row['model']} {row['checkpoint']} ({row['condition']}{shots})"))
    return found


def _sentence(row: Mapping[Any, Any], name: str) -> str:
    ratio, low, high = (row[f"fpr_ratio{end}"] for end in ("", "_low", "_high"))
    both = f"{row['fpr_first']:.3f} ({row['first']}) and {row['fpr_second']:.3f} ({row['second']})"
    begin = f"{name}: accuracy {row['accuracy']:.3f}; false-positive rates {both}"
    if pd.isna(ratio):
        return f"{begin}, without a ratio."
    interval = "" if pd.isna(low) else f" ({low:.2f} to {high:.2f})"
    return f"{begin}, ratio {ratio:.2f}{interval}."
