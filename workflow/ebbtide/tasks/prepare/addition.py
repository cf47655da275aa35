"""Preparation `addition`: sums of two numbers with a given number of digits, as in Brown et al. (2020).

The numbers are drawn as there: uniformly from 0 to 10^digits - 1. Each question occurs once.
"""

from pathlib import Path

from ebbtide.corpus.draw import Draw
from ebbtide.errors import TaskError
from ebbtide.tasks.prepare.preparation import Arguments, Preparation, register
from ebbtide.tasks.rows import Rows


def sums(path: Path, arguments: Arguments, where: str) -> Rows:
    """Return `count` different questions: `context` (`Q: What is 98 plus 45?`), `completion` (` 143`)."""
    del path
    below, count = 10 ** arguments["digits"], arguments["count"]
    if count > below**2:
        raise TaskError(f"{where}.count: found {count}; there are only {below**2} such sums.")
    draw = Draw("addition", arguments["digits"], arguments["seed"])
    if 2 * count > below**2:
        pairs = [divmod(number, below) for number in draw.shuffled(range(below**2))[:count]]
    else:
        drawn: dict[tuple[int, int], None] = {}
        while len(drawn) < count:
            drawn[draw.below(below), draw.below(below)] = None
        pairs = list(drawn)
    return [{"context": f"Q: What is {a} plus {b}?\n\nA:", "completion": f" {a + b}"} for a, b in pairs]


ADDITION = register(
    Preparation(
        "addition",
        "questions about sums of two numbers, drawn at random; without a file",
        1,
        sums,
        arguments={
            "digits": {
                "description": "Most digits of each number",
                "type": "integer",
                "minimum": 1,
                "maximum": 9,
            },
            "count": {"description": "Number of questions, all different", "type": "integer", "minimum": 1},
            "seed": {"description": "Seed of the draw", "type": "integer", "minimum": 0, "default": 0},
        },
        required=("digits", "count"),
        reads_file=False,
    )
)
