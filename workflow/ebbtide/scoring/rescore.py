"""Independent check of a cell: score some examples again with transformers in float64, one at a time.

It shares only the encoding with the engine's fast path: no trie, no chunks, and not our own decoder.
"""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from ebbtide.checkpoints.directory import configuration, context_window
from ebbtide.scoring.encoding import encode
from ebbtide.scoring.exact import in_float64, load_exact
from ebbtide.scoring.padded import score_padded
from ebbtide.scoring.scorer import Counters
from ebbtide.scoring.tokenizer import load_tokenizer
from ebbtide.tables import REQUESTS, read_parquet


def largest_difference(
    directory: str | Path,
    requests: str | Path,
    rows: pa.Table,
    *,
    examples: int,
    encoding: str,
    bos: str,
    truncation: str,
    max_length: int | None,
    tokenizer: str | Path | None = None,
) -> dict[str, Any]:
    """The largest difference between a cell and float64 scores, on a sample of examples.

    Parameters
    ----------
    directory
        The checkpoint.
    rows
        The cell, in the order of the requests.
    examples
        Size of the sample (at most all examples). The sample is the same every time.
    tokenizer
        Directory of the tokenizer, see `load_scorer`.

    Returns
    -------
    `examples`, `requests`, and `largest_difference` (nats, of a request's log-likelihood).
    """
    model = load_exact(directory)
    table = read_parquet(requests, REQUESTS, foreign=True)
    names = table.column("example").to_pylist()
    distinct = list(dict.fromkeys(names))
    drawn = set(random.Random(0).sample(distinct, min(examples, len(distinct))))
    chosen = [row for row, name in enumerate(names) if name in drawn]
    texts = {name: table.column(name).to_pylist() for name in ("context", "continuation")}
    encoded = encode(
        load_tokenizer(directory, tokenizer),
        [texts["context"][row] for row in chosen],
        [texts["continuation"][row] for row in chosen],
        [f"{requests}: example {names[row]}" for row in chosen],
        encoding=encoding,
        bos=bos,
        truncation=truncation,
        window=max_length or context_window(configuration(directory)),
        vocabulary=int(model.get_input_embeddings().num_embeddings),
    )
    found = rows.column("loglikelihood").to_pylist()
    differences = []
    with in_float64():
        for row, request in zip(chosen, encoded, strict=True):
            [exact] = score_padded(model, [request], Counters())
            differences.append(abs(found[row] - sum(exact.loglikelihoods)))
    return {"examples": len(drawn), "requests": len(chosen), "largest_difference": max(differences)}
