"""The gate in lines for the terminal."""

from collections.abc import Iterator

from ebbtide.report.gate import words
from ebbtide.report.gate.gate import Gate
from ebbtide.report.gate.words import MOST_LINES
from ebbtide.statistics.alarms.alarms import SEVERITIES

_WIDTH = max(len(name) for name in (*SEVERITIES, "allowed"))


def lines(gate: Gate) -> list[str]:
    """Return a line per drop, worst first; counts; detectable drops; what was not compared, and why."""
    return [words.printable(line) for line in _lines(gate)]


def _lines(gate: Gate) -> Iterator[str]:
    for drop in gate.drops[:MOST_LINES]:
        where = f"{drop.label:<{_WIDTH}}  {drop.task}  {drop.model}  {drop.checkpoint}"
        yield f"{where}: {words.drop_text(drop)}"
    if len(gate.drops) > MOST_LINES:
        yield f"… and {len(gate.drops) - MOST_LINES} more, none more severe"
    yield words.counts(gate)
    yield from map(words.detectable, gate.detectable)
    left = gate.not_compared
    yield from (f"Not compared: {words.not_compared(item)}" for item in left[:MOST_LINES])
    if len(left) > MOST_LINES:
        yield f"… and {len(left) - MOST_LINES} more in not_compared.tsv"
