"""Flips in words, for the terminal, as TSV and as JSON."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ebbtide.metrics.direction import unit_of
from ebbtide.metrics.examples import GROUP
from ebbtide.notices import counted
from ebbtide.statistics.flips.answers import is_right_or_wrong
from ebbtide.statistics.flips.changes import DOWN
from ebbtide.statistics.flips.on_disk import PAIR
from ebbtide.statistics.flips.tables import FlipTables

MOST_CHOICES = 8
MOST_LINES = 12  # of a prompt: its end
_INDENT = "   "
_LISTS = ("right", "probability_before", "probability_after", "choices")
_TITLES = {
    "lost": "right → wrong",
    "gained": "wrong → right",
    "worse": "got worse",
    "better": "got better",
}


def lines(tables: FlipTables, limit: int, width: int) -> list[str]:
    """Return the flips of every pair: counts, groups, and at most `limit` examples in each direction.

    No line has more than `width` characters, but for single long words, or a control character.
    """
    found: list[str] = []
    by_pair = dict(iter(tables.examples.groupby(list(PAIR), sort=False)))
    for pair in tables.pairs.to_dict("records"):
        rows = by_pair.get(tuple(pair[name] for name in PAIR), tables.examples.iloc[:0])
        found += [*_heading(pair), ""]
        for flip, of_flip in rows.groupby("flip", sort=False):
            shown = of_flip.head(limit)
            for row in shown.to_dict("records"):
                found += [*_example(row, _TITLES[str(flip)], width), ""]
            total = pair["lost" if flip in DOWN else "gained"]
            if total > len(shown):
                found += [f"… and {total - len(shown)} more: {_TITLES[str(flip)]} (--limit {total}).", ""]
    return [wrapped for line in found for wrapped in _wrapped(line, width)][:-1]


def as_json(tables: FlipTables) -> str:
    """Return all tables as one JSON object with the keys `pairs`, `groups` and `examples`."""
    named = {"pairs": tables.pairs, "groups": tables.groups, "examples": tables.examples}
    return json.dumps({name: _records(table) for name, table in named.items()}, indent=1)


def as_sheet(examples: pd.DataFrame) -> pd.DataFrame:
    """Return the examples with lists as JSON, and visible line breaks and control characters."""
    table = examples.assign(
        **{name: [_json(value) for value in examples[name]] for name in _LISTS if name in examples}
    )
    texts = [name for name in map(str, table) if not pd.api.types.is_numeric_dtype(table[name])]
    return table.assign(**{name: [_visible(value, "⏎") for value in table[name]] for name in texts})


def _heading(pair: Mapping[Any, Any]) -> Iterator[str]:
    where = f"{pair['model']} {pair['from']} → {pair['to']}"
    if pair["from_model"] != pair["model"]:
        where = f"{pair['from_model']} {pair['from']} → {pair['model']} {pair['to']}"
    values = f"{pair['from_value']:.3g} → {pair['to_value']:.3g}"
    yield f"{pair['task']}, {pair['metric']}: {where}: {values}"
    yield f"{pair['sentence']}."
    if pair["groups"]:
        yield f"Of these, {_visible(pair['groups'])}."
    if pair["note"]:
        yield f"Note: {_visible(pair['note'])}."


def _example(row: Mapping[Any, Any], title: str, width: int) -> Iterator[str]:
    levels = [
        f"{name.removeprefix(GROUP)}={_visible(value)}"
        for name, value in row.items()
        if str(name).startswith(GROUP) and _is_known(value)
    ]
    parts = [f"{row['rank']}. {title}: example {_visible(row['example'])}", *levels, *_sizes(row)]
    if _is_known(row.get("other_models")) and row["other_models"]:
        parts.append(f"also in {row['also_flipped']} of {counted(int(row['other_models']), 'other model')}")
    yield ", ".join(parts)
    yield from _prompt(row, width)
    yield from _choices(row)


def _sizes(row: Mapping[Any, Any]) -> Iterator[str]:
    if not is_right_or_wrong(row["metric"]):
        values = f"{row['value_before']:.4g} → {row['value_after']:.4g}"
        yield f"{row['metric']} {values} {unit_of(row['metric'])}".rstrip()
    elif _is_known(row["margin_lost"]):
        yield f"margin {row['margin_before']:+.3g} → {row['margin_after']:+.3g}"


def _prompt(row: Mapping[Any, Any], width: int) -> Iterator[str]:
    """Yield the last lines of the prompt, and what of the context is not printed."""
    wrapped = [
        part
        for line in row["prompt"].split("\n")
        for part in textwrap.wrap(_visible(line), width - len(_INDENT)) or [""]
    ]
    last = wrapped[-MOST_LINES:]
    shots, before = row["shots"], row["characters_before"]
    hidden = [f"{shots} few-shot examples"] if _is_known(shots) and shots else []
    if _is_known(before) and before:
        hidden.append(f"{before} characters of the context")
    if len(last) < len(wrapped):
        hidden.append(f"{len(wrapped) - len(last)} lines of the prompt")
    if hidden:
        yield f"{_INDENT}[before this: {', '.join(hidden)}]"
    yield from (f"{_INDENT}{line}" for line in last)


def _choices(row: Mapping[Any, Any]) -> Iterator[str]:
    texts, right = row["choices"], row["right"]
    if not _is_list(texts):
        yield f"{_INDENT}[the texts of this example are not known]"
        return
    probabilities = [row["probability_before"], row["probability_after"]]
    if not all(map(_is_list, probabilities)):
        marked = enumerate(texts) if len(texts) == 1 else ((i, t) for i, t in enumerate(texts) if i in right)
        yield from (f"{_INDENT}{'right: ' if len(texts) > 1 else ''}{_quoted(text)}" for _, text in marked)
        return
    before, after = probabilities
    chosen = row["chosen_before"], row["chosen_after"]
    order = sorted(
        range(len(texts)), key=lambda i: (i not in right, i not in chosen, -max(before[i], after[i]), i)
    )
    for i in sorted(order[:MOST_CHOICES]):
        marks = [name for name, at in zip(("before", "after"), chosen, strict=True) if at == i]
        answered = f"answer {' and '.join(marks)}" if marks else ""
        yield (
            f"{_INDENT}{before[i]:.3f} → {after[i]:.3f}  {'right' if i in right else '     '}  "
            f"{answered:<23}  {_quoted(texts[i])}".rstrip()
        )
    if len(texts) > MOST_CHOICES:
        yield f"{_INDENT}… and {len(texts) - MOST_CHOICES} more choices"


def _quoted(text: str) -> str:
    return f'"{_visible(text)}"'


def _wrapped(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) or 2)
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False)


def _visible(value: Any, line_break: str = "\\n") -> Any:
    """Return a text without characters that a terminal would run or a sheet would break at."""
    if not isinstance(value, str):
        return value
    return "".join(
        c if c.isprintable() else line_break if c == "\n" else repr(c)[1:-1]
        for c in value.replace("\r\n", "\n")
    )


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.astype(object).to_dict("records")
    return [{str(name): _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if _is_list(value):
        return list(value)
    return None if not _is_known(value) else value.item() if hasattr(value, "item") else value


def _json(value: Any) -> str:
    return json.dumps(list(value), ensure_ascii=False) if _is_list(value) else ""


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_known(value: Any) -> bool:
    return value is not None and not bool(pd.isna(value))
