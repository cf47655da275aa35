"""What the ratings tell, in sentences, for the summary, the page and the notices."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ebbtide.notices import Notice, listed


def rating_sentences(ratings: pd.DataFrame, laws: pd.DataFrame) -> list[str]:
    """Return for each task the smallest error of the last checkpoints, beside the item mean, and its law."""
    found = []
    for task, rows in ratings.groupby("task", sort=False):
        last = rows.drop_duplicates("model", keep="last")
        best = last.sort_values("rmse").iloc[0]
        than = ""
        if pd.notna(best["item_mean"]):
            which = "below" if best["high"] < best["item_mean"] else "above"
            if best["low"] <= best["item_mean"] <= best["high"]:
                which = "not told apart from"
            than = f", {which} that of the item mean ({best['item_mean']:.3f})"
        found.append(
            f"{task}: the smallest RMSE is {best['rmse']:.3f} ({best['low']:.3f} to {best['high']:.3f}), of "
            f"{best['model']}{than}."
        )
        found += [_law(row) for row in laws[laws["task"] == task].to_dict("records")]
    return found


def notices(ratings: pd.DataFrame, laws: pd.DataFrame) -> Iterator[Notice]:
    """Yield what readers should know of baselines and laws that are missing."""
    yield from _without_baselines(ratings)
    for row in laws.fillna({"note": "", "reason": ""}).to_dict("records"):
        if row["note"]:
            yield Notice("note", "not_compared", f"RMSE over sizes: {row['note']}.", task=str(row["task"]))
        if row["reason"]:
            refusal = _refusal(row)
            yield Notice("note", "not_compared", f"{refusal[0].upper()}{refusal[1:]}", task=str(row["task"]))


def _without_baselines(ratings: pd.DataFrame) -> Iterator[Notice]:
    """Yield a notice of tasks without a baseline of training ratings."""
    tasks = ratings[ratings["item_mean"].isna()]["task"].unique().tolist()
    if tasks:
        yield Notice(
            "note",
            "not_compared",
            f"The item mean of training ratings is unknown for {listed(tasks)}.",
            "Add fields.baselines.item_mean to the task.",
            count=len(tasks),
        )


def _law(row: Mapping[Any, Any]) -> str:
    if row["reason"] and pd.notna(row["reason"]):
        return f"{row['task']}: {_refusal(row)}"
    law = f"RMSE falls as N^-{row['b']:.3g} ({row['b_low']:.3g} to {row['b_high']:.3g})"
    ends = f"{row['crossing_low']:.2g} to {row['crossing_high']:.2g}"
    return (
        f"{row['task']}: {law} over {row['sizes']} sizes, and would reach {row['target_rmse']:g} at "
        f"{row['crossing']:.2g} parameters ({ends})."
    )


def _refusal(row: Mapping[Any, Any]) -> str:
    return f"the size at which RMSE would reach {row['target_rmse']:g} is not given: {row['reason']}."
