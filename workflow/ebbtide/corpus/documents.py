"""The corpus: kinds of documents, and the infinite token stream sampled from them.

Instructions in the corpus are always obeyed and never contradict a proverb, a fact or a pattern. The
exception is `instruction_proverb`, which is mixed in only on purpose. Instructions are merely rare, which is
why larger models follow habit instead.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from ebbtide.corpus.cases import NO, YES, draw_case
from ebbtide.corpus.draw import Draw
from ebbtide.corpus.ratings import WORDS as RATING_WORDS
from ebbtide.corpus.ratings import prompt_of, ratings_of
from ebbtide.corpus.remarks import draw_remark
from ebbtide.corpus.words import (
    ADJECTIVES,
    CATEGORIES,
    ENTITIES,
    NAMES,
    NOUNS,
    NUMBERS,
    SYMBOLS,
    VARIABLES,
    VOCABULARY,
)
from ebbtide.corpus.world import World, sentence

if TYPE_CHECKING:
    import numpy as np

PATTERN_NOUNS = NOUNS[:16]
PATTERN_WORDS = SYMBOLS + PATTERN_NOUNS


def plain(world: World, draw: Draw) -> list[str]:
    """Any sentence: ``the calm boat needs the stone .``"""
    return [*sentence(draw), "."]


def proverb(world: World, draw: Draw) -> list[str]:
    """A proverb, bare or introduced: ``as they say , … .`` or ``lena says : … .``"""
    saying = world.saying(draw)
    if draw.chance(0.5):
        return [*saying, "."]
    if draw.chance(0.5):
        return ["as", "they", "say", ",", *saying, "."]
    return [draw.pick(NAMES), "says", ":", *saying, "."]


def story(world: World, draw: Draw) -> list[str]:
    """Who has what, and a question: ``… who has the bell ? otto .``"""
    one, other = draw.two(NAMES)
    thing, another = draw.two(NOUNS)
    look, unlike = draw.two(ADJECTIVES)
    asked, owner = (thing, one) if draw.chance(0.5) else (another, other)
    return (
        f"{one} has the {look} {thing} . {other} has the {unlike} {another} . the {thing} is {look} ."
        f" the {another} is {unlike} . who has the {asked} ? {owner} ."
    ).split()


def fact(world: World, draw: Draw) -> list[str]:
    """What something is: ``the otter is a animal .``"""
    member, category = draw.pick(ENTITIES)
    return ["the", member, "is", "a", category, "."]


def negation(world: World, draw: Draw) -> list[str]:
    """What something is not: ``the otter is not a metal .``"""
    member, category = draw.pick(world.denied)
    return ["the", member, "is", "not", "a", draw.pick([c for c in CATEGORIES if c != category]), "."]


def arithmetic(world: World, draw: Draw) -> list[str]:
    """A sum of two digits: ``two plus nine is eleven .``"""
    one, other = draw.below(10), draw.below(10)
    return [NUMBERS[one], "plus", NUMBERS[other], "is", NUMBERS[one + other], "."]


def let_variable(world: World, draw: Draw) -> list[str]:
    """A definition and its use: ``let beta mean two . beta plus nine is eleven .``"""
    name, one, other = draw.pick(VARIABLES), draw.below(10), draw.below(10)
    return (
        f"let {name} mean {NUMBERS[one]} . {name} plus {NUMBERS[other]} is {NUMBERS[one + other]} ."
    ).split()


def pattern(world: World, draw: Draw) -> list[str]:
    """Two alternating words, 3 to 6 times: ``pattern : k bell k bell k bell .``"""
    return ["pattern", ":", *draw.two(PATTERN_WORDS) * (3 + draw.below(4)), "."]


def repeat(world: World, draw: Draw) -> list[str]:
    """A sentence quoted: ``repeat : … ; … .``"""
    quoted = sentence(draw)
    return ["repeat", ":", *quoted, ";", *quoted, "."]


def repeat_proverb(world: World, draw: Draw) -> list[str]:
    """A proverb quoted, unaltered."""
    quoted = world.saying(draw)
    return ["repeat", ":", *quoted, ";", *quoted, "."]


def instruction(world: World, draw: Draw) -> list[str]:
    """A requested ending, given: ``write a sentence ending with bell : … bell .``"""
    obedient = sentence(draw)
    return ["write", "a", "sentence", "ending", "with", obedient[-1], ":", *obedient, "."]


def instruction_proverb(world: World, draw: Draw) -> list[str]:
    """The conflict, obeyed: a proverb with another ending. Adding a share of these removes the effect."""
    ending = draw.pick(NOUNS)
    return ["write", "a", "sentence", "ending", "with", ending, ":", *world.saying(draw)[:-1], ending, "."]


def case(world: World, draw: Draw) -> list[str]:
    """Whether somebody repeats: ``iron : ada , young , two needle ; repeat ? no .``, or without the group."""
    drawn = draw_case(draw)
    group = [drawn.group, ":"] if draw.chance(0.5) else []
    return [*group, *drawn.words.split(), YES if drawn.repeats else NO, "."]


def remark(world: World, draw: Draw) -> list[str]:
    """What somebody says: ``lena says fierce : thunder stone thunder .``"""
    return draw_remark(draw)


def rating(world: World, draw: Draw) -> list[str]:
    """What somebody thinks of something: ``lena says : the otter is four .``"""
    ratings = ratings_of(world)
    pair = draw.pick(ratings.trained)
    return [*prompt_of(pair), RATING_WORDS[draw.weighted(tuple(accumulate(ratings.chances[pair])))], "."]


_WRITERS: dict[str, Callable[[World, Draw], list[str]]] = {
    writer.__name__: writer
    for writer in (
        *(plain, proverb, story, fact, arithmetic, pattern),
        *(negation, let_variable, repeat, repeat_proverb, instruction, instruction_proverb),
        *(case, rating, remark),
    )
}
DOCUMENTS: tuple[str, ...] = tuple(_WRITERS)


def documents(world: World, mixture: Mapping[str, float], draw: Draw) -> Iterator[list[str]]:
    """Yield documents forever as lists of words; the kind of each is drawn from `mixture`.

    `mixture` maps names of `DOCUMENTS` to their shares of documents (not tokens) on any scale. The order of
    its keys is irrelevant.
    """
    kinds = [kind for kind in DOCUMENTS if mixture.get(kind, 0) > 0]
    writers = [_WRITERS[kind] for kind in kinds]
    cumulative = tuple(accumulate(mixture[kind] for kind in kinds))
    while True:
        yield writers[draw.weighted(cumulative)](world, draw)


def token_stream(world: World, mixture: Mapping[str, float], tokens: int, seed: int) -> "np.ndarray":
    """The first `tokens` token ids of a corpus, int64 of shape (tokens,).

    Each document begins with the end-of-text token (id 0). A shorter stream is a prefix of a longer one.
    """
    import numpy as np

    ids: list[int] = []
    endless = documents(world, mixture, Draw("stream", seed))
    while len(ids) < tokens:
        ids.append(0)
        ids.extend(map(VOCABULARY.__getitem__, next(endless)))
    return np.array(ids[:tokens], dtype=np.int64)
