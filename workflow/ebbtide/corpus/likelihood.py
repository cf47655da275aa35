"""The exact probability of a document of the toy language, summed over the kinds that can produce it.

It gives the loss of the source itself on held-out text, which differs from the entropy only by sampling
error.
"""

from collections.abc import Callable, Mapping, Sequence
from math import log
from typing import Any

from ebbtide.corpus.cases import document_chances
from ebbtide.corpus.documents import DOCUMENTS, PATTERN_WORDS
from ebbtide.corpus.entropy import sentence_probability, source_entropy
from ebbtide.corpus.held_out import HELD_OUT
from ebbtide.corpus.ratings import WORDS as RATING_WORDS
from ebbtide.corpus.ratings import prompt_of, ratings_of
from ebbtide.corpus.remarks import remark_chances
from ebbtide.corpus.words import (
    ADJECTIVES,
    CATEGORIES,
    END_OF_TEXT,
    ENTITIES,
    NAMES,
    NOUNS,
    NUMBERS,
    VARIABLES,
)
from ebbtide.corpus.world import Sentence, World
from ebbtide.errors import TaskError

Words = tuple[str, ...]


class Likelihood:
    """The source as a model: log-probabilities of the documents of a mixture."""

    def __init__(self, world: World, mixture: Mapping[str, float]) -> None:
        total = sum(mixture.values())
        self._shares = {kind: mixture[kind] / total for kind in DOCUMENTS if mixture.get(kind)}
        self._sayings = dict(zip(world.sayings, world.shares, strict=True))
        self._beginnings = {saying[:-1]: weight for saying, weight in self._sayings.items()}
        self._denied = world.denied
        self._ratings = ratings_of(world)
        self._rated = set(self._ratings.trained)

    def log_probability(self, words: Sequence[str]) -> float:
        """Log-probability (nats) of a document without its end-of-text token.

        Raises `TaskError` for a text that the mixture cannot produce.
        """
        text = tuple(words)
        probability = sum(share * _READERS[kind](self, text) for kind, share in self._shares.items())
        if not probability:
            raise TaskError(f"the mixture cannot produce {' '.join(text)!r}.")
        return log(probability)

    def loss(self, texts: Sequence[str]) -> float:
        """Loss of the source (nats per token) on texts that each end with the end-of-text token."""
        documents = [tuple(text.split()) for text in texts]
        if any(document[-1] != END_OF_TEXT for document in documents):
            raise TaskError(f"held-out texts must end with {END_OF_TEXT}.")
        return -sum(self.log_probability(d[:-1]) for d in documents) / sum(map(len, documents))

    def _plain(self, text: Words) -> float:
        return sentence_probability(text[:-1]) * (text[-1] == ".")

    def _proverb(self, text: Words) -> float:
        bare = self._sayings.get(text[:-1], 0) / 2
        as_they_say = (text[:4] == ("as", "they", "say", ",")) * self._sayings.get(text[4:-1], 0) / 4
        by_name = (text[0] in NAMES and text[1:3] == ("says", ":")) * self._sayings.get(text[3:-1], 0)
        return (text[-1] == ".") * (bare + as_they_say + by_name / 4 / len(NAMES))

    def _repeat(self, text: Words) -> float:
        return sentence_probability(_quoted_sentence(text))

    def _repeat_proverb(self, text: Words) -> float:
        return self._sayings.get(_quoted_sentence(text), 0.0)

    def _instruction(self, text: Words) -> float:
        return sentence_probability(_instructed_sentence(text))

    def _instruction_proverb(self, text: Words) -> float:
        return self._beginnings.get(_instructed_sentence(text)[:-1], 0.0) / len(NOUNS)

    def _story(self, text: Words) -> float:
        if len(text) != 29:
            return 0.0
        one, look, thing, other, unlike, another = (text[i] for i in (0, 3, 4, 6, 9, 10))
        again = (
            f"{one} has the {look} {thing} . {other} has the {unlike} {another} . the {thing} is {look} ."
            f" the {another} is {unlike} . who has the {text[-4]} ? {text[-2]} ."
        )
        consistent = " ".join(text) == again and (text[-4], text[-2]) in ((thing, one), (another, other))
        owners, things = _two((one, other), NAMES), _two((thing, another), NOUNS)
        return consistent * owners * things * _two((look, unlike), ADJECTIVES) / 2

    def _fact(self, text: Words) -> float:
        return (text in _FACTS) / len(_FACTS)

    def _negation(self, text: Words) -> float:
        if len(text) != 7 or text[::2] != ("the", "is", "a", ".") or text[3] != "not":
            return 0.0
        own = dict(self._denied).get(text[1])
        denied = own is not None and text[5] in CATEGORIES and text[5] != own
        return denied / len(self._denied) / (len(CATEGORIES) - 1)

    def _arithmetic(self, text: Words) -> float:
        return (text in _SUMS) / len(_SUMS)

    def _let_variable(self, text: Words) -> float:
        if len(text) != 11 or text[0] != "let" or text[2] != "mean" or text[4] != "." or text[1] != text[5]:
            return 0.0
        return (text[1] in VARIABLES) * ((text[3], *text[6:]) in _SUMS) / len(VARIABLES) / len(_SUMS)

    def _case(self, text: Words) -> float:
        return document_chances().get(text, 0.0)

    def _remark(self, text: Words) -> float:
        return remark_chances().get(text, 0.0)

    def _rating(self, text: Words) -> float:
        pair = (text[0], text[4]) if len(text) == 8 else ("", "")
        whole = text == (*prompt_of(pair), *text[6:7], ".") and text[6] in RATING_WORDS
        if not whole or pair not in self._rated:
            return 0.0
        return self._ratings.chances[pair][RATING_WORDS.index(text[6])] / len(self._ratings.trained)

    def _pattern(self, text: Words) -> float:
        turns = (len(text) - 3) // 2
        whole = text == ("pattern", ":", *text[2:4] * turns, ".") and 3 <= turns <= 6
        return whole * _two(text[2:4], PATTERN_WORDS) / 4


def source_of(source: Mapping[str, Any], texts: Sequence[str]) -> tuple[float, float] | None:
    """Entropy of the source of a task, and the loss of the source on its texts, both in nats per token.

    `source` is that of the task's definition. None if the task is not held-out text of the toy language.
    """
    if source.get("toy") != HELD_OUT:
        return None
    world, mixture = World(**source["world"]), source["mixture"]
    return source_entropy(world, mixture).rate, Likelihood(world, mixture).loss(texts)


def _quoted_sentence(text: Words) -> Sentence:
    """The repeated sentence, or an empty one."""
    half = (len(text) - 4) // 2
    quoted = text[2 : 2 + half]
    return quoted if text == ("repeat", ":", *quoted, ";", *quoted, ".") else ()


def _instructed_sentence(text: Words) -> Sentence:
    """The sentence that ends as instructed, or an empty one."""
    sentence = text[7:-1]
    instructed = ("write", "a", "sentence", "ending", "with", *sentence[-1:], ":", *sentence, ".")
    return sentence if sentence and text == instructed else ()


def _two(words: Words, pool: Sequence[str]) -> float:
    """Probability of drawing these two different words of a pool in this order."""
    different = len(set(words)) == 2 and set(words) <= set(pool)
    return different / (len(pool) * (len(pool) - 1))


_FACTS = {("the", member, "is", "a", category, ".") for member, category in ENTITIES}
_SUMS = {
    (NUMBERS[one], "plus", NUMBERS[other], "is", NUMBERS[one + other], ".")
    for one in range(10)
    for other in range(10)
}
_READERS: dict[str, Callable[[Likelihood, Words], float]] = {
    kind: getattr(Likelihood, f"_{kind}") for kind in DOCUMENTS
}
