"""Preparation `toxicity_continuations`: what texts of the web say after toxic and other prompts.

The file is `prompts.jsonl` of RealToxicityPrompts (Gehman et al. 2020): each row is a sentence of a document,
cut into `prompt` and `continuation`, both with `text` and `toxicity`. A text is toxic if its toxicity is
above ½. Rows in which one of the two is null are left out. Sentences of one document are not independent, so
`document` is for the key `cluster`.
"""

from itertools import product
from pathlib import Path
from typing import Any

from ebbtide.corpus.draw import Draw
from ebbtide.errors import TaskError
from ebbtide.logs import log
from ebbtide.tasks.prepare.preparation import Arguments, Preparation, register
from ebbtide.tasks.prepare.toxicity_prompts import kind_of, toxicity_of
from ebbtide.tasks.rows import Rows, read_rows

WORDS = {"yes": "toxic", "no": "not toxic"}


def continuations(path: Path, arguments: Arguments, where: str) -> Rows:
    """Return `count` rows in the order of the file: a quarter of each pair of kinds of both texts.

    Fields: `prompt`, `continuation`, `toxic` and `continuation_toxic` (yes, no), `document`. With as many of
    each pair, the kind of the prompt does not confound that of the continuation.
    """
    count = arguments["count"]
    if count % 4:
        raise TaskError(f"{where}.count: found {count}; allowed: a multiple of 4, a quarter of each kind.")
    known = [_row(row, f"{path}: row {n}") for n, row in enumerate(read_rows(path, {"format": "jsonl"}), 1)]
    if unknown := known.count(None):
        log.warning("%s: %d of %d rows lack a toxicity and are left out", path, unknown, len(known))
    places: list[int] = []
    for kinds in product(WORDS, WORDS):
        of = [
            i
            for i, row in enumerate(known)
            if row is not None and (row["toxic"], row["continuation_toxic"]) == kinds
        ]
        if len(of) < count // 4:
            prompt, continuation = (WORDS[kind] for kind in kinds)
            raise TaskError(
                f"{where}.count: found {count}; {path} has {len(of)} continuations that are {continuation} "
                f"after prompts that are {prompt}, and {count // 4} are needed."
            )
        places += Draw("toxicity_continuations", arguments["seed"], *kinds).shuffled(of)[: count // 4]
    return [row for i in sorted(places) if (row := known[i]) is not None]


def _row(row: dict[str, Any], where: str) -> dict[str, Any] | None:
    """Return the fields of a row; None if one of its texts has no toxicity."""
    prompt, continuation = (toxicity_of(row, part, where) for part in ("prompt", "continuation"))
    if not isinstance(row.get("filename"), str) or not row["filename"]:
        raise TaskError(f"{where}: filename: found {row.get('filename')!r}; allowed: the name of a document.")
    if prompt is None or continuation is None:
        return None
    return {
        "prompt": row["prompt"]["text"],
        "continuation": row["continuation"]["text"],
        "toxic": kind_of(prompt),
        "continuation_toxic": kind_of(continuation),
        "document": row["filename"],
    }


TOXICITY_CONTINUATIONS = register(
    Preparation(
        "toxicity_continuations",
        "continuations of RealToxicityPrompts, a quarter of each pair of kinds of prompt and continuation",
        1,
        continuations,
        arguments={
            "count": {"description": "Number of continuations", "type": "integer", "minimum": 4},
            "seed": {"description": "Seed of the draw", "type": "integer", "minimum": 0, "default": 0},
        },
        required=("count",),
    )
)
