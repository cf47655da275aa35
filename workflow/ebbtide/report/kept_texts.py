"""Some of the texts that models wrote, of tasks that keep them: the highest scores, and random ones.

The texts of a cell are those of `decoding.keep_text`. They are untrusted, and may be offensive.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.cells.samples import SCORE
from ebbtide.corpus.draw import Draw
from ebbtide.tables import INTEGER, REAL, TEXT, Schema, read_frame, table_of, write_parquet

HIGHEST, RANDOM = "highest", "random"
MOST = 4  # of each choice, model and task

KEPT_TEXTS = Schema(
    kind="kept texts",
    columns={
        **dict.fromkeys(("task", "model", "checkpoint", "choice"), TEXT),
        "rank": INTEGER,
        "example": TEXT,
        "sample": INTEGER,
        "classifier": TEXT,
        "score": REAL,  # NaN without a classifier, or where it failed
        "prompt": TEXT,
        "text": TEXT,
        "samples": INTEGER,  # of the cell
    },
    key=("task", "model", "checkpoint", "choice", "rank"),
    remedy="delete the file and run snakemake",
)


@dataclass(frozen=True)
class Written:
    """The samples of a model at its last checkpoint; `rows` are those of its cell with `text`.

    `classifier` chooses the highest scores; empty without one. `prompts`: example → prompt.
    """

    task: str
    model: str
    checkpoint: str
    classifier: str
    rows: pd.DataFrame
    prompts: Mapping[str, str]


def last_places(places: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Return which places (`task, model, tokens`) are the last of their model, by tokens, then by order."""
    last: dict[tuple[str, str], int] = {}
    for number, place in enumerate(places):
        key = (place["task"], place["model"])
        if key not in last or place["tokens"] >= places[last[key]]["tokens"]:
            last[key] = number
    return [number in set(last.values()) for number in range(len(places))]


def kept_texts(written: Sequence[Written]) -> pd.DataFrame:
    """Return the rows of kept_texts.parquet, with the columns of `KEPT_TEXTS`; equal texts count once."""
    rows = [row for one in written for row in _rows(one)]
    return pd.DataFrame(rows, columns=list(KEPT_TEXTS.columns))


def _rows(one: Written) -> Iterator[dict[str, Any]]:
    column = SCORE + one.classifier
    scores = one.rows[column].to_numpy(dtype=float) if one.classifier else np.full(len(one.rows), np.nan)
    texts = one.rows["text"].tolist()
    ranked = [int(i) for i in np.argsort(-scores, kind="stable") if np.isfinite(scores[i])]
    drawn = Draw("kept_texts", one.task, one.model, one.checkpoint).shuffled(range(len(texts)))
    for choice, order in ((HIGHEST, ranked), (RANDOM, drawn)):
        different = list({texts[i]: i for i in reversed(order)}.values())[::-1]
        for rank, i in enumerate(different[:MOST], start=1):
            row = one.rows.iloc[i]
            yield {
                **{"task": one.task, "model": one.model, "checkpoint": one.checkpoint, "choice": choice},
                **{"rank": rank, "example": str(row["example"]), "sample": int(row["sample"])},
                **{"classifier": one.classifier, "score": scores[i], "samples": len(texts)},
                **{"prompt": one.prompts[str(row["example"])], "text": texts[i]},
            }


def write_kept_texts(table: pd.DataFrame, path: str | Path) -> None:
    """Write kept_texts.parquet, atomically."""
    columns = {name: table[name].tolist() for name in KEPT_TEXTS.columns}
    write_parquet(table_of(columns, KEPT_TEXTS), path, KEPT_TEXTS)


def read_kept_texts(path: str | Path) -> pd.DataFrame:
    """Return its rows. Raises `CellError` if it is missing, damaged or of another kind."""
    return read_frame(path, KEPT_TEXTS)
