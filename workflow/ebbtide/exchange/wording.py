"""Lists and numbers of things in a sentence."""

from collections.abc import Collection, Iterable

_LISTED = 3  # names in a sentence


def listed(names: Iterable[object]) -> str:
    """Return the first names, and how many more there are."""
    texts = list(map(str, names))
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more


def counted(things: Collection[object], noun: str) -> str:
    """Return the number of things with their noun: `1 file`, `2 files`."""
    return f"{len(things)} {noun}{'s' if len(things) != 1 else ''}"
