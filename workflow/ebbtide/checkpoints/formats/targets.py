"""The tensors of a model that transformers makes from a configuration, without any values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.checkpoints.formats.source import not_converted
from ebbtide.errors import first_line


@dataclass(frozen=True)
class Targets:
    """What a checkpoint in Hugging Face layout must contain.

    Attributes
    ----------
    family
        `model_type` of the configuration.
    shapes
        Shape of each parameter by name; of tied matrices, the one that is stored.
    tied
        Names of the other tied matrices → the stored one.
    settings
        The configuration with the defaults of its family, to which maps refer.
    """

    family: str
    shapes: Mapping[str, tuple[int, ...]]
    tied: Mapping[str, str]
    settings: Mapping[str, Any]


def targets_of(config: Mapping[str, Any], where: str) -> Targets:
    """Return the tensors of the causal language model of a `config.json`.

    Raises `CheckpointError` of class `not_converted` for one that transformers does not know, or that needs
    code of its own; `where` is the file, for messages.
    """
    import torch
    from torch import nn
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    family = config.get("model_type")
    if not isinstance(family, str):
        raise not_converted(
            f"{where} has no model_type, so it is not a Hugging Face configuration; set `config:` to one."
        )
    try:
        made = AutoConfig.for_model(**{"model_type": family, **config})
        with torch.device("meta"):
            model: nn.Module = AutoModelForCausalLM.from_config(made, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # transformers raises many types for values it cannot use
        raise not_converted(
            f"{where}: transformers cannot make a model of it ({first_line(error)}); correct the "
            "configuration."
        ) from error
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    stored = {id(parameter): name for name, parameter in model.named_parameters()}
    every = dict(model.named_parameters(remove_duplicate=False))
    tied = {name: stored[id(p)] for name, p in every.items() if name not in shapes}
    return Targets(family, shapes, tied, made.to_dict())
