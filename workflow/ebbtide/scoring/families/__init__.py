"""Model families with our own decoder: from `config.json` and weights to a `Decoder`, without transformers.

Each family describes its models as an `Architecture`, which `assemble` fills with tensors. An unknown key of
the configuration or an untested value raises `Unsupported`, and the checkpoint is scored with transformers
instead. A new option is therefore never silently ignored.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ebbtide.scoring.decoder import Decoder
from ebbtide.scoring.families import bloom, gemma, gpt2, gpt_neox, llama, olmo, opt
from ebbtide.scoring.families.architecture import Architecture, assemble
from ebbtide.scoring.families.keys import Keys, Unsupported
from ebbtide.scoring.weights import Weights

__all__ = ["FAMILIES", "Unsupported", "build"]

FAMILIES: dict[str, Callable[[Keys], Architecture]] = {
    "bloom": bloom.bloom,
    "gemma": gemma.gemma,
    "gemma2": gemma.gemma2,
    "gemma3_text": gemma.gemma3,
    "gpt2": gpt2.gpt2,
    "gpt_neox": gpt_neox.gpt_neox,
    "llama": llama.llama,
    "mistral": llama.mistral,
    "olmo": olmo.olmo,
    "olmo2": olmo.olmo2,
    "opt": opt.opt,
    "qwen2": llama.qwen2,
    "qwen3": llama.qwen3,
}


def build(config: Mapping[str, Any], weights: Weights) -> Decoder:
    """Build the decoder of a checkpoint.

    Raises `Unsupported` for models that need transformers, `CheckpointError` for weights that do not match.
    """
    family = FAMILIES.get(config.get("model_type", ""))
    if family is None:
        raise Unsupported(f"model type {config.get('model_type')!r}")
    keys = Keys(config)
    keys.must_be("quantization_config", None)
    keys.must_be("use_bidirectional_attention", None, False)
    keys.must_be("add_cross_attention", False)
    try:
        plan = family(keys)
        keys.done()
        decoder = assemble(plan, weights)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise Unsupported(f"config.json has a value this decoder does not support ({error!r})") from error
    weights.finish()
    return decoder
