"""The exact entropy of the toy language in nats per token: the lower bound for the loss of any model.

Documents are drawn independently, and the end-of-text token marks where each ends. The entropy rate of the
stream is therefore H(document) / E[tokens of a document], including the end-of-text token. H is the entropy
of the *text*. Two kinds can produce the same text (a plain sentence that is a proverb); their probabilities
add. All other texts have one kind, because the word classes do not overlap.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, prod

from ebbtide.corpus.cases import document_chances
from ebbtide.corpus.documents import DOCUMENTS, PATTERN_WORDS
from ebbtide.corpus.ratings import ratings_of
from ebbtide.corpus.remarks import remark_chances
from ebbtide.corpus.words import ADJECTIVES, CATEGORIES, ENTITIES, NAMES, NOUNS, VARIABLES
from ebbtide.corpus.world import SHAPES, Sentence, World

Slot = str | tuple[str, ...]  # element of a shape: a word or a word class

# Numbers of tokens: the full stop, the end of text, and the phrases around sentences:
# `as they say ,`, `NAME says :`, `repeat : … ;`, `write a sentence ending with NOUN :`.
_STOP, _END = 1, 1
_AS_THEY_SAY, _NAME_SAYS, _REPEAT, _WRITE = 4, 3, 3, 7
_RATING = 7  # `NAME says : the THING is NUMBER`
_REMARK = 7  # `NAME says OPENING : NOUN NOUN NOUN`
_CASE = 11  # `NAME , LOOK , NUMBER needle ; repeat ? no`, half of the time after `GROUP :`
_WAYS = {shape: prod(1 if isinstance(slot, str) else len(slot) for slot in shape) for shape in SHAPES}


@dataclass(frozen=True)
class SourceEntropy:
    """Entropy of a mixture of documents.

    Attributes
    ----------
    document
        Nats per document, exact.
    tokens
        Mean number of tokens per document, including the end-of-text token.
    """

    document: float
    tokens: float

    @property
    def rate(self) -> float:
        """Nats per token."""
        return self.document / self.tokens


def source_entropy(world: World, mixture: Mapping[str, float]) -> SourceEntropy:
    """Entropy of the documents of `mixture`, which maps names of `DOCUMENTS` to shares on any scale."""
    total = sum(mixture.values())
    share = {kind: mixture.get(kind, 0.0) / total for kind in DOCUMENTS}
    weights = dict(zip(world.sayings, world.shares, strict=True))

    def spread(mass: float) -> dict[Sentence, float]:
        return {saying: mass * weight for saying, weight in weights.items()}

    # A conflicting instruction has the form of an instruction: the beginning of a proverb, then any noun.
    conflicts = {
        (*saying[:-1], noun): mass / len(NOUNS)
        for saying, mass in spread(share["instruction_proverb"]).items()
        for noun in NOUNS
    }
    nats = (
        _of_sentences(share["plain"], spread(share["proverb"] / 2))
        + _surprise(list(spread(share["proverb"] / 4).values()))
        + _surprise([mass / len(NAMES) for mass in spread(share["proverb"] / 4).values()] * len(NAMES))
        + _of_sentences(share["repeat"], spread(share["repeat_proverb"]))
        + _of_sentences(share["instruction"], conflicts)
        + _surprise(_ratings(world, share["rating"]))
        + _surprise([share["case"] * chance for chance in document_chances().values()])
        + _surprise([share["remark"] * chance for chance in remark_chances().values()])
        + sum(_surprise([share[kind] / texts]) * texts for kind, (texts, _) in _ALONE.items())
    )
    sentence = sum(map(len, SHAPES)) / len(SHAPES)
    saying = sum(len(saying) * weight for saying, weight in weights.items())
    words = {
        "plain": sentence,
        "proverb": saying + (_AS_THEY_SAY + _NAME_SAYS) / 4,
        "repeat": 2 * sentence + _REPEAT,
        "repeat_proverb": 2 * saying + _REPEAT,
        "instruction": sentence + _WRITE,
        "instruction_proverb": saying + _WRITE,
        "rating": _RATING,
        "case": _CASE,
        "remark": _REMARK,
        **{kind: length for kind, (_, length) in _ALONE.items()},
    }
    tokens = sum(share[kind] * (length + _STOP + _END) for kind, length in words.items())
    return SourceEntropy(nats, tokens)


def sentence_probability(sentence: Sentence) -> float:
    """Probability of a random sentence; 0 for other texts. No sentence has two shapes."""
    for shape, ways in _WAYS.items():
        if len(sentence) == len(shape) and all(map(_fits, sentence, shape)):
            return 1 / ways / len(SHAPES)
    return 0.0


def _fits(word: str, slot: Slot) -> bool:
    return word == slot if isinstance(slot, str) else word in slot


def _of_sentences(share: float, extra: Mapping[Sentence, float]) -> float:
    """-Σ p log p over all sentences, with p = `share` times that of a random sentence, plus its `extra`."""
    nats = sum(_surprise([share / len(SHAPES) / ways]) * ways for ways in _WAYS.values())
    for sentence, mass in extra.items():
        random = share * sentence_probability(sentence)
        nats += _surprise([random + mass]) - _surprise([random])
    return nats


def _ratings(world: World, share: float) -> list[float]:
    """Probabilities of the sentences with a rating; none without a share, so that they need not be known."""
    if not share:
        return []
    ratings = ratings_of(world)
    return [
        share * chance / len(ratings.trained) for pair in ratings.trained for chance in ratings.chances[pair]
    ]


def _surprise(masses: list[float]) -> float:
    """-Σ p log p, nats."""
    return sum(-p * log(p) for p in masses if p > 0)


def _two_of(pool: tuple[str, ...]) -> int:
    return len(pool) * (len(pool) - 1)


# Kinds whose texts no other kind produces: number of equally likely texts, and words without the full stop.
_ALONE: dict[str, tuple[int, float]] = {
    "story": (_two_of(NAMES) * _two_of(NOUNS) * _two_of(ADJECTIVES) * 2, 28),
    "fact": (len(ENTITIES), 5),
    "negation": (len(ENTITIES) // 2 * (len(CATEGORIES) - 1), 6),
    "arithmetic": (100, 5),
    "let_variable": (len(VARIABLES) * 100, 10),
    "pattern": (_two_of(PATTERN_WORDS) * 4, 2 + 2 * 4.5),
}
