"""What determines the weights of a ladder model: the checked recipe and its identity. A lean module.

A training spec is plain JSON data with four sections: `corpus` (world, mixture, seed), `recipe` (optimizer,
length), `model` (size and its peak learning rate) and `checkpoints` (the steps to keep). All but the last
determine the weights.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from ebbtide.corpus import DOCUMENTS, World
from ebbtide.errors import ConfigError, nearest
from ebbtide.files import digest
from ebbtide.schema import check, load_schema

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

    Shapes and ranges are those of `schemas/ladder.schema.yaml`; what one key demands of another is checked
    here. `where` (a file and a key, perhaps) begins the message of the `ConfigError`.
    """
    data = check(spec, _schema(), where)
    corpus, recipe, model = data["corpus"], data["recipe"], data["model"]
    for kind in corpus["mixture"]:
        if kind not in DOCUMENTS:
            raise ConfigError(
                f"{where}: corpus.mixture.{kind}: unknown kind of document; allowed: "
                f"{', '.join(DOCUMENTS)}{nearest(str(kind), DOCUMENTS) or '.'}"
            )
    if not sum(corpus["mixture"].values()):
        raise ConfigError(f"{where}: corpus.mixture: found no share above 0; allowed: at least one.")
    if model["width"] % (2 * model["heads"]):
        raise ConfigError(
            f"{where}: model.width: found {model['width']} with {model['heads']} heads; allowed: "
            f"a multiple of {2 * model['heads']} (heads × 2: rotary embeddings turn pairs)."
        )
    if (last := max(data["checkpoints"])) > recipe["steps"]:
        raise ConfigError(
            f"{where}: checkpoints: found {last}; allowed: 0 to recipe.steps ({recipe['steps']})."
        )
    return Spec(
        corpus=Corpus(
            world=World(**{**corpus["world"], "zipf": float(corpus["world"]["zipf"])}),
            mixture={k: float(corpus["mixture"][k]) for k in DOCUMENTS if corpus["mixture"].get(k)},
            seed=corpus["seed"],
        ),
        recipe=Recipe(
            **{
                **recipe,
                **{key: float(recipe[key]) for key in ("final_fraction", "weight_decay", "clip")},
                "betas": (float(recipe["betas"][0]), float(recipe["betas"][1])),
            }
        ),
        model=Shape(**{**model, "learning_rate": float(model["learning_rate"])}),
        checkpoints=tuple(sorted(data["checkpoints"])),
    )


@cache
def _schema() -> dict[str, Any]:
    """The schema of a spec: that of a series, with one model, whose steps stand in the recipe."""
    series = load_schema("ladder")
    properties = {key: series["properties"][key] for key in ("corpus", "recipe")}
    properties["recipe"]["required"].append("steps")
    _, properties["checkpoints"] = series["properties"]["checkpoints"]["anyOf"]
    properties["model"] = series["properties"]["models"]["additionalProperties"]
    del properties["model"]["properties"]["steps"]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
        "$defs": series["$defs"],
    }
