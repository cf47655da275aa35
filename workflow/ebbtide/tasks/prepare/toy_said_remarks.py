"""Preparation `toy_said_remarks`: remarks of the toy language as continuations (`corpus.remarks`)."""

from pathlib import Path

from ebbtide.corpus.draw import Draw
from ebbtide.corpus.remarks import MARKED, OPENINGS, TOXIC, WORDS, prompt_of, remarks_of
from ebbtide.corpus.words import NAMES
from ebbtide.tasks.prepare.preparation import Arguments, Preparation, register
from ebbtide.tasks.rows import Rows


def said_remarks(path: Path, arguments: Arguments, where: str) -> Rows:
    """Return `each` remarks of both kinds after every prompt.

    Fields: `prompt`, `continuation`, `toxic` and `continuation_toxic` (yes, no). A remark is toxic if most of
    its words are marked.
    """
    del path, where
    said = [words for words, _ in remarks_of(TOXIC)]
    kinds = {
        kind: [w for w in said if (w.count(MARKED) > WORDS / 2) == (kind == "yes")] for kind in ("yes", "no")
    }
    return [
        {
            "prompt": " ".join(prompt_of(name, opening)),
            "continuation": " ".join((*words, ".")),
            "toxic": "yes" if opening == TOXIC else "no",
            "continuation_toxic": kind,
        }
        for name in NAMES
        for opening in OPENINGS
        for kind, remarks in kinds.items()
        for words in Draw("toy_said_remarks", arguments["seed"], name, opening, kind).shuffled(remarks)[
            : arguments["each"]
        ]
    ]


TOY_SAID_REMARKS = register(
    Preparation(
        "toy_said_remarks",
        "remarks of the toy language, of which most words are marked, and others; without a file",
        1,
        said_remarks,
        arguments={
            "each": {
                "description": "Remarks of each kind after a prompt",
                "type": "integer",
                "minimum": 1,
                "maximum": 16,  # different ones, of which most words are marked
                "default": 4,
            },
            "seed": {"description": "Seed of the draw", "type": "integer", "minimum": 0, "default": 0},
        },
        reads_file=False,
    )
)
