"""What determines the weights of a ladder model: the checked recipe and its identity. A lean module.

A training spec is plain JSON data with four sections: `corpus` (world, mixture, seed), `recipe` (optimizer,
length), `model` (size and its peak learning rate) and `checkpoints` (the steps to keep). All but the last
determine the weights.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ebbtide.corpus import DOCUMENTS, World
from ebbtide.errors import ConfigError, nearest
from ebbtide.files import digest

TRAINING_VERSION = 1
"""Raised by hand when the corpus generator, the model or the training maths changes."""

POSITIONS = 128
"""Tokens a ladder model can attend over."""


@dataclass(frozen=True)
class Corpus:
    """The text: a world, shares of documents by kind (zero shares dropped), and the stream's seed."""

    world: World
    mixture: Mapping[str, float]
    seed: int


@dataclass(frozen=True)
class Recipe:
    """How every size is trained: `steps` updates on `batch` × `length` tokens, one cosine."""

    seed: int  # of the initial weights
    steps: int
    batch: int
    length: int
    warmup: int  # steps
    final_fraction: float  # of the peak learning rate, at the last step
    betas: tuple[float, float]
    weight_decay: float  # on matrices only
    clip: float  # norm of the gradient


@dataclass(frozen=True)
class Shape:
    """The size of a GPT-NeoX model and its peak learning rate."""

    width: int
    layers: int
    heads: int
    learning_rate: float


@dataclass(frozen=True)
class Spec:
    """A checked training spec; numbers are normalised, so that 1 and 1.0 have one identity."""

    corpus: Corpus
    recipe: Recipe
    model: Shape
    checkpoints: tuple[int, ...]  # steps, ascending

    def identity(self, step: int | None = None) -> str:
        """Identity of the weights after `step` updates, or of the whole run; `checkpoints` plays no part."""
        return digest(
            {
                "corpus": asdict(self.corpus),
                "recipe": asdict(self.recipe),
                "model": asdict(self.model),
                "step": step,
                "training_version": TRAINING_VERSION,
            }
        )

    def tokens(self, step: int) -> int:
        """Tokens the model has been trained on after `step` updates."""
        return step * self.recipe.batch * self.recipe.length


def weights_identity(spec: Mapping[str, Any], step: int) -> str:
    """Identity of the weights after `step` updates, the same whatever other steps are kept.

    Raises `ConfigError` when the spec is not valid.
    """
    return check_spec(spec).identity(step)


def check_spec(spec: Mapping[str, Any], where: str = "training spec") -> Spec:
    """Check a training spec and give it types.

    `where` (a file and a key, perhaps) begins the message. Raises `ConfigError` for the first key that is
    missing, unknown, of the wrong type or out of range.
    """
    top = _Section(spec, where, "", ("corpus", "recipe", "model", "checkpoints"))
    recipe = _recipe(top.section("recipe", tuple(Recipe.__annotations__)))
    return Spec(
        corpus=_corpus(top.section("corpus", ("world", "mixture", "seed"))),
        recipe=recipe,
        model=_shape(top.section("model", tuple(Shape.__annotations__))),
        checkpoints=_checkpoints(top, recipe.steps),
    )


def _corpus(section: "_Section") -> Corpus:
    world = section.section("world", ("seed", "proverbs", "zipf"))
    shares = section.section("mixture", DOCUMENTS, complete=False)
    mixture = {kind: shares.real(kind, 0) for kind in DOCUMENTS if kind in shares.data}
    if not sum(mixture.values()):
        raise section.error("mixture", "has no share above 0", f"shares of {', '.join(DOCUMENTS)}")
    return Corpus(
        # Tasks look at all pairs of proverbs: 2,000 of them are 4 million pairs.
        world=World(world.whole("seed", 0), world.whole("proverbs", 1, 2_000), world.real("zipf", 0)),
        mixture={kind: share for kind, share in mixture.items() if share},
        seed=section.whole("seed", 0),
    )


def _recipe(section: "_Section") -> Recipe:
    betas = section.data["betas"]
    if not isinstance(betas, list | tuple) or len(betas) != 2 or not all(_is_real(b, 0, 1) for b in betas):
        raise section.error("betas", f"is {betas!r}", "two numbers from 0 to 1")
    return Recipe(
        seed=section.whole("seed", 0),
        steps=section.whole("steps", 1),
        batch=section.whole("batch", 1),
        length=section.whole("length", 1, POSITIONS),
        warmup=section.whole("warmup", 0),
        final_fraction=section.real("final_fraction", 0, 1),
        betas=(float(betas[0]), float(betas[1])),
        weight_decay=section.real("weight_decay", 0),
        clip=section.real("clip", 0),
    )


def _shape(section: "_Section") -> Shape:
    width, heads = section.whole("width", 2), section.whole("heads", 1)
    if width % (2 * heads):
        allowed = f"a multiple of {2 * heads} (heads × 2: rotary embeddings turn pairs)"
        raise section.error("width", f"is {width} with {heads} heads", allowed)
    return Shape(width, section.whole("layers", 1), heads, section.real("learning_rate", 0))


def _checkpoints(top: "_Section", last: int) -> tuple[int, ...]:
    steps = top.data["checkpoints"]
    if not isinstance(steps, list | tuple) or not steps:
        raise top.error("checkpoints", f"is {steps!r}", "a list of steps with at least one")
    for step in steps:
        if not _is_whole(step, 0, last):
            raise top.error("checkpoints", f"holds {step!r}", f"integers from 0 to recipe.steps ({last})")
    if len(set(steps)) < len(steps):
        raise top.error("checkpoints", f"is {list(steps)}, with repeats", "each step once")
    return tuple(sorted(steps))


class _Section:
    """One mapping of the spec, with the path to it for messages."""

    def __init__(
        self, data: Any, where: str, path: str, keys: tuple[str, ...], complete: bool = True
    ) -> None:
        self._where, self._path = where, path
        if not isinstance(data, Mapping):
            raise ConfigError(
                f"{where}: {path.rstrip('.') or 'the spec'} is {data!r}, allowed: keys {', '.join(keys)}."
            )
        for key in data:
            if key not in keys:
                allowed = f"{', '.join(keys)}{nearest(str(key), keys)}"
                raise ConfigError(f"{where}: {path}{key} is not a known key, allowed: {allowed}.")
        for key in keys if complete else ():
            if key not in data:
                raise ConfigError(f"{where}: {path}{key} is missing; add it.")
        self.data = data

    def section(self, key: str, keys: tuple[str, ...], complete: bool = True) -> "_Section":
        return _Section(self.data[key], self._where, f"{self._path}{key}.", keys, complete)

    def error(self, key: str, found: str, allowed: str) -> ConfigError:
        return ConfigError(f"{self._where}: {self._path}{key} {found}, allowed: {allowed}.")

    def whole(self, key: str, low: int, high: int | None = None) -> int:
        value = self.data[key]
        if not _is_whole(value, low, high):
            raise self.error(key, f"is {value!r}", f"an integer {_range(low, high)}")
        return int(value)

    def real(self, key: str, low: float, high: float | None = None) -> float:
        value = self.data[key]
        if not _is_real(value, low, high):
            raise self.error(key, f"is {value!r}", f"a number {_range(low, high)}")
        return float(value)


def _is_whole(value: Any, low: int, high: int | None) -> bool:
    return isinstance(value, int) and _is_real(value, low, high)


def _is_real(value: Any, low: float, high: float | None) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # "<" with infinity also refuses nan.
    return number and low <= value < float("inf") and (high is None or value <= high)


def _range(low: float, high: float | None) -> str:
    return f"of at least {low}" if high is None else f"from {low} to {high}"
