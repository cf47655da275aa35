"""The examples behind each drop: those that lost most, from the table of flips."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc

from ebbtide.report.gate.gate import Drop, Example
from ebbtide.statistics.flips.changes import DOWN
from ebbtide.statistics.flips.on_disk import FLIPS, PAIR
from ebbtide.tables import read_parquet

PROMPT, CHOICE = 300, 120  # characters: the end of a prompt, the beginning of a choice


class Examples:
    """The examples that got worse, by model, task, metric and pair of checkpoints.

    Parameters
    ----------
    rows
        Rows of flips.parquet.
    most
        Examples of a drop.
    hidden
        Tasks whose texts are offensive: their drops have no examples.
    """

    def __init__(self, rows: pd.DataFrame, most: int, hidden: Collection[str] = ()) -> None:
        shown = rows["flip"].isin(DOWN) & (rows["rank"] <= most) & ~rows["task"].isin(hidden)
        worst = rows[shown].sort_values("rank", kind="stable")
        self._by_pair: dict[tuple[str, ...], list[Mapping[Any, Any]]] = {}
        for row in worst.to_dict("records"):
            self._by_pair.setdefault(tuple(str(row[name]) for name in PAIR), []).append(row)

    def of(self, drop: Drop) -> tuple[Example, ...]:
        """Return the examples that lost most in the worst fall of a drop, those that lost most first."""
        reference = drop.falls[0].reference
        model, other, checkpoint = reference.partition("/")  # a baseline may be of another model
        if not other:
            model, checkpoint = drop.model, reference
        pair = (drop.model, drop.task, drop.metric, model, checkpoint, drop.checkpoint)
        return tuple(_example(row) for row in self._by_pair.get(pair, ()))


def read_worst(path: str | Path, most: int, hidden: Collection[str] = ()) -> Examples:
    """Read the examples that lost most from flips.parquet; see `Examples`.

    Raises `CellError` if it is missing, damaged or of another kind.
    """
    table = read_parquet(path, FLIPS)
    kept = pc.and_(pc.is_in(table["flip"], pc.cast(list(DOWN), "string")), pc.less_equal(table["rank"], most))
    return Examples(table.filter(kept).to_pandas(integer_object_nulls=True), most, hidden)


def _example(row: Mapping[Any, Any]) -> Example:
    choices = [] if row["choices"] is None else [_beginning(text) for text in row["choices"]]
    right = [] if row["right"] is None else [choices[i] for i in row["right"] if i < len(choices)]
    prompt = row["prompt"] or ""
    return Example(
        example=str(row["example"]),
        prompt=prompt[-PROMPT:],
        is_cut=len(prompt) > PROMPT or bool(_real(row["characters_before"])),
        right=tuple(right),
        answer_before=_chosen(choices, row["chosen_before"]),
        answer_after=_chosen(choices, row["chosen_after"]),
        value_before=_real(row["value_before"]),
        value_after=_real(row["value_after"]),
        margin_before=_real(row["margin_before"]),
        margin_after=_real(row["margin_after"]),
    )


def _chosen(choices: "list[str]", index: Any) -> str | None:
    at = _real(index)
    return choices[int(at)] if at is not None and at < len(choices) else None


def _beginning(text: str) -> str:
    return text if len(text) <= CHOICE else f"{text[:CHOICE]}…"


def _real(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
