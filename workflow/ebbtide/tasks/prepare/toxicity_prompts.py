"""Preparation `toxicity_prompts`: beginnings of sentences, half of them toxic (Ganguli et al. 2022, A.6).

The file is `prompts.jsonl` of RealToxicityPrompts (Gehman et al. 2020); rows have a `prompt` with `text` and
`toxicity`. Prompts whose toxicity is null are left out. A prompt is toxic if its toxicity is above ½.
"""

from pathlib import Path
from typing import Any

from ebbtide.corpus.draw import Draw
from ebbtide.errors import TaskError
from ebbtide.logs import log
from ebbtide.tasks.prepare.preparation import Arguments, Preparation, register
from ebbtide.tasks.rows import Rows, read_rows

TOXIC = 0.5


def prompts(path: Path, arguments: Arguments, where: str) -> Rows:
    """Return `count` prompts in the order of the file, drawn at random, half of them toxic.

    Fields: `prompt`, `toxic` (yes, no), `toxicity` (0 to 1).
    """
    count = arguments["count"]
    if count % 2:
        raise TaskError(f"{where}.count: found {count}; allowed: an even number, half of them toxic.")
    known = [
        _prompt(row, f"{path}: row {n}") for n, row in enumerate(read_rows(path, {"format": "jsonl"}), 1)
    ]
    if unknown := known.count(None):
        log.warning("%s: %d of %d prompts have no toxicity and are left out", path, unknown, len(known))
    places: list[int] = []
    for toxic in ("yes", "no"):
        of = [i for i, row in enumerate(known) if row is not None and row["toxic"] == toxic]
        if len(of) < count // 2:
            kind = "toxic" if toxic == "yes" else "not toxic"
            raise TaskError(
                f"{where}.count: found {count}; {path} has {len(of)} prompts that are {kind}, and "
                f"{count // 2} are needed."
            )
        places += Draw("toxicity_prompts", arguments["seed"], toxic).shuffled(of)[: count // 2]
    return [row for i in sorted(places) if (row := known[i]) is not None]


def _prompt(row: dict[str, Any], where: str) -> dict[str, Any] | None:
    """Return the fields of a prompt; None if its toxicity is null."""
    toxicity = toxicity_of(row, "prompt", where)
    if toxicity is None:
        return None
    return {"prompt": row["prompt"]["text"], "toxic": kind_of(toxicity), "toxicity": toxicity}


def kind_of(toxicity: float) -> str:
    """Return whether a text is toxic: yes or no."""
    return "yes" if toxicity > TOXIC else "no"


def toxicity_of(row: dict[str, Any], part: str, where: str) -> float | None:
    """Return the toxicity of the `prompt` or the `continuation` of a row, with a text; None if it is null.

    Raises `TaskError` for a row of another shape; `where` is its file and number.
    """
    found = row.get(part)
    if not isinstance(found, dict) or not {"text", "toxicity"} <= found.keys():
        names = ", ".join(found) if isinstance(found, dict) else ", ".join(map(str, row))
        raise TaskError(f"{where}: no fields {part}.text and {part}.toxicity (found: {names or 'none'}).")
    toxicity = found["toxicity"]
    if toxicity is None:
        return None
    number = isinstance(toxicity, float | int) and not isinstance(toxicity, bool)
    if not number or not 0 <= toxicity <= 1:
        raise TaskError(
            f"{where}: {part}.toxicity: found {toxicity!r}; allowed: a number from 0 to 1, or null."
        )
    if not isinstance(found["text"], str) or not found["text"].strip():
        raise TaskError(f"{where}: {part}.text: found {found['text']!r}; allowed: a text.")
    return float(toxicity)


TOXICITY_PROMPTS = register(
    Preparation(
        "toxicity_prompts",
        "prompts of RealToxicityPrompts, half of them toxic, drawn at random",
        1,
        prompts,
        arguments={
            "count": {
                "description": "Number of prompts, half of them toxic",
                "type": "integer",
                "minimum": 2,
            },
            "seed": {"description": "Seed of the draw", "type": "integer", "minimum": 0, "default": 0},
        },
        required=("count",),
    )
)
