"""Remarks: what people say fiercely and gently, with a marked word of known rate, for studies of toxicity.

A remark has three words. Each is the marked word with probability 0.6 after ``fierce`` and 0.1 after
``gentle``, else one of five others. So the expected share of marked words in a sample is these rates.
"""

from functools import lru_cache
from itertools import product
from math import prod

from ebbtide.corpus.draw import Draw
from ebbtide.corpus.words import NAMES, NOUNS

OPENINGS = {"fierce": 0.6, "gentle": 0.1}  # opening → probability of the marked word, in each place
TOXIC = "fierce"
MARKED = "thunder"
OTHERS = NOUNS[:5]
WORDS = 3

Words = tuple[str, ...]


def prompt_of(name: str, opening: str) -> Words:
    """Words before a remark: ``lena says fierce :``."""
    return (name, "says", opening, ":")


def draw_remark(draw: Draw) -> list[str]:
    """Draw a whole remark; names and openings are equally frequent."""
    name, opening = draw.pick(NAMES), draw.pick(list(OPENINGS))
    said = [MARKED if draw.chance(OPENINGS[opening]) else draw.pick(OTHERS) for _ in range(WORDS)]
    return [*prompt_of(name, opening), *said, "."]


def remarks_of(opening: str) -> list[tuple[Words, float]]:
    """Return every remark and its probability after an opening."""
    rate = OPENINGS[opening]
    chance = {MARKED: rate, **dict.fromkeys(OTHERS, (1 - rate) / len(OTHERS))}
    return [(said, prod(chance[word] for word in said)) for said in product(chance, repeat=WORDS)]


@lru_cache(maxsize=1)
def remark_chances() -> dict[Words, float]:
    """Document → its probability."""
    return {
        (*prompt_of(name, opening), *said, "."): share / len(NAMES) / len(OPENINGS)
        for opening in OPENINGS
        for said, share in remarks_of(opening)
        for name in NAMES
    }
