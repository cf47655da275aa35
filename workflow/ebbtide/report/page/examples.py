"""Flipped examples of the page: by pair of checkpoints, those that lost most margin first."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.report.page.numbers import rounded

PAIR = ("model", "task", "metric", "from_model", "from", "to")
MOST_EXAMPLES = 12  # of a pair and direction
MOST_BYTES = 1_000_000  # of texts
MOST_CHARACTERS = 700  # of a prompt, from its end
MOST_CHOICE = 160


def flip_data(flips: pd.DataFrame | None, pairs: pd.DataFrame | None) -> tuple[list[dict[str, Any]], str]:
    """Return pairs with their examples, and a sentence if examples are left out.

    Parameters
    ----------
    flips
        Rows of flips.parquet; None if the study has none.
    pairs
        Rows of flips.tsv: counts and groups of every pair.
    """
    if flips is None or pairs is None or pairs.empty:
        return [], ""
    by_pair = dict(iter(flips.groupby(list(PAIR), sort=False)))
    found, size, left = [], 0, 0
    for pair in pairs.to_dict("records"):
        rows = by_pair.get(tuple(pair[name] for name in PAIR))
        examples = [] if rows is None else [_example(row) for row in _most(rows).to_dict("records")]
        bytes_ = sum(len(str(example)) for example in examples)
        if size + bytes_ > MOST_BYTES:
            left, examples = left + 1, []
        size += bytes_ if examples else 0
        found.append(
            {
                **{name: str(pair[name]) for name in PAIR},
                "lost": int(pair["lost"]),
                "gained": int(pair["gained"]),
                "sentence": _text(pair["sentence"]),
                "groups": _text(pair["groups"]),
                "note": _text(pair["note"]),
                "examples": examples,
            }
        )
    words = f"The texts of {left} pairs are in flips.parquet only, and in `ebbtide flips`." if left else ""
    return found, words


def _most(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the examples that changed most, those that got worse first."""
    worse = rows["flip"].isin(("lost", "worse"))
    parts = [rows[which].nsmallest(MOST_EXAMPLES, "rank") for which in (worse, ~worse)]
    return pd.concat(parts)


def _example(row: Mapping[str, Any]) -> dict[str, Any]:
    prompt = _text(row["prompt"])
    return {
        "example": _text(row["example"]),
        "flip": row["flip"],
        "prompt": prompt if len(prompt) <= MOST_CHARACTERS else f"…{prompt[-MOST_CHARACTERS:]}",
        "shots": _whole(row.get("shots")),
        "choices": [text[:MOST_CHOICE] for text in _list(row.get("choices"))],
        "before": [rounded(p) for p in _list(row.get("probability_before"))],
        "after": [rounded(p) for p in _list(row.get("probability_after"))],
        "said": _whole(row.get("chosen_before")),
        "says": _whole(row.get("chosen_after")),
        "right": [int(i) for i in _list(row.get("right"))],
        "values": [rounded(row.get("value_before")), rounded(row.get("value_after"))],
        "margin_lost": rounded(row.get("margin_lost")),
        "also": _whole(row.get("also_flipped")),
        "others": _whole(row.get("other_models")),
        "groups": {
            str(k).removeprefix("group_"): _text(v) for k, v in row.items() if str(k).startswith("group_")
        },
    }


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, np.ndarray)) else []


def _text(value: Any) -> str:
    return (
        ""
        if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))
        else str(value)
    )


def _whole(value: Any) -> int | None:
    return None if _text(value) == "" else int(value)
