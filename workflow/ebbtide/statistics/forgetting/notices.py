"""Notices of forgetting: what was not followed, and what was chosen by default."""

import pandas as pd

from ebbtide.notices import Notice, listed
from ebbtide.statistics.forgetting.history import NO_BINARY


def notices(summary: pd.DataFrame, streak: int | None) -> list[Notice]:
    """Return what readers of the table of `summarise_histories` should know, one notice per reason.

    `streak` is `forgetting.streak`. Metrics that are followed by default are in the notices of the alarms.
    """
    without, followed = summary[summary["streak"].isna()], summary[summary["streak"].notna()]
    none = without["note"].astype(str).str.contains(NO_BINARY, regex=False)
    found = [
        _notice("not_compared", of, f"{_capital(str(why))} ({_places(of)}).")
        for why, of in without[~none].groupby("note", sort=False)
        if of["task"].notna().all()
    ]
    if none.any():
        tasks = without.loc[none, "task"].unique()
        text = (
            f"No forgetting of {listed(tasks)}, which {'has' if len(tasks) == 1 else 'have'} no 0/1 metric."
        )
        found.append(_notice("not_compared", without[none], text))
    if streak is None:
        chosen = " or ".join(str(int(used)) for used in sorted(followed["streak"].unique()))
        text = f"Examples are learned and forgotten by a streak of {chosen}, the default."
        if len(followed):
            found.append(_notice("defaulted", followed, text, "Set forgetting.streak to choose it."))
    else:
        short = followed[followed["streak"] < streak]
        for used, of in short.groupby("streak"):
            text = (
                f"Examples are forgotten by a streak of {used:g} instead of {streak}, because a streak is at "
                f"most half of the trained checkpoints ({_places(of)})."
            )
            found.append(_notice("defaulted", of, text, "Lower forgetting.streak, or add checkpoints."))
    return found


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _notice(kind: str, rows: pd.DataFrame, detail: str, remedy: str = "") -> Notice:
    models, tasks = rows["model"].unique(), rows["task"].unique()
    return Notice(
        "note",
        kind,
        detail,
        remedy,
        model=str(models[0]) if len(models) == 1 else "",
        task=str(tasks[0]) if len(tasks) == 1 else "",
        count=len(rows),
    )


def _places(rows: pd.DataFrame) -> str:
    """Return the number of rows and the first of them."""
    first = rows.iloc[0]
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{first['model']} on {first['task']}{more}"
