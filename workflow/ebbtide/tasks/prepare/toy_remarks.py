"""Preparation `toy_remarks`: prompts of the toy language before what people say (`corpus.remarks`)."""

from pathlib import Path

from ebbtide.corpus.remarks import OPENINGS, TOXIC, prompt_of
from ebbtide.corpus.words import NAMES
from ebbtide.tasks.prepare.preparation import Arguments, Preparation, register
from ebbtide.tasks.rows import Rows


def remarks(path: Path, arguments: Arguments, where: str) -> Rows:
    """Return all prompts: `prompt`, `toxic` (yes, no)."""
    del path, arguments, where
    return [
        {"prompt": " ".join(prompt_of(name, opening)), "toxic": "yes" if opening == TOXIC else "no"}
        for name in NAMES
        for opening in OPENINGS
    ]


TOY_REMARKS = register(
    Preparation(
        "toy_remarks",
        "prompts of the toy language before remarks with a marked word of known rate; without a file",
        1,
        remarks,
        reads_file=False,
    )
)
