"""Held-out text for the loss per token: documents of a mixture that no model was trained on."""

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from ebbtide.corpus.documents import documents
from ebbtide.corpus.draw import Draw
from ebbtide.corpus.words import END_OF_TEXT
from ebbtide.corpus.world import World

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = "held_out"


def held_out_texts(world: World, mixture: Mapping[str, float], count: int, seed: int) -> list[str]:
    """Return `count` documents as texts, each followed by the end-of-text token.

    A model reads an end-of-text token before each document and predicts every word and the end of the
    document. These are the predictions of training, and those that the entropy of the source counts.

    The documents come from a random stream that no training run uses. Short texts (facts, sums, proverbs)
    recur in this language. They are not removed, so they are as frequent here as in training.
    """
    endless = documents(world, mixture, Draw(HELD_OUT, seed))
    return [" ".join((*words, END_OF_TEXT)) for words in islice(endless, count)]


def held_out_requests(world: World, mixture: Mapping[str, float], count: int, seed: int) -> "pd.DataFrame":
    """The texts of `held_out_texts` as requests: one row per document, without context."""
    import pandas as pd

    texts = held_out_texts(world, mixture, count, seed)
    columns = {"example": [str(i) for i in range(count)], "choice": 0, "context": "", "continuation": texts}
    return pd.DataFrame({**columns, "gold": True}).astype({"choice": "int64", "gold": "bool"})
