"""Notices of flips: examples that are counted but not listed, and answers without choices."""

from collections.abc import Iterator

import pandas as pd

from ebbtide.notices import Notice, counted
from ebbtide.statistics.flips.tables import NO_CHOICES


def notices(pairs: pd.DataFrame) -> Iterator[Notice]:
    """Yield what readers of flips.parquet should know; `pairs` has the rows of flips.tsv."""
    left = (pairs["lost"] - pairs["listed_lost"]) + (pairs["gained"] - pairs["listed_gained"])
    if (left > 0).any():
        worst = pairs.iloc[int(left.to_numpy().argmax())]
        detail = (
            f"flips.parquet lists the examples that changed most and leaves out {int(left.sum())} of "
            f"{int((pairs['lost'] + pairs['gained']).sum())}, in {counted(int((left > 0).sum()), 'pair')} of "
            f"checkpoints (most of {worst['model']} on {worst['task']}); flips.tsv counts all of them."
        )
        yield Notice("note", "dropped", detail, "Raise flips.examples to list more.", count=int(left.sum()))
    imported = pairs["note"].str.contains(NO_CHOICES, regex=False)
    if imported.any():
        number = int(imported.sum())
        detail = (
            f"The flips of {counted(number, 'pair')} of imported checkpoints have no choices: {NO_CHOICES}."
        )
        yield Notice("note", "dropped", detail, count=number)
