"""White space and tokens at the border of context and continuation, and texts of missing values."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ebbtide.tasks.notices.table import Finding, Table

if TYPE_CHECKING:
    from ebbtide.scoring.tokenizer import Tokenizer

MISSING = ("nan", "None")  # what a missing value became as text
# Characters after which a word may follow at once, such as an opening bracket or a hyphen.
_OPENING = frozenset("([{<«‹“‘„'\"`-–—/\\_#$€£@&*+=~|…¿¡")
_NO_SPACES = ("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")  # scripts without spaces between words


def borders(table: Table) -> Iterator[Finding]:
    """White space between context and continuation: none, or two."""

    def none(row: int) -> bool:
        context, continuation = table.contexts[row], table.continuations[row]
        return bool(context and continuation) and _runs_together(context[-1], continuation[0])

    def two(row: int) -> bool:
        context, continuation = table.contexts[row], table.continuations[row]
        return context[-1:].isspace() and continuation[:1].isspace()

    yield from table.finding(
        table.where(none),
        "have no white space between prompt and choice",
        "warning",
        "text",
        'Begin the choices with a space, or set delimiter: " ".',
    )
    yield from table.finding(
        table.where(two),
        "have white space both at the end of the prompt and at the beginning of the choice",
        "warning",
        "text",
        "Remove one of the two in fields.prompt, fields.choices or delimiter.",
    )


def _runs_together(before: str, after: str) -> bool:
    """Whether two characters at the border look like a missing space."""
    if before.isspace() or not after.isalnum() or before in _OPENING:
        return False
    return not any(_without_spaces(character) for character in (before, after))


def _without_spaces(character: str) -> bool:
    """Whether a character is of a script that has no spaces between words."""
    wide = unicodedata.east_asian_width(character) in "WF"
    return wide or unicodedata.name(character, "").startswith(_NO_SPACES)


def missing_values(table: Table) -> Iterator[Finding]:
    """Texts that are the name of a missing value."""

    def missing(row: int) -> bool:
        if table.kind.needs == "losses":
            return table.continuations[row].strip() in MISSING
        return table.contexts[row].strip() in MISSING

    part = "text" if table.kind.needs == "losses" else "prompt"
    remedy = (
        "If the data has null or NaN there, freeze the task again (delete the frozen file), which refuses "
        "them or, with drop_bad_rows, drops them; if it has this text, remove these rows from the data."
    )
    yield from table.finding(
        table.where(missing), f"have only nan or None as their {part}", "warning", "text", remedy
    )
    for name, levels in table.groups.items():
        yield from table.finding(
            table.where(lambda row, levels=levels: levels[row] == MISSING[0]),  # type: ignore[misc]
            f"have the level nan of {name.removeprefix('group_')}",
            "warning",
            "text",
            remedy,
        )


def tokens_across(table: Table, tokenizer: "Tokenizer") -> Iterator[Finding]:
    """Tokens of the whole text that contain both the end of the context and the beginning of the choice."""
    pairs = list(zip(table.contexts, table.continuations, strict=True))
    across = spanning(tokenizer, pairs)
    yield from table.finding(
        table.where(lambda row: across[row]),
        "have a token across the border of prompt and choice, whose part in the choice is not scored",
        "warning",
        "text",
        "Begin the choices with a space, or set encoding: joint.",
    )


def spanning(tokenizer: "Tokenizer", pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether a token spans the border of each context and continuation, by the rule `harness`.

    It does if the tokens of the whole text do not begin with those of the context.
    """
    kept = [context.rstrip() for context, _ in pairs]
    texts = [context + continuation for context, continuation in pairs]
    alone, whole = tokenizer.ids(kept), tokenizer.ids(texts)
    return [ids != together[: len(ids)] for ids, together in zip(alone, whole, strict=True)]
