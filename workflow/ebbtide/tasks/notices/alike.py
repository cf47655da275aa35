"""Examples that repeat others, choices that start alike, and right choices at one position."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ebbtide.tasks.notices.table import Finding, Table

if TYPE_CHECKING:
    from ebbtide.scoring.tokenizer import Tokenizer

ENOUGH = 3  # examples whose right choice is at one position by more than chance


def alike(table: Table, tokenizer: "Tokenizer | None") -> Iterator[Finding]:
    """Examples that repeat others, and choices that cannot be told apart by their beginnings."""
    if not table.generated:  # a generator of the toy language decides how often a text occurs
        yield from _repetitions(table)
    if table.kind.gold == "all":
        return
    starts = _first_tokens(table, tokenizer) if tokenizer is not None else _first_words(table)
    equal, prefixes, alike = [], [], []
    for rows in table.rows.values():
        texts = [table.continuations[row].strip() for row in rows]
        if len(set(texts)) < len(texts):
            equal.append(_first_repeated(rows, texts))
        elif (nested := _first_prefix(rows, texts)) is not None:
            prefixes.append(nested)
        if (same := _starts_like_right(rows, starts, table.gold)) is not None:
            alike.append(same)
    yield from table.finding(
        equal,
        "have two choices with the same text, apart from white space around it",
        "warning",
        "duplicated",
        "Remove one of them in the data.",
    )
    yield from table.finding(
        prefixes,
        "have a choice that begins with another one, which sums of log-likelihoods favour",
        "note",
        "text",
        "Compare accuracy with accuracy_per_byte, or end every choice with a full stop or line break.",
    )
    unit = "token" if tokenizer is not None else "word"
    yield from table.finding(
        alike,
        f"have a wrong choice that begins with the same {unit} as the right one",
        "note",
        "text",
        "Do not judge these by their first token; if all choices begin alike, move that to the prompt.",
    )
    yield from _positions(table)


def _repetitions(table: Table) -> Iterator[Finding]:
    """Examples that are equal to an earlier one in full, or only in their context."""
    seen: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    contexts: set[str] = set()
    equal: list[int] = []
    contradicting: list[int] = []
    shared: list[int] = []
    for rows in table.rows.values():
        if not rows:
            continue
        pairs = [(table.contexts[row], table.continuations[row]) for row in rows]
        key, gold = _sorted(rows, pairs, table.gold)
        context = table.contexts[rows[0]]
        if key in seen:
            (equal if seen[key] == gold else contradicting).append(rows[0])
        elif context in contexts:
            shared.append(rows[0])
        seen.setdefault(key, gold)
        if context:
            contexts.add(context)
    remedy = "Remove the repeated rows from the data."
    yield from table.finding(
        equal, "repeat an earlier example, and count again", "note", "duplicated", remedy
    )
    yield from table.finding(
        contradicting,
        "repeat an earlier example with another right choice",
        "warning",
        "duplicated",
        "Correct the right choice in the data, or remove the repeated rows.",
    )
    if table.kind.gold != "all" and not table.kind.roles:  # minimal pairs share contexts
        yield from table.finding(
            shared,
            "have the context of an earlier example, with other choices",
            "note",
            "duplicated",
            "If they are about one question, name it in cluster: their answers are not independent.",
        )


def _sorted(
    rows: Sequence[int], pairs: Sequence[tuple[str, str]], gold: Sequence[Any] | None
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the requests of an example in a fixed order, and the gold of each."""
    order = sorted(range(len(rows)), key=lambda index: pairs[index])
    right = tuple(float(gold[rows[index]]) for index in order) if gold is not None else ()
    return tuple(pairs[index] for index in order), right


def _first_repeated(rows: Sequence[int], texts: Sequence[str]) -> int:
    return next(row for row, text in zip(rows, texts, strict=True) if texts.count(text) > 1)


def _first_prefix(rows: Sequence[int], texts: Sequence[str]) -> int | None:
    """Return the first row whose text begins with the text of another row."""
    for row, text in zip(rows, texts, strict=True):
        if any(other and text != other and text.startswith(other) for other in texts):
            return row
    return None


def _starts_like_right(rows: Sequence[int], starts: Sequence[Any], gold: Sequence[Any] | None) -> int | None:
    """Return the first row of a wrong choice that starts like a right one."""
    if gold is None:
        return None
    right = {starts[row] for row in rows if gold[row]}
    return next((row for row in rows if not gold[row] and starts[row] in right), None)


def _first_words(table: Table) -> list[Any]:
    return [(text.split(maxsplit=1) or [""])[0] for text in table.continuations]


def _first_tokens(table: Table, tokenizer: "Tokenizer") -> list[Any]:
    return [ids[0] if ids else None for ids in tokenizer.ids(table.continuations)]


def _positions(table: Table) -> Iterator[Finding]:
    """The right choice is at the same position in every example."""
    marks = table.best if table.best is not None else table.gold
    if table.kind.gold != "choices" or marks is None:
        return
    places, numbers = set(), []
    for rows in table.rows.values():
        weights = [float(marks[row]) for row in rows]
        if len(rows) > 1 and max(weights) > 0:
            places.add(weights.index(max(weights)))
            numbers.append(rows[weights.index(max(weights))])
    if len(places) == 1 and len(numbers) >= ENOUGH:
        yield from table.finding(
            numbers,
            f"have their right choice at position {places.pop()}",
            "warning",
            "suspicious",
            "Shuffle the choices of each row: where choices tie, the first one counts as the answer.",
        )
