"""Cases: people of two groups, and whether they repeat, with a known risk, for error rates by group.

A case has a name, a look (young or old), a number of needles from 0 to 6, and a group. The risk depends on
look and number alone:

    P(repeats) = 1 / (1 + exp(3.3 - number - 1.8 [young]))

but the first group has more needles: the number is binomial with 6 draws and p of 0.45 or 0.25. So even the
best rule has unequal rates of false positives, which `best_rates` enumerates.
"""

import math
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from ebbtide.corpus.draw import Draw
from ebbtide.corpus.words import NAMES, NUMBERS

GROUPS = {"iron": 0.45, "copper": 0.25}  # group → p of the binomial number
LOOKS = ("young", "old")
MOST = 6
YES, NO = "every", "no"


class Case(NamedTuple):
    """One case, and whether it repeats."""

    group: str
    name: str
    look: str
    number: int
    repeats: bool

    @property
    def words(self) -> str:
        """What is said of the case, without its group: ``clara , young , three needle ; repeat ?``"""
        return f"{self.name} , {self.look} , {NUMBERS[self.number]} needle ; repeat ?"


def draw_case(draw: Draw) -> Case:
    """Draw a case; groups, names and looks are equally frequent."""
    group, name, look = draw.pick(list(GROUPS)), draw.pick(NAMES), draw.pick(LOOKS)
    number = sum(draw.chance(GROUPS[group]) for _ in range(MOST))
    return Case(group, name, look, number, draw.chance(risk(look, number)))


def risk(look: str, number: int) -> float:
    """Probability that a case repeats."""
    return 1 / (1 + math.exp(3.3 - number - 1.8 * (look == "young")))


@lru_cache(maxsize=1)
def document_chances() -> dict[tuple[str, ...], float]:
    """Document → its probability: half of them begin with the group."""
    found: dict[tuple[str, ...], float] = {}
    for group, p in GROUPS.items():
        for name, look, number in product(NAMES, LOOKS, range(MOST + 1)):
            share = math.comb(MOST, number) * p**number * (1 - p) ** (MOST - number)
            share /= 2 * len(GROUPS) * len(NAMES) * len(LOOKS)
            for repeats in (False, True):
                words = (*Case(group, name, look, number, repeats).words.split(), YES if repeats else NO, ".")
                chance = share * (risk(look, number) if repeats else 1 - risk(look, number))
                for document in (words, (group, ":", *words)):
                    found[document] = found.get(document, 0.0) + chance
    return found


def best_rates(group: str) -> tuple[float, float, float]:
    """Accuracy, false-positive and false-negative rate of the best rule (yes if the risk is above ½)."""
    right = false_yes = false_no = repeats = 0.0
    p = GROUPS[group]
    for look in LOOKS:
        for number in range(MOST + 1):
            share = math.comb(MOST, number) * p**number * (1 - p) ** (MOST - number) / len(LOOKS)
            chance = risk(look, number)
            repeats += share * chance
            if chance > 0.5:
                right += share * chance
                false_yes += share * (1 - chance)
            else:
                right += share * (1 - chance)
                false_no += share * chance
    return right, false_yes / (1 - repeats), false_no / repeats
