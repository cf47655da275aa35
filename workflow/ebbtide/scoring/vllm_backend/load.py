"""Load a checkpoint with vLLM, or say in a sentence why that is impossible."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ebbtide.checkpoints.configuration import configuration, context_window, window_key
from ebbtide.checkpoints.load import check_files, count_parameters
from ebbtide.checkpoints.weight_files import weight_files
from ebbtide.errors import EbbtideError, ScoringError, first_line
from ebbtide.parameters import count
from ebbtide.scoring.memory import fits_one_device, is_out_of_memory, release
from ebbtide.scoring.model_scorer import device_for, tokenizers
from ebbtide.scoring.vllm_backend.package import check_package, set_environment

if TYPE_CHECKING:
    from ebbtide.scoring.vllm_backend.scorer import VllmScorer

REMEDY = "set scoring.generation_backend to same"

# Architectures that vLLM computes by other formulas than those published: with GELU in place of its
# approximation, log-likelihoods of BLOOM are off by up to 0.001 nats in float32.
DIFFERENT = frozenset({"BloomForCausalLM"})


def load_vllm_scorer(
    directory: str | Path,
    dtype: str,
    threads: int,
    *,
    tokenizer_directory: str | Path | None = None,
    encoded: bool = False,
    batch: int | None = None,
    cache: int | None = None,
) -> "VllmScorer":
    """Return a `VllmScorer`, with which those before cannot be used any more: a process has one at a time.

    See `engine.load_scorer`, and `vllm_backend.engine.start` for the last two arguments.

    Raises
    ------
    ConfigError
        vLLM is not installed, or in a version that was not tested.
    CheckpointError
        Those of `load_scorer`.
    ScoringError
        vLLM does not support the architecture, the precision or this machine, or needs more than one GPU.
    """
    check_package("scoring.generation_backend: vllm")
    torch.set_num_threads(max(1, threads))
    device = device_for(dtype)
    config = configuration(directory)
    load_tokenizer = tokenizers(directory, tokenizer_directory, encoded=encoded)
    check_files(directory)
    facts = _facts(directory, config)
    if not fits_one_device(weight_files(directory), dtype, device):
        raise ScoringError(
            f"{directory}: the weights do not fit on one GPU, of which vLLM uses one; {REMEDY}."
        )
    release()
    set_environment()
    try:
        _check_support(directory, config, dtype, device)
        from ebbtide.scoring.vllm_backend.engine import start
        from ebbtide.scoring.vllm_backend.scorer import VllmScorer

        engine = start(directory, dtype, device, batch=batch, cache=cache)
    except EbbtideError:
        raise
    except Exception as error:  # vLLM raises many types, for the machine, the memory and the model
        recurs = not is_out_of_memory(error)
        message = f"{directory}: vLLM cannot load it: {first_line(error)}; {REMEDY}."
        raise ScoringError(message, recurs=recurs) from error
    return VllmScorer(
        engine,
        load_tokenizer(facts["vocabulary"]),
        window=context_window(config),
        window_key=window_key(config),
        dtype=dtype,
        device=device,
        **facts,
    )


def _facts(directory: str | Path, config: Mapping[str, Any]) -> dict[str, int]:
    """Rows of the embedding and parameter counts, from a model of transformers without memory."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            own = AutoConfig.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_config(own, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # transformers raises many types
        raise ScoringError(
            f"{directory}: vLLM is used with the models of transformers only: {first_line(error)}; {REMEDY}."
        ) from error
    total, non_embedding = count_parameters(model)
    counted = count(config)
    idle = counted.non_embedding - counted.active_non_embedding if counted else 0
    return {
        "vocabulary": int(model.get_input_embeddings().num_embeddings),
        "parameters_total": total,
        "parameters_non_embedding": non_embedding,
        "parameters_active": non_embedding - idle,
    }


def _check_support(directory: str | Path, config: Mapping[str, Any], dtype: str, device: str) -> None:
    """Raise `ScoringError` for what this build of vLLM does not support."""
    from vllm import ModelRegistry
    from vllm.platforms import current_platform

    if current_platform.device_type != device:
        raise ScoringError(
            f"this build of vLLM is for the device {current_platform.device_type or 'none'}, but weights are "
            f"scored on {device}; install a build for it, or {REMEDY}.",
            recurs=False,
        )
    supported = [str(each).removeprefix("torch.") for each in current_platform.supported_dtypes]
    if dtype not in supported:
        raise ScoringError(
            f"scoring.dtype: found {dtype}, allowed with vLLM: {', '.join(supported)}; set one, or {REMEDY}."
        )
    architectures = set(config.get("architectures") or [])
    known = architectures & set(ModelRegistry.get_supported_archs())
    if not known or known & DIFFERENT:
        why = "vLLM does not compute as published" if known else "vLLM does not support"
        found = ", ".join(sorted(architectures)) or "none"
        raise ScoringError(
            f"{Path(directory) / 'config.json'}: architectures: found {found}, which {why}; {REMEDY}."
        )
