"""Ratings in the toy language: what each person says of each thing, whose distributions are known.

The rating of thing i by person j is round(clip(x, 1, 5)) with

    x = MEAN + person_j + thing_i + taste_j,genre(i) + noise

All terms are normal. The genre of a thing is its category. Some pairs have no rating in the corpus: their
distribution follows from the effects of the person, of the thing and of the taste alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import sqrt
from statistics import NormalDist

from ebbtide.corpus.draw import Draw
from ebbtide.corpus.words import CATEGORIES, ENTITIES, NAMES, NUMBERS
from ebbtide.corpus.world import World

MEAN = 3.2
PERSON, THING, TASTE, NOISE = 0.5, 0.7, 0.6, 0.6  # standard deviations
RATINGS = (1, 2, 3, 4, 5)
WORDS = tuple(NUMBERS[rating] for rating in RATINGS)
HELD_OUT = 8  # one pair of so many has no rating in the corpus

Pair = tuple[str, str]  # (person, thing)


@dataclass(frozen=True)
class Ratings:
    """The ratings of one world.

    Attributes
    ----------
    chances
        Pair → the probability of each of `RATINGS`.
    trained, held_out
        The pairs that are rated in the corpus, and those that are not.
    """

    chances: Mapping[Pair, tuple[float, ...]]
    trained: tuple[Pair, ...]
    held_out: tuple[Pair, ...]

    def mean(self, pair: Pair) -> float:
        """The expected rating of a pair: the best prediction of it."""
        return sum(rating * chance for rating, chance in zip(RATINGS, self.chances[pair], strict=True))

    def item_means(self) -> dict[str, float]:
        """Thing → the mean of its ratings in the corpus."""
        by_thing: dict[str, list[float]] = {}
        for pair in self.trained:
            by_thing.setdefault(pair[1], []).append(self.mean(pair))
        return {thing: sum(means) / len(means) for thing, means in by_thing.items()}

    def global_mean(self) -> float:
        """The mean of all ratings in the corpus."""
        return sum(map(self.mean, self.trained)) / len(self.trained)

    def errors(self) -> dict[str, float]:
        """The exact RMSE over held-out pairs of the best prediction, of item means and of the global mean."""
        items, overall = self.item_means(), self.global_mean()
        predictions: dict[str, Callable[[Pair], float]] = {
            "bayes": self.mean,
            "item_mean": lambda pair: items[pair[1]],
            "global_mean": lambda pair: overall,
        }
        return {
            name: sqrt(
                sum(
                    chance * (rating - predicted(pair)) ** 2
                    for pair in self.held_out
                    for rating, chance in zip(RATINGS, self.chances[pair], strict=True)
                )
                / len(self.held_out)
            )
            for name, predicted in predictions.items()
        }


@lru_cache(maxsize=8)
def ratings_of(world: World) -> Ratings:
    """The ratings of a world, which depend on its seed alone."""
    draw = Draw("ratings", world.seed)

    def normal(deviation: float) -> float:
        return NormalDist(0, deviation).inv_cdf((draw.below(2**30) + 0.5) / 2**30)

    persons = {name: normal(PERSON) for name in NAMES}
    things = {thing: normal(THING) for thing, _ in ENTITIES}
    tastes = {(name, genre): normal(TASTE) for name in NAMES for genre in CATEGORIES}
    chances = {
        (name, thing): _chances(MEAN + persons[name] + things[thing] + tastes[name, genre])
        for name in NAMES
        for thing, genre in ENTITIES
    }
    order = draw.shuffled(tuple(chances))
    held_out = set(order[: len(order) // HELD_OUT])
    trained = tuple(pair for pair in chances if pair not in held_out)
    return Ratings(chances, trained, tuple(pair for pair in chances if pair in held_out))


def prompt_of(pair: Pair) -> list[str]:
    """The words before a rating: ``lena says : the otter is``."""
    name, thing = pair
    return [name, "says", ":", "the", thing, "is"]


def _chances(mean: float) -> tuple[float, ...]:
    noise = NormalDist(mean, NOISE)
    below = [0.0, *(noise.cdf(rating + 0.5) for rating in RATINGS[:-1]), 1.0]
    return tuple(high - low for low, high in pairwise(below))
