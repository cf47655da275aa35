"""Local ladders: series of models that the workflow trains on a generated language."""

from collections.abc import Mapping
from typing import Any

from ebbtide.checkpoints.schedule import pick
from ebbtide.errors import ConfigError
from ebbtide.grid import CHECKPOINTS, Checkpoint, Model
from ebbtide.training.spec import check_spec


def ladder_models(
    series: Mapping[str, Any], names: list[str], row: Mapping[str, Any], file: str, where: str
) -> list[Model]:
    """Return the models `names` of a checked ladder with the steps that the row requests.

    Raises `ConfigError` for a step that the ladder does not keep, or for an invalid recipe.
    """
    models = []
    for name in names:
        training, own = _training(series, name, file), series["models"][name]
        kept = _kept(series, training["recipe"]["steps"])
        spec = check_spec({**training, "checkpoints": kept}, f"{file}: models.{name}")
        checkpoints = []
        for step in pick(row["steps"], kept, f"{where}.steps", file):
            weights = spec.identity(step)
            checkpoints.append(
                Checkpoint(
                    model=name,
                    name=f"step{step}",
                    step=step,
                    tokens=spec.tokens(step),
                    weights=f"trained:{weights}",
                    tokenizer="toy",
                    marker=f"{CHECKPOINTS}/{name}/step{step}/trained-{weights}.json",
                    size_bytes=0,
                    dtype="float32",
                )
            )
        models.append(
            Model(
                name,
                tuple(checkpoints),
                training,
                arm=row.get("arm", own.get("arm", "")),
                seed=spec.recipe.seed,
                parameters=spec.parameters(),
            )
        )
    return models


def _training(series: Mapping[str, Any], name: str, file: str) -> dict[str, Any]:
    """The training spec of a model.

    Its own `steps` set the length of its cosine schedule; its own `seed` is that of its initial weights and
    of the order of its documents.
    """
    shape = dict(series["models"][name])
    shape.pop("arm", None)
    seeds = {"seed": shape.pop("seed")} if "seed" in shape else {}
    steps = shape.pop("steps", series["recipe"].get("steps"))
    if steps is None:
        raise ConfigError(f"{file}: models.{name}.steps: missing, and so is recipe.steps; set one of them.")
    return {
        "corpus": {**series["corpus"], **seeds},
        "recipe": {**series["recipe"], **seeds, "steps": steps},
        "model": shape,
    }


def _kept(series: Mapping[str, Any], steps: int) -> list[int]:
    return [steps] if series["checkpoints"] == "last" else sorted(series["checkpoints"])
