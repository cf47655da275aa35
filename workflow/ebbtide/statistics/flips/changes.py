"""Compare the answers of two checkpoints, example by example, and by groups of examples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.metrics.direction import sign_of
from ebbtide.metrics.of_cell import MAX_LEVELS
from ebbtide.statistics.flips.answers import Answers, is_right_or_wrong

LOST, GAINED = "lost", "gained"  # right, then wrong; wrong, then right
WORSE, BETTER = "worse", "better"  # of metrics that are not 0 or 1
DOWN = (LOST, WORSE)
GROUPS = ("group", "level", "n", "right_before", "lost", "gained", "lost_expected")
NAMED = 3  # most levels that `in_words` names


def changes(before: Answers, after: Answers) -> pd.DataFrame:
    """Compare two checkpoints on the examples that the metric counts.

    Returns
    -------
    One row per example, in the order of both, with its position in them as index.

    example, flip
        `flip` is `lost` (right, then wrong), `gained` or empty; of metrics that are not 0 or 1, `worse`,
        `better` or empty.
    right_before
        Whether the example can be lost: it was right before, or the metric is not 0 or 1.
    value_before, value_after
        The metric of the example.
    margin_before, margin_after, margin_lost
        See `Answers.margins`; `margin_lost` is before minus after, above 0 for a worse answer.
    chosen_before, chosen_after
        Index of the choice; missing without choices.

    Raises
    ------
    CellError
        The two have different examples.
    """
    if not np.array_equal(before.examples, after.examples):
        raise CellError(
            f"{before.metric}: the two checkpoints have different examples ({len(before.examples)} and "
            f"{len(after.examples)}); score both with the same task."
        )
    down, up = (LOST, GAINED) if is_right_or_wrong(before.metric) else (WORSE, BETTER)
    sign = sign_of(before.metric)
    rise = sign * (after.values - before.values)
    table = pd.DataFrame(
        {
            "example": before.examples,
            "flip": np.select([rise < 0, rise > 0], [down, up], ""),
            "right_before": (before.values == max(sign, 0)) | (down == WORSE),
            "value_before": before.values,
            "value_after": after.values,
            "margin_before": before.margins,
            "margin_after": after.margins,
            "margin_lost": before.margins - after.margins,
            "chosen_before": _chosen(before),
            "chosen_after": _chosen(after),
        }
    )
    counted: pd.DataFrame = table[~np.isnan(rise)]
    return counted


def _chosen(answers: Answers) -> pd.Series:
    return pd.Series(np.where(answers.chosen < 0, np.nan, answers.chosen)).astype("Int64")


def largest(table: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """Return the rows of `changes` that changed: worse ones first, by margin lost; then better ones.

    At most `most` in each direction, those that changed most; None is all. Equal ones are in the order of
    their names, and those of unknown margin last.
    """
    worse, better = table["flip"].isin(DOWN), table["flip"].isin((GAINED, BETTER))
    parts = [
        rows.sort_values("example", kind="stable").sort_values(
            "margin_lost", ascending=ascending, kind="stable", na_position="last"
        )
        for rows, ascending in ((table[worse], False), (table[better], True))
    ]
    return pd.concat([rows if most is None else rows.head(most) for rows in parts])


def counts(table: pd.DataFrame) -> dict[str, int]:
    """Return the number of examples `n`, and of those that were lost (or worse) and gained (or better)."""
    worse = int(table["flip"].isin(DOWN).sum())
    return {"n": len(table), "lost": worse, "gained": int((table["flip"] != "").sum()) - worse}


def by_group(table: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """Count what was lost and gained in every level of every group.

    Parameters
    ----------
    table
        Rows of `changes`.
    levels
        Level of each group, a column per group, by example; missing for examples without one.

    Returns
    -------
    One row per group and level, columns `GROUPS`, those with the most lost examples first. `right_before` is
    the number of examples that could be lost.
    `lost_expected` is the number lost in the level if each of them were equally likely to be lost. Groups
    with one level, or more than `MAX_LEVELS`, are left out (`too_many_levels`).
    """
    at_risk = table["right_before"].to_numpy()
    lost = table["flip"].isin(DOWN).to_numpy()
    gained = table["flip"].isin((GAINED, BETTER)).to_numpy()
    rows = []
    for group in levels:
        texts = levels[group].reindex(table["example"]).astype("string")
        names = sorted(texts.dropna().unique())
        if not 2 <= len(names) <= MAX_LEVELS:
            continue
        has = texts.notna().to_numpy()
        share = lost[has].sum() / max(at_risk[has].sum(), 1)
        own = [
            {
                "group": str(group),
                "level": name,
                "n": int(inside.sum()),
                "right_before": int(at_risk[inside].sum()),
                "lost": int(lost[inside].sum()),
                "gained": int(gained[inside].sum()),
                "lost_expected": float(share * at_risk[inside].sum()),
            }
            for name, inside in ((name, (texts == name).fillna(False).to_numpy(bool)) for name in names)
        ]
        rows += sorted(own, key=lambda row: (-row["lost"], row["level"]))
    return pd.DataFrame(rows, columns=list(GROUPS))


def too_many_levels(levels: pd.DataFrame) -> list[str]:
    """Return the groups that `by_group` leaves out because of their number of levels."""
    return [str(group) for group in levels if levels[group].nunique() > MAX_LEVELS]


def in_words(groups: pd.DataFrame) -> str:
    """Say in which levels the lost examples are: `12 of 16 in country=France, Japan (40 of 200 examples)`.

    Named are the fewest levels with two thirds of the lost examples, among those that lost more than
    expected. A group without at most `NAMED` such levels is `spread over N levels of NAME`. Empty if
    nothing was lost.
    """
    parts = []
    for group, rows in groups.groupby("group", sort=False):
        total, above = int(rows["lost"].sum()), rows[rows["lost"] > rows["lost_expected"]]
        if not total:
            continue
        enough = above["lost"].cumsum() >= total * 2 / 3
        named = above.iloc[: int(np.argmax(enough)) + 1] if enough.any() else above
        if not enough.any() or len(named) > NAMED:
            parts.append(f"spread over {int((rows['lost'] > 0).sum())} levels of {group}")
            continue
        size, of = int(named["n"].sum()), int(rows["n"].sum())
        names = ", ".join(named["level"])
        parts.append(f"{int(named['lost'].sum())} of {total} in {group}={names} ({size} of {of} examples)")
    return "; ".join(parts)


def sentence(counted: Mapping[str, Any], metric: str) -> str:
    """Say how many examples changed: `16 of 200 examples went from right to wrong, 4 from wrong to right`."""
    if is_right_or_wrong(metric):
        lost, gained = "went from right to wrong", "from wrong to right"
    else:
        lost, gained = f"got worse in {metric}", "got better"
    noun = "example" if counted["n"] == 1 else "examples"
    return f"{counted['lost']} of {counted['n']} {noun} {lost}, {counted['gained']} {gained}"
