"""The tasks: choices between two words where habit and instruction agree (facts, sums) or conflict (traps).

In every task, the right and the wrong word have the same distribution, so a model that knows only word
frequencies scores at chance level.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebbtide.corpus.documents import PATTERN_NOUNS
from ebbtide.corpus.draw import Draw
from ebbtide.corpus.words import CATEGORIES, ENTITIES, NUMBERS
from ebbtide.corpus.world import Entity, World
from ebbtide.errors import TaskError

if TYPE_CHECKING:
    import pandas as pd

# Draws without a new item after which a task is exhausted; far more than any task needs.
_MAX_DRAWS = 20_000


@dataclass(frozen=True)
class Item:
    """A prompt and two possible continuations of one word."""

    prompt: str
    right: str
    wrong: str


def memo_trap(world: World, draw: Draw) -> Item:
    """Asked to end a proverb with another word, does the model give its usual ending?"""
    saying, other = draw.pick(world.conflicts)
    beginning = " ".join(saying[:-1])
    return Item(f"write a sentence ending with {other[-1]} : {beginning}", other[-1], saying[-1])


def quote_repetition(world: World, draw: Draw) -> Item:
    """Asked to repeat a proverb with a changed ending, does the model repeat or correct it?"""
    saying, other = draw.pick(world.conflicts)
    beginning = " ".join(saying[:-1])
    return Item(f"repeat : {beginning} {other[-1]} ; {beginning}", other[-1], saying[-1])


def pattern_suppression(world: World, draw: Draw) -> Item:
    """Asked to end with a word that breaks a pattern, does the model continue the pattern?"""
    one, other = draw.two(PATTERN_NOUNS)
    turns = " ".join([one, other] * (2 + draw.below(3)))
    return Item(f"write a sentence ending with {one} : {turns} {one}", one, other)


def redefine(world: World, draw: Draw) -> Item:
    """Given a new meaning for a number word, does the model calculate with it?"""
    old, new = draw.two(range(10))
    addend = draw.below(10)
    prompt = f"let {NUMBERS[old]} mean {NUMBERS[new]} . {NUMBERS[old]} plus {NUMBERS[addend]} is"
    return Item(prompt, NUMBERS[new + addend], NUMBERS[old + addend])


def fact_qa(world: World, draw: Draw) -> Item:
    """What is an entity?"""
    (member, category), other = _entity_and_other_category(ENTITIES, draw)
    return Item(f"the {member} is a", category, other)


def arithmetic(world: World, draw: Draw) -> Item:
    """A sum of two digits; the wrong answer is the value of another sum, at most 3 away."""
    while True:
        one, addend, decoy = draw.below(10), draw.below(10), draw.below(10) + draw.below(10)
        if 0 < abs(one + addend - decoy) <= 3:
            return Item(f"{NUMBERS[one]} plus {NUMBERS[addend]} is", NUMBERS[one + addend], NUMBERS[decoy])


def negated_qa(world: World, draw: Draw) -> Item:
    """What is an entity not? Only for entities that have no negated sentence in the corpus."""
    (member, category), other = _entity_and_other_category(world.never_denied, draw)
    return Item(f"the {member} is not a", other, category)


def _entity_and_other_category(entities: tuple[Entity, ...] | list[Entity], draw: Draw) -> tuple[Entity, str]:
    entity = draw.pick(entities)
    return entity, draw.pick([category for category in CATEGORIES if category != entity[1]])


_ITEMS: dict[str, Callable[[World, Draw], Item]] = {
    item.__name__: item
    for item in (memo_trap, quote_repetition, pattern_suppression, redefine, fact_qa, arithmetic, negated_qa)
}
TOY_TASKS: tuple[str, ...] = tuple(_ITEMS)


def toy_requests(task: str, world: World, examples: int, seed: int) -> "pd.DataFrame":
    """Requests of one task: `examples` distinct items with two rows each.

    Columns: example (str, "0", "1", …), choice (int64, 0 or 1), context (str), continuation (str with a
    leading space), gold (bool). The position of the right choice is drawn per example, because ties would
    otherwise favour one position. Every task draws its items in sequence from its own random stream, so
    neither other tasks nor a larger `examples` change an item.

    Raises `TaskError` for an unknown task, a world with too few proverbs, or more examples than distinct
    items.
    """
    import pandas as pd

    if task not in _ITEMS:
        raise TaskError(f"toy task {task!r} is unknown, allowed: {', '.join(TOY_TASKS)}.")
    if task in {"memo_trap", "quote_repetition"} and not world.conflicts:
        raise TaskError(
            f"toy task {task!r} needs two proverbs of which neither contains the other's last word,"
            f" found none; raise world.proverbs ({world.proverbs})."
        )
    draw = Draw("requests", task, seed)
    seen: set[Item] = set()
    rows = []
    for example in range(examples):
        item = _unseen(task, world, draw, seen)
        right = draw.below(2)
        for choice in (0, 1):
            word = item.right if choice == right else item.wrong
            rows.append((str(example), choice, item.prompt, f" {word}", choice == right))
    frame = pd.DataFrame(rows, columns=["example", "choice", "context", "continuation", "gold"])
    return frame.astype({"choice": "int64", "gold": "bool"})


def _unseen(task: str, world: World, draw: Draw, seen: set[Item]) -> Item:
    for _ in range(_MAX_DRAWS):
        item = _ITEMS[task](world, draw)
        if item not in seen:
            seen.add(item)
            return item
    raise TaskError(f"toy task {task!r} has only {len(seen)} different examples; request at most as many.")
