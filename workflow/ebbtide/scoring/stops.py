"""Where an answer ends: would the model stop after a completion, if it generated greedily?

A generated answer ends where its text has the stop, whatever its tokens: after `143`, a model may write the
token of two line breaks where the text of the task has one. So a request of the role `stop` asks whether the
model's argmax after the completion is *any* token whose text begins with the stop, or the end token.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ebbtide.errors import ScoringError
from ebbtide.scoring.encoded import Requests

if TYPE_CHECKING:
    from ebbtide.scoring.scorer import Scores
    from ebbtide.scoring.tokenizer import Tokenizer

STOP = "stop"  # the role of such requests


@dataclass(frozen=True, eq=False)
class Stops:
    """The requests of the role `stop`, and the tokens with which the model would stop."""

    rows: np.ndarray  # (R,) bool
    tokens: np.ndarray  # (K,) int64, ascending

    def greedy(self, scores: "Scores", greedy: np.ndarray) -> np.ndarray:
        """Whether each request is the model's argmax (R,); `greedy` says so for those of other roles."""
        if scores.best is None:
            raise ValueError("scores without the argmax")
        ends = np.isin(scores.best[scores.bounds[:-1]], self.tokens)
        return np.where(self.rows, ends, greedy)


def stops_of(
    table: pa.Table, requests: Requests, tokenizer: "Tokenizer", vocabulary: int, source: object
) -> Stops | None:
    """Return the stops of a table of requests from the file `source`; None if it has none.

    Raises `ScoringError` for requests with different stops.
    """
    if "role" not in table.column_names:
        return None
    rows = np.array([role == STOP for role in table.column("role").to_pylist()], dtype=bool)
    if not rows.any():
        return None
    texts = sorted(set(table.filter(pa.array(rows)).column("continuation").to_pylist()))
    if len(texts) > 1:
        raise ScoringError(f"{source}: found the stops {texts[0]!r} and {texts[1]!r}, allowed: one.")
    # Its first token as encoded counts even if its text alone is another, such as without the space before.
    first = set(requests.continuations[requests.scored_bounds[:-1]][rows].tolist())
    backend = tokenizer.backend
    size = min(vocabulary, backend.get_vocab_size(with_added_tokens=True))
    words = backend.decode_batch([[i] for i in range(size)], skip_special_tokens=False)
    first |= {i for i, word in enumerate(words) if word.startswith(texts[0])}
    if tokenizer.eos is not None:
        first.add(tokenizer.eos)
    return Stops(rows, np.array(sorted(first), dtype=np.int64))
