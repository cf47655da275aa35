"""The baseline of a study: the checkpoint that others are compared with, found before anything runs."""

from collections.abc import Mapping

from ebbtide.errors import ConfigError, nearest
from ebbtide.grid import Checkpoint, Model


def baselines(models: Mapping[str, Model], wanted: str | int | None, file: str) -> dict[str, Checkpoint]:
    """Model → its baseline: a checkpoint of its own training, or for all the same one of another model.

    Parameters
    ----------
    wanted
        A step, the name of a checkpoint, or `model/checkpoint`; None is no baseline.

    Raises
    ------
    ConfigError
        A model or checkpoint of that name is not in the grid, or a model lacks the checkpoint.
    """
    if wanted is None or not models:
        return {}
    name, _, rest = str(wanted).partition("/")
    if rest:
        if name not in models:
            raise ConfigError(
                f"{file}: alarms.baseline: found {wanted!r}, but there is no model {name!r}"
                f"{nearest(name, list(models)) or '; allowed: ' + ', '.join(models) + '.'}"
            )
        one = _find(models[name], rest, wanted, file)
        return dict.fromkeys(models, one)
    return {model.name: _find(model, wanted, wanted, file) for model in models.values()}


def _find(model: Model, checkpoint: str | int, wanted: str | int, file: str) -> Checkpoint:
    for one in model.checkpoints:
        if checkpoint in (one.name, one.step, str(one.step)):
            return one
    names = [one.name for one in model.checkpoints]
    shown = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    raise ConfigError(
        f"{file}: alarms.baseline: found {wanted!r}, which {model.name} has not; allowed: a checkpoint of "
        f"every model ({model.name} has {shown or 'none'}), or model/checkpoint."
    )
