"""Flipped examples of the page: by pair of checkpoints, those that lost most margin first."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.report.page.numbers import rounded
from ebbtide.statistics.alarms.alarms import SEVERITIES

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
    most = _most(flips)
    by_pair = most.groupby(list(PAIR), sort=False).indices
    found, size, left = [], 0, 0
    for pair in _worst_first(pairs).to_dict("records"):
        rows = most.iloc[by_pair.get(tuple(pair[name] for name in PAIR), [])]
        examples = [_example(row) for row in rows.to_dict("records")] if size < MOST_BYTES else []
        left += len(rows) > 0 and not examples
        size += sum(len(str(example)) for example in examples)
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


def _worst_first(pairs: pd.DataFrame) -> pd.DataFrame:
    if "severity" not in pairs:
        return pairs
    rank = pairs["severity"].map({name: -i for i, name in enumerate(SEVERITIES)})
    order = pd.DataFrame({"rank": rank, "lost": -pairs["lost"]}).sort_values(["rank", "lost"], kind="stable")
    return pairs.loc[order.index]


def _most(flips: pd.DataFrame) -> pd.DataFrame:
    """Return the examples that changed most in each pair and direction, those that got worse first."""
    kept = flips[flips["rank"] <= MOST_EXAMPLES]
    better = ~kept["flip"].isin(("lost", "worse"))
    order = pd.DataFrame({"better": better, "rank": kept["rank"]}).sort_values(
        ["better", "rank"], kind="stable"
    )
    return kept.loc[order.index]


def _example(row: Mapping[Any, Any]) -> dict[str, Any]:
    prompt = _text(row["prompt"])
    return {
        "example": _text(row["example"]),
        "flip": row["flip"],
        "prompt": prompt if len(prompt) <= MOST_CHARACTERS else f"…{prompt[-MOST_CHARACTERS:]}",
        "shots": _whole(row.get("shots")),
        "choices": [
            text if len(text) <= MOST_CHOICE else f"{text[:MOST_CHOICE]}…"
            for text in _list(row.get("choices"))
        ],
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
