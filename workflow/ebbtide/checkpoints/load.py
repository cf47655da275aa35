"""Load a checkpoint directory with transformers, and count its parameters."""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.configuration import configuration
from ebbtide.checkpoints.header import Header
from ebbtide.checkpoints.hub.fetched import allows_remote_code
from ebbtide.checkpoints.weight_files import check_small_files, read_headers, repeated_tensors, weight_files
from ebbtide.errors import CheckpointError, first_line
from ebbtide.notices import listed
from ebbtide.parameters import count

if TYPE_CHECKING:
    from torch import nn

PACKED = 16  # most quantised weights in one stored value: two bits each in 32


def load_model(
    directory: str | Path, dtype: str, *, device_map: str | None = None, offload: bool = False
) -> "nn.Module":
    """Load a causal language model with transformers, from safetensors only and without network access.

    Code in the directory runs only if the checkpoint was fetched with `remote_code` (see `hub.fetched`).

    Parameters
    ----------
    dtype
        `float32`, `float64`, `bfloat16` or `float16`: the precision to score in.
    device_map
        `auto` distributes the model over all visible GPUs (needs accelerate).
    offload
        Whether the part that does not fit on them may stay in CPU memory.

    Raises
    ------
    CheckpointError
        Missing files, missing or unexpected tensors, an unknown architecture, non-finite weights, no
        accelerate package, or GPUs that are too small.
    """
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    check_files(directory)
    if device_map and not find_spec("accelerate"):
        raise CheckpointError(
            f"{directory} does not fit on one device; to distribute it over several, pip install accelerate."
        )
    model, problems = _read(directory, dtype=getattr(torch, dtype), device_map=device_map)
    if device_map and not offload:
        # transformers sets the map only of a model on several devices.
        _refuse_offloaded(directory, getattr(model, "hf_device_map", {"": model.device.type}))
    _check_tensors(directory, model, problems)
    if dtype == "float64" and hasattr(model, "set_experts_implementation"):
        # The default of mixtures of experts, one multiplication for all experts, does not support float64.
        model.set_experts_implementation("eager")
    return model.eval()  # type: ignore[no-any-return]


def check_files(directory: str | Path) -> None:
    """Raise `CheckpointError` for files that transformers would read wrongly, or without bounds."""
    headers = read_headers(weight_files(directory))
    config = configuration(directory)
    check_small_files(directory)
    _check_size(directory, config, headers)
    if repeated := repeated_tensors(Path(directory), headers):
        raise CheckpointError(
            f"{directory}: tensors in two files, for which transformers ignores the index: "
            f"{', '.join(repeated[:3])}; save the checkpoint again."
        )


def _read(directory: str | Path, **options: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return the model that transformers loads, and the tensors that do not fit its configuration."""
    from transformers import AutoModelForCausalLM

    trusted = allows_remote_code(directory)
    if configuration(directory).get("attn_logit_softcapping"):
        options["attn_implementation"] = "eager"  # the default of transformers 5.19 ignores the cap
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(directory),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=trusted,
            ignore_mismatched_sizes=True,  # `_check_tensors` reports them
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # transformers raises many types for an unreadable directory
        if "auto_map" in configuration(directory) and not trusted:
            raise CheckpointError(
                f"{directory} needs its own Python code (auto_map in its config.json), which runs only for "
                "hub models with remote_code: true."
            ) from error
        raise CheckpointError(f"{directory} cannot be loaded: {first_line(error)}.") from error
    model, problems = loaded
    return model, problems


def _check_tensors(directory: str | Path, model: "nn.Module", problems: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` for missing, unexpected and mismatched tensors, and for non-finite values."""
    import torch

    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if problems[what]:
            names = ", ".join(sorted(str(k) for k in problems[what])[:5])
            raise CheckpointError(f"{directory}: {what.replace('_', ' ')} in the weights: {names}.")
    for name, tensor in model.named_parameters():
        if not tensor.is_meta and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{directory}: tensor {name} has non-finite values.")


def _refuse_offloaded(directory: str | Path, places: Mapping[str, Any]) -> None:
    outside = [module or "the model" for module, place in places.items() if place in ("cpu", "disk")]
    if outside:
        raise CheckpointError(
            f"{directory} does not fit on the visible GPUs: {listed(outside, 3)} would stay in CPU memory. "
            "Provide another GPU, or set scoring.offload: true, which is slow."
        )


def _check_size(directory: str | Path, config: Mapping[str, Any], headers: Mapping[Path, Header]) -> None:
    """Raise `CheckpointError` if the configuration describes a far larger model than the weights.

    transformers would allocate what the files lack. Quantised weights have several values in one.
    """
    described = count(config)
    stored = sum(math.prod(tensor.shape) for header in headers.values() for tensor in header.tensors)
    if described and described.total > PACKED * stored:
        raise CheckpointError(
            f"{directory}: config.json describes {described.total:,} parameters, but the weights have "
            f"{stored:,} values; copy the files again."
        )


def count_parameters(model: "nn.Module") -> tuple[int, int]:
    """Return the total and the non-embedding parameters of a model. A tied matrix counts once.

    Embeddings are all `nn.Embedding` modules (tokens, learned positions) and the output matrix.
    """
    from torch import nn

    total = sum(p.numel() for p in model.parameters())
    embeddings = {
        id(p): p.numel() for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()
    }
    head = model.get_output_embeddings()  # type: ignore[operator]
    if head is not None:
        embeddings |= {id(p): p.numel() for p in head.parameters()}
    return total, total - sum(embeddings.values())
