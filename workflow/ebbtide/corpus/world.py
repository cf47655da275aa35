"""The toy world: its proverbs with their frequencies, and the entities with negated sentences."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from ebbtide.corpus.draw import Draw
from ebbtide.corpus.words import ADJECTIVES, ENTITIES, NOUNS, PLACES, VERBS

Sentence = tuple[str, ...]
Entity = tuple[str, str]  # (member, category): ("otter", "animal")

_SLOTS = {"ADJECTIVE": ADJECTIVES, "NOUN": NOUNS, "VERB": VERBS, "PLACE": PLACES}

# Every shape ends with a noun, because instructions request the last word and proverbs determine it.
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
    """The facts of one toy world, determined by three numbers.

    `proverbs` of the millions of possible sentences are proverbs; the k-th has the weight k ** -`zipf`. A
    proverb is generated like any other sentence, so only its frequency distinguishes it.
    """

    seed: int = 0
    proverbs: int = 96
    zipf: float = 0.7

    @cached_property
    def sayings(self) -> tuple[Sentence, ...]:
        """The proverbs. No two are equal up to the last word, so the beginning determines the ending."""
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
        """Probability of each of `sayings`; they sum to 1."""
        total = self._cumulative_weights[-1]
        return tuple((rank + 1) ** -self.zipf / total for rank in range(self.proverbs))

    def saying(self, draw: Draw) -> Sentence:
        """A random proverb, drawn by `shares`."""
        return self.sayings[draw.weighted(self._cumulative_weights)]

    @cached_property
    def conflicts(self) -> tuple[tuple[Sentence, Sentence], ...]:
        """Ordered pairs of proverbs of which neither contains the other's last word.

        The condition is symmetric, so over these pairs a proverb's own ending and the other's ending have the
        same distribution: a model that knows only word frequencies cannot distinguish them.
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
        """The half of the entities that also have negated sentences in the corpus."""
        return self._entities[: len(ENTITIES) // 2]

    @property
    def never_denied(self) -> list[Entity]:
        """The other half of the entities, reserved for the tasks."""
        return self._entities[len(ENTITIES) // 2 :]
