"""A probe of loaded models: predictions must not depend on later tokens.

transformers also loads encoders as causal language models (BERT, RoBERTa, XLNet, decoders whose configuration
makes attention bidirectional). Their "log-likelihoods" depend on the scored token itself, on later tokens and
on the padding of a batch. Our own decoder is causal by construction, and refuses such configurations.
"""

from pathlib import Path
from typing import Any

import torch

from ebbtide.errors import CheckpointError, first_line
from ebbtide.scoring.memory import is_out_of_memory, out_of_memory_message
from ebbtide.scoring.padded import input_device

LENGTH = 8  # tokens of a text
ENDINGS = 4  # texts that differ in the last token only
# Largest change before the last token, relative to that at the last token, that may be rounding. Most models
# have none, because a token is rounded alike whatever other texts contain. Mixtures of experts, whose tokens
# share matrices, and kernels that add in any order have a few units in the last place.
TOLERANCE = 1e-4
TOLERANCE_16_BIT = 0.03

# Values of a configuration that make a model look at later tokens.
FLAGS = {"is_decoder": False, "is_causal": False, "use_bidirectional_attention": True, "attn_type": "bi"}


def check_causality(model: Any, directory: str | Path) -> None:
    """Raise `CheckpointError` if the logits before the last token depend on the last token.

    One forward pass of `LENGTH` × `ENDINGS` tokens. Also raises it for a model that cannot be called as a
    causal language model.
    """
    vocabulary = int(model.get_input_embeddings().num_embeddings)
    texts = torch.tensor([(7 * i + 3) % vocabulary for i in range(LENGTH)]).repeat(ENDINGS, 1)  # (B, T)
    texts[:, -1] += torch.arange(ENDINGS)
    texts[:, -1] %= vocabulary
    try:
        with torch.inference_mode():
            logits = model(texts.to(input_device(model)), use_cache=False, logits_to_keep=LENGTH).logits
    except Exception as error:  # anything that the model's code raises for an unsupported call
        if is_out_of_memory(error):
            raise CheckpointError(f"{directory}: {out_of_memory_message('the model')}") from error
        raise CheckpointError(
            f"{directory}: model type {model.config.model_type!r} cannot be called as a causal language "
            f"model ({type(error).__name__}: {first_line(error)})."
        ) from error
    moved = (logits[1:].double() - logits[:1].double()).abs().amax(dim=(0, 2))  # (T,)
    before, last = float(moved[:-1].max()), float(moved[-1])
    tolerance = TOLERANCE if logits.dtype in (torch.float32, torch.float64) else TOLERANCE_16_BIT
    if not before > tolerance * last:  # also if they are no numbers, which scoring reports
        return
    found = [
        f"{name}: {value}" for name, value in FLAGS.items() if getattr(model.config, name, None) == value
    ]
    raise CheckpointError(
        f"{directory}: model type {model.config.model_type!r} is not causal: another last token changes the "
        f"logits before it by up to {before:.2g} (its own by {last:.2g}). Only causal language models have "
        f"log-likelihoods of continuations; {_remedy(found)}."
    )


def _remedy(found: list[str]) -> str:
    if found:
        return f"its configuration has {', '.join(found)}, so use a checkpoint that was trained as a decoder"
    return "use a checkpoint that was trained as a decoder"
