"""Held-out text: documents of a mixture that no model has been trained on, for the loss per token."""

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
    """`count` documents as texts, each with the end-of-text token behind it.

    A model reads the end-of-text token before a document, where the one before it ended, and is asked for
    every word and for the end: what it is asked for in training, and what the source's entropy counts. No
    training stream has the random choices of these documents. That short texts recur (a fact, a sum, a
    proverb) is the language's nature; none is left out, so they recur here as often as anywhere.
    """
    endless = documents(world, mixture, Draw(HELD_OUT, seed))
    return [" ".join((*words, END_OF_TEXT)) for words in islice(endless, count)]


def held_out_requests(world: World, mixture: Mapping[str, float], count: int, seed: int) -> "pd.DataFrame":
    """The same as requests: a row per document, without context."""
    import pandas as pd

    texts = held_out_texts(world, mixture, count, seed)
    columns = {"example": [str(i) for i in range(count)], "choice": 0, "context": "", "continuation": texts}
    return pd.DataFrame({**columns, "gold": True}).astype({"choice": "int64", "gold": "bool"})
