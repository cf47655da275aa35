"""The exact entropy of the toy language, in nats per token: the loss that no model can go below.

Documents are drawn independently, and the end-of-text token says where each ends. So the entropy rate of the
stream is H(document) / E[tokens of a document], with the end-of-text token counted. H is that of the *text*:
two kinds can write the same one (a plain sentence that is a proverb, word for word), and there their
probabilities add up. All other texts have one kind, because the classes of words do not overlap.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, prod

from ebbtide.corpus.documents import DOCUMENTS, PATTERN_WORDS
from ebbtide.corpus.words import ADJECTIVES, CATEGORIES, ENTITIES, NAMES, NOUNS, VARIABLES
from ebbtide.corpus.world import SHAPES, Sentence, World

Slot = str | tuple[str, ...]  # of a shape: a word, or a class of words

# Tokens: the full stop, the end of the text, and what stands around sentences:
# `as they say ,`, `NAME says :`, `repeat : … ;`, `write a sentence ending with NOUN :`.
_STOP, _END = 1, 1
_AS_THEY_SAY, _NAME_SAYS, _REPEAT, _WRITE = 4, 3, 3, 7
_WAYS = {shape: prod(1 if isinstance(slot, str) else len(slot) for slot in shape) for shape in SHAPES}


@dataclass(frozen=True)
class SourceEntropy:
    """Entropy of a mixture of documents about a world.

    Attributes
    ----------
    document
        Nats per document, exact.
    tokens
        Tokens of a document on average, the end-of-text token counted.
    """

    document: float
    tokens: float

    @property
    def rate(self) -> float:
        """Nats per token."""
        return self.document / self.tokens


def source_entropy(world: World, mixture: Mapping[str, float]) -> SourceEntropy:
    """Entropy of the documents that `mixture` (names of `DOCUMENTS` to shares, any scale) draws."""
    total = sum(mixture.values())
    share = {kind: mixture.get(kind, 0.0) / total for kind in DOCUMENTS}
    weights = dict(zip(world.sayings, world.shares, strict=True))

    def said(mass: float) -> dict[Sentence, float]:
        return {saying: mass * weight for saying, weight in weights.items()}

    # The conflict's instructions are instructions, too: a proverb's beginning with any noun behind it.
    conflicts = {
        (*saying[:-1], noun): mass / len(NOUNS)
        for saying, mass in said(share["instruction_proverb"]).items()
        for noun in NOUNS
    }
    nats = (
        _of_sentences(share["plain"], said(share["proverb"] / 2))
        + _surprise(list(said(share["proverb"] / 4).values()))
        + _surprise([mass / len(NAMES) for mass in said(share["proverb"] / 4).values()] * len(NAMES))
        + _of_sentences(share["repeat"], said(share["repeat_proverb"]))
        + _of_sentences(share["instruction"], conflicts)
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
        **{kind: length for kind, (_, length) in _ALONE.items()},
    }
    tokens = sum(share[kind] * (length + _STOP + _END) for kind, length in words.items())
    return SourceEntropy(nats, tokens)


def sentence_probability(sentence: Sentence) -> float:
    """Probability of a random sentence; 0 for words that are none. No sentence has two shapes."""
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


def _surprise(masses: list[float]) -> float:
    """-Σ p log p, nats."""
    return sum(-p * log(p) for p in masses if p > 0)


def _two_of(pool: tuple[str, ...]) -> int:
    return len(pool) * (len(pool) - 1)


# Kinds whose texts no other writes: how many, each as likely, and their words without the full stop.
_ALONE: dict[str, tuple[int, float]] = {
    "story": (_two_of(NAMES) * _two_of(NOUNS) * _two_of(ADJECTIVES) * 2, 28),
    "fact": (len(ENTITIES), 5),
    "negation": (len(ENTITIES) // 2 * (len(CATEGORIES) - 1), 6),
    "arithmetic": (100, 5),
    "let_variable": (len(VARIABLES) * 100, 10),
    "pattern": (_two_of(PATTERN_WORDS) * 4, 2 + 2 * 4.5),
}
