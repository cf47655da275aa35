"""Differences between two frozen versions of a task."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.files import digest

if TYPE_CHECKING:
    import pandas as pd

_CONTEXT = 20  # characters on either side of the first difference
_NOT_COMPARED = ("title", "description", "citation", "licence", "include")


@dataclass(frozen=True)
class Change:
    """The first difference in an example that both versions contain."""

    example: str
    choice: int
    column: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Difference:
    """Differences by example id. Examples with equal requests are `same`, even with another id (`moved`)."""

    same: int
    moved: int
    removed: tuple[str, ...]
    added: tuple[str, ...]
    changed: tuple[Change, ...]
    columns: tuple[str, ...] = ()  # in only one of the two

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.moved or self.removed or self.added or self.changed or self.columns)


def diff_requests(before: "pd.DataFrame", after: "pd.DataFrame") -> Difference:
    """Compare two tables of requests.

    Examples with equal requests are paired first, whatever their ids, so that an inserted row is one
    addition. Remaining examples with the same id are reported as changed.
    """
    common = [c for c in before.columns if c in after.columns and c != "example"]
    columns = tuple(sorted(set(before.columns) ^ set(after.columns)))
    old, new = _examples(before, common), _examples(after, common)
    places: dict[str, list[str]] = defaultdict(list)
    for example, rows in reversed(list(new.items())):
        places[digest(rows)].append(example)
    same = moved = 0
    for example, rows in list(old.items()):
        twins = places[digest(rows)]
        if twins:
            twin = twins.pop(twins.index(example) if example in twins else -1)
            same, moved = same + 1, moved + (twin != example)
            del old[example], new[twin]
    changed = tuple(_change(e, old[e], new[e], common) for e in old if e in new)
    return Difference(
        same,
        moved,
        tuple(e for e in old if e not in new),
        tuple(e for e in new if e not in old),
        changed,
        columns,
    )


def diff_files(before: str | Path, after: str | Path, show: int = 5) -> str:
    """Compare two frozen tasks, as text: definition, then requests. Empty if nothing changed.

    Lists at most `show` examples of each sort. Raises `CellError` for a file that is not a frozen task.
    """
    from ebbtide.tables import REQUESTS, read_footer, read_frame

    old, new = (read_footer(path, REQUESTS).get("definition", {}) for path in (before, after))
    lines = [*_definitions(old, new)]
    difference = diff_requests(read_frame(before, REQUESTS), read_frame(after, REQUESTS))
    if difference:
        lines += described(difference, show)
    return "\n".join(lines)


def described(difference: Difference, show: int = 5) -> list[str]:
    """Format a difference as lines of text."""
    d = difference
    lines = [
        f"examples: {d.same} same ({d.moved} with another id), {len(d.changed)} changed, "
        f"{len(d.added)} added, {len(d.removed)} removed"
    ]
    if d.columns:
        lines.append(f"columns in only one: {', '.join(d.columns)}")
    for change in d.changed[:show]:
        one, other = _excerpts(str(change.before), str(change.after))
        lines.append(f"example {change.example}, choice {change.choice}, {change.column}: {one} → {other}")
    for name, examples in (("added", d.added), ("removed", d.removed)):
        if examples:
            more = " …" if len(examples) > show else ""
            lines.append(f"{name}: {', '.join(examples[:show])}{more}")
    return lines


def _examples(requests: "pd.DataFrame", columns: list[str]) -> dict[str, list[list[Any]]]:
    """Return the requests of each example as rows of values, without the id."""
    examples: dict[str, list[list[Any]]] = {}
    plain = {name: [_plain(value) for value in requests[name]] for name in columns}
    values = [list(row) for row in zip(*plain.values(), strict=True)]
    for example, row in zip(requests["example"].astype(str), values, strict=True):
        examples.setdefault(example, []).append(row)
    return examples


def _plain(value: Any) -> Any:
    """A value of a column as Python's own; a list (of offsets) is an array in a frame."""
    return value.tolist() if hasattr(value, "tolist") else value


def _change(example: str, before: list[list[Any]], after: list[list[Any]], columns: list[str]) -> Change:
    at = columns.index("choice")
    for one, other in zip(before, after, strict=False):
        for column, old, new in zip(columns, one, other, strict=True):
            if old != new:
                return Change(example, one[at], column, old, new)
    rows = after if len(after) > len(before) else before
    shorter = min(len(before), len(after))
    return Change(example, rows[shorter][at], "number of requests", len(before), len(after))


def _definitions(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    keys = sorted((before.keys() | after.keys()) - set(_NOT_COMPARED))
    changed = [key for key in keys if before.get(key) != after.get(key)]
    return [f"definition, {key}: {before.get(key, 'none')} → {after.get(key, 'none')}" for key in changed]


def _excerpts(before: str, after: str) -> tuple[str, str]:
    """Return excerpts of both texts around the first difference."""
    pairs = enumerate(zip(before, after, strict=False))
    first = next((i for i, (a, b) in pairs if a != b), min(len(before), len(after)))
    start, end = max(0, first - _CONTEXT), first + _CONTEXT
    return tuple(  # type: ignore[return-value]
        ("…" if start else "") + repr(text[start:end])[1:-1] + ("…" if end < len(text) else "")
        for text in (before, after)
    )
