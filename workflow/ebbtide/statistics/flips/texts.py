"""The texts of examples: the prompt without few-shot examples, choices, right choices and groups."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.examples import GROUP
from ebbtide.tables import REQUESTS, read_footer, read_frame

MOST_CHARACTERS = 2000  # of a prompt (its end) and of a choice (its beginning)
_HARNESS_SEPARATOR = "\n\n"


def read_texts(requests: Iterable[str | Path]) -> pd.DataFrame:
    """Return the texts of a task from its requests, of which imported samples may have several tables.

    Returns
    -------
    One row per example, which is the index, as text.

    prompt
        The context without few-shot examples, if they can be told apart (`asked_of`); its last
        `MOST_CHARACTERS` characters.
    shots
        Number of few-shot examples before it; missing if unknown.
    characters_before
        Number of characters of the context before `prompt`.
    choices, right
        Lists: the beginning of each continuation, and the indices of the right ones.
    group_{name}
        The level of each group.

    Raises `CellError` for a file that is missing or damaged.
    """
    parts = [_texts(read_frame(path, REQUESTS), read_footer(path, REQUESTS)) for path in requests]
    if not parts:
        return pd.DataFrame(columns=["prompt", "shots", "characters_before", "choices", "right"])
    table = pd.concat(parts)
    return table[~table.index.duplicated()].astype({"shots": "Int64"})


def groups_of(texts: pd.DataFrame) -> pd.DataFrame:
    """Return the level of each group, a column per group, by example."""
    return texts.filter(regex=f"^{GROUP}").rename(columns=lambda name: name.removeprefix(GROUP))


def _texts(requests: pd.DataFrame, footer: Mapping[str, Any]) -> pd.DataFrame:
    rows = requests[requests["role"] == "choice"] if "role" in requests else requests
    rows = rows.assign(example=rows["example"].astype(str)).sort_values(["example", "choice"], kind="stable")
    shots, separator, prefix = few_shot_of(footer)
    by_example = rows.groupby("example", sort=False)
    contexts = by_example["context"].first()
    asked = [asked_of(context, shots, separator, prefix)[-MOST_CHARACTERS:] for context in contexts]
    invert = bool(footer.get("definition", {}).get("invert", False))
    is_right = (rows["gold"] > 0) != invert if "gold" in rows else pd.Series(False, rows.index)
    is_right &= rows["continuation"] != ""  # after the prompts of generated texts there is nothing
    right = [np.flatnonzero(of).tolist() for _, of in is_right.groupby(rows["example"], sort=False)]
    table = pd.DataFrame(
        {
            "prompt": asked,
            "shots": pd.array([shots] * len(asked), dtype="Int64"),
            "characters_before": [len(c) - len(a) for c, a in zip(contexts, asked, strict=True)],
            "choices": by_example["continuation"].agg(lambda of: [t[:MOST_CHARACTERS] for t in of if t]),
            "right": right,
        },
        index=contexts.index,
    )
    return table.join(by_example[[name for name in map(str, rows) if name.startswith(GROUP)]].first())


def few_shot_of(footer: Mapping[str, Any]) -> tuple[int | None, str, str]:
    """Return the number of few-shot examples of a frozen task, what follows each, and a fixed text instead.

    The number is None if it is unknown, as in a fixed text and in imported samples.
    """
    if footer.get("lm_eval"):
        record = footer["lm_eval"]
        separator = (record.get("config") or {}).get("fewshot_delimiter", _HARNESS_SEPARATOR)
        return int(record.get("num_fewshot") or 0), str(separator), ""
    few_shot = footer.get("definition", {}).get("few_shot")
    if few_shot and "prefix" in few_shot:
        return None, "", few_shot["prefix"] + few_shot["separator"]
    if few_shot:
        return int(few_shot["k"]), few_shot["separator"], ""
    return (0 if "identity" in footer and "imported" not in footer else None), "", ""


def asked_of(context: str, shots: int | None, separator: str, prefix: str) -> str:
    """Return the end of a context, without its few-shot examples.

    Prompts may contain the separator, too: the parts between separators must divide evenly among the
    prompt and the shots before it. Otherwise the context is returned as it is.
    """
    if prefix:
        return context.removeprefix(prefix)
    if not shots or not separator:
        return context
    parts = context.split(separator)
    each, rest = divmod(len(parts), shots + 1)
    return context if rest else separator.join(parts[-each:])
