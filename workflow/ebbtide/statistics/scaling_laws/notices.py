"""Notices of scaling laws: predictions out of range, and quantities without a prediction."""

import pandas as pd

from ebbtide.notices import Notice, listed
from ebbtide.statistics.scaling_laws.laws import ERROR_SIGMOID
from ebbtide.statistics.scaling_laws.predictions import out_of_range
from ebbtide.statistics.scaling_laws.runs import LOSS_PREFIX


def notices(predictions: pd.DataFrame) -> list[Notice]:
    """Return what readers of the table `overtraining.predictions` should know.

    At most one notice per train set, law and reason.
    """
    found = []
    for (train_set, law), rows in predictions.groupby(["train_set", "law"], sort=False):
        found += _out_of_range(str(train_set), str(law), rows)
        missing = rows[rows["predicted"].isna()]
        for why, without in missing.groupby("note", sort=False):
            reason = str(why).removesuffix(".")
            found.append(
                Notice(
                    "note",
                    "not_compared",
                    f"{train_set}: {_quantities(without)} not predicted by the law {law}: {reason}.",
                    "Add runs to scaling_laws.fit, or for errors to scaling_laws.error_fit_adds.",
                    count=len(without),
                )
            )
    return found


def _out_of_range(train_set: str, law: str, rows: pd.DataFrame) -> list[Notice]:
    texts = [
        out_of_range(quantity, predicted, actual)[0]
        for quantity, predicted, actual in zip(
            rows["quantity"], rows["predicted"], rows["actual"], strict=True
        )
    ]
    wrong = rows.assign(text=texts)
    wrong = wrong[wrong["text"] != ""]
    if wrong.empty:
        return []
    first = wrong.iloc[0]
    of_loss = first["quantity"].startswith(LOSS_PREFIX)
    return [
        Notice(
            "warning",
            "out_of_range",
            f"{train_set}: {len(wrong)} of {len(rows)} predictions by the law {law} are impossible; the "
            f"first is {first['quantity']} of {first['model']} at M = {first['M']:g}: {first['text']}.",
            "Look at the verdicts in fits.tsv, and add runs to scaling_laws.fit."
            if of_loss
            else f"Read the rows of the law {ERROR_SIGMOID.name} in predictions.tsv, which stays in 0 to 1.",
            count=len(wrong),
        )
    ]


def _quantities(rows: pd.DataFrame) -> str:
    names = list(rows["quantity"].unique())
    return f"{listed(names)} of {rows['model'].nunique()} runs"
