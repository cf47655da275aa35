"""Independent check of a cell: score some examples again with transformers in float64, one at a time.

It shares only the encoding with the engine's fast path: no trie, no chunks, and not our own decoder.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ebbtide.checkpoints.configuration import configuration, context_window
from ebbtide.scoring.encoding import encode
from ebbtide.scoring.exact import in_float64, load_exact
from ebbtide.scoring.fitting import PARTS, with_kept
from ebbtide.scoring.padded import score_padded
from ebbtide.scoring.scorer import Counters
from ebbtide.scoring.tokenizer import load_tokenizer
from ebbtide.tables import REQUESTS, read_parquet

# Differences that rounding explains, by precision of the cell: nats per request, plus a share of its
# log-likelihood. They are generous, because a cell beyond them is not used.
ROUNDING = {
    "float64": (0.001, 1e-5),
    "float32": (0.1, 0.001),
    "bfloat16": (1.0, 0.1),
    "float16": (1.0, 0.1),
}


def largest_difference(
    directory: str | Path,
    requests: str | Path,
    rows: pa.Table,
    *,
    examples: int,
    dtype: str,
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
    dtype
        Precision of the cell.

    Returns
    -------
    `examples`, `requests`, `largest_difference` (nats, of a request's log-likelihood), `worst` (the request
    that has it), and `beyond_rounding` (the number of requests whose difference exceeds `ROUNDING`).
    """
    model = load_exact(directory)
    table = read_parquet(requests, REQUESTS, foreign=True)
    names = table.column("example").to_pylist()
    distinct = list(dict.fromkeys(names))
    drawn = set(random.Random(0).sample(distinct, min(examples, len(distinct))))
    chosen = [row for row, name in enumerate(names) if name in drawn]
    texts = {name: table.column(name).to_pylist() for name in ("context", "continuation")}
    contexts = _as_scored(texts["context"], table, rows)
    encoded = encode(
        load_tokenizer(directory, tokenizer),
        [contexts[row] for row in chosen],
        [texts["continuation"][row] for row in chosen],
        [f"{requests}: example {names[row]}" for row in chosen],
        encoding=encoding,
        bos=bos,
        truncation=truncation,
        window=max_length or context_window(configuration(directory)),
        vocabulary=int(model.get_input_embeddings().num_embeddings),
    )
    found, exact = rows.column("loglikelihood").to_pylist(), []
    with in_float64():
        for i in range(len(encoded)):
            [scores] = score_padded(model, encoded[i : i + 1], Counters())
            exact.append(sum(scores.loglikelihoods))
    differences = [abs(found[row] - value) for row, value in zip(chosen, exact, strict=True)]
    worst = max(range(len(chosen)), key=differences.__getitem__)
    choice = table.column("choice")[chosen[worst]].as_py()
    return {
        "examples": len(drawn),
        "requests": len(chosen),
        "largest_difference": differences[worst],
        "worst": f"example {names[chosen[worst]]}, choice {choice}",
        "beyond_rounding": _beyond_rounding(differences, exact, dtype),
    }


def _as_scored(contexts: list[str], table: pa.Table, rows: pa.Table) -> list[str]:
    """The contexts that the cell was scored with: those of the requests, with the parts that were kept."""
    if PARTS not in table.column_names:
        return contexts
    offsets, kept = table.column(PARTS).to_pylist(), rows.column(PARTS).to_pylist()
    return [with_kept(*of_row) for of_row in zip(contexts, offsets, kept, strict=True)]


def _beyond_rounding(differences: Sequence[float], exact: Sequence[float], dtype: str) -> int:
    least, share = ROUNDING[dtype]
    return sum(d > least + share * abs(value) for d, value in zip(differences, exact, strict=True))
