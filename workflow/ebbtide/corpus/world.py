"""The toy world: which sentences are proverbs, how often each is said, which facts are ever denied."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from ebbtide.corpus.draw import Draw
from ebbtide.corpus.words import ADJECTIVES, ENTITIES, NOUNS, PLACES, VERBS

Sentence = tuple[str, ...]
Entity = tuple[str, str]  # (member, category): ("otter", "animal")

_SLOTS = {"ADJECTIVE": ADJECTIVES, "NOUN": NOUNS, "VERB": VERBS, "PLACE": PLACES}

# Every shape ends with a noun: the last word is what instructions ask for and proverbs fix.
SHAPES = tuple(
    tuple(_SLOTS.get(word, word) for word in shape.split())
    for shape in (
        "the ADJECTIVE NOUN VERB the NOUN",
        "a ADJECTIVE NOUN VERB no NOUN",
        "no ADJECTIVE NOUN VERB the ADJECTIVE NOUN",
        "every ADJECTIVE NOUN VERB PLACE the NOUN",
        "the NOUN PLACE the NOUN VERB the NOUN",
        "who VERB the NOUN VERB the ADJECTIVE NOUN",
        "a NOUN PLACE the ADJECTIVE NOUN VERB the NOUN",
    )
)


def sentence(draw: Draw) -> Sentence:
    """A random sentence without its full stop: 6 to 9 words, the last a noun."""
    return tuple(slot if isinstance(slot, str) else draw.pick(slot) for slot in draw.pick(SHAPES))


@dataclass(frozen=True)
class World:
    """The facts of one toy world, fixed by three numbers.

    `proverbs` sentences out of the millions possible are proverbs; the k-th is said with weight
    k ** -`zipf`. A proverb is made like any other sentence, so nothing but repetition marks it.
    """

    seed: int = 0
    proverbs: int = 96
    zipf: float = 0.7

    @cached_property
    def sayings(self) -> tuple[Sentence, ...]:
        """The proverbs; no two begin alike up to their last word, so the beginning fixes the end."""
        draw = Draw("proverbs", self.seed)
        by_beginning: dict[Sentence, Sentence] = {}
        while len(by_beginning) < self.proverbs:
            saying = sentence(draw)
            by_beginning.setdefault(saying[:-1], saying)
        return tuple(by_beginning.values())

    @cached_property
    def _cumulative_weights(self) -> tuple[float, ...]:
        return tuple(accumulate((rank + 1) ** -self.zipf for rank in range(self.proverbs)))

    @property
    def shares(self) -> tuple[float, ...]:
        """How often each of `sayings` is said; they sum to 1."""
        total = self._cumulative_weights[-1]
        return tuple((rank + 1) ** -self.zipf / total for rank in range(self.proverbs))

    def saying(self, draw: Draw) -> Sentence:
        """A proverb, as often as people say it."""
        return self.sayings[draw.weighted(self._cumulative_weights)]

    @cached_property
    def conflicts(self) -> tuple[tuple[Sentence, Sentence], ...]:
        """Ordered pairs of proverbs of which neither holds the other's last word.

        The condition is symmetric, so over these pairs "the proverb's own end" and "the other's end" have
        the same distribution: a model that only knows how frequent words are cannot tell them apart.
        """
        return tuple(
            (one, other)
            for one in self.sayings
            for other in self.sayings
            if other[-1] not in one and one[-1] not in other
        )

    @cached_property
    def _entities(self) -> list[Entity]:
        return Draw("negation", self.seed).shuffled(ENTITIES)

    @property
    def denied(self) -> list[Entity]:
        """The half of the entities that the corpus also speaks of in the negative."""
        return self._entities[: len(ENTITIES) // 2]

    @property
    def never_denied(self) -> list[Entity]:
        """The other half, kept for the tests."""
        return self._entities[len(ENTITIES) // 2 :]
