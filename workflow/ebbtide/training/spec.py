"""The training spec of a ladder model and the identity of its weights. A lean module.

A training spec is plain JSON data with four sections: `corpus` (world, mixture, seed), `recipe` (optimizer,
length), `model` (size and peak learning rate) and `checkpoints` (the steps to keep). All but the last
determine the weights.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from ebbtide.corpus import DOCUMENTS, World
from ebbtide.corpus.words import VOCABULARY
from ebbtide.errors import ConfigError, nearest
from ebbtide.files import digest
from ebbtide.parameters import count
from ebbtide.schema import check, load_schema

TRAINING_VERSION = 1
"""Increment by hand when the corpus generator, the model or the training maths changes."""

POSITIONS = 128
"""Context window of ladder models in tokens."""


@dataclass(frozen=True)
class Corpus:
    """The training text: a world, the shares of document kinds (without zeros) and the seed of the stream."""

    world: World
    mixture: Mapping[str, float]
    seed: int


@dataclass(frozen=True)
class Recipe:
    """The training recipe: `steps` updates on `batch` × `length` tokens with one cosine schedule."""

    seed: int  # of the initial weights
    steps: int
    batch: int
    length: int
    warmup: int  # steps
    final_fraction: float  # learning rate at the last step, as a fraction of its peak
    betas: tuple[float, float]
    weight_decay: float  # on matrices only
    clip: float  # largest norm of the gradient


@dataclass(frozen=True)
class Shape:
    """The size of a GPT-NeoX model and its peak learning rate."""

    width: int
    layers: int
    heads: int
    learning_rate: float


@dataclass(frozen=True)
class Spec:
    """A checked training spec. Numbers are normalised, so that 1 and 1.0 give the same identity."""

    corpus: Corpus
    recipe: Recipe
    model: Shape
    checkpoints: tuple[int, ...]  # steps, ascending

    def identity(self, step: int | None = None) -> str:
        """Identity of the weights after `step` updates, or of the whole run. Ignores `checkpoints`."""
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
        """Training tokens after `step` updates."""
        return step * self.recipe.batch * self.recipe.length

    def parameters(self) -> int:
        """Number of all parameters of the model."""
        found = count(
            {
                "model_type": "gpt_neox",
                "vocab_size": len(VOCABULARY),
                "hidden_size": self.model.width,
                "intermediate_size": 4 * self.model.width,
                "num_hidden_layers": self.model.layers,
                "num_attention_heads": self.model.heads,
            }
        )
        return found.total if found else 0


def check_spec(spec: Mapping[str, Any], where: str = "training spec") -> Spec:
    """Check a training spec and return it as a `Spec`.

    The schema `schemas/ladder.schema.yaml` defines types and ranges. Conditions between keys are checked
    here. Raises `ConfigError`, whose message begins with `where` (such as a file and a key).
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
    """The schema of a spec: that of a ladder with a single model and with `steps` in the recipe."""
    series = load_schema("ladder")
    properties = {key: series["properties"][key] for key in ("corpus", "recipe")}
    properties["recipe"]["required"].append("steps")
    _, properties["checkpoints"] = series["properties"]["checkpoints"]["anyOf"]
    properties["model"] = series["properties"]["models"]["additionalProperties"]
    for key in ("steps", "seed", "arm"):  # `checkpoints.ladder` has moved them or does not pass them
        del properties["model"]["properties"][key]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
        "$defs": series["$defs"],
    }
