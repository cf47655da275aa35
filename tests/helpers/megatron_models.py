"""Tiny GPT models of Megatron-Core: their checkpoints and logits, written by the library on CPUs.

A script for `library_runs.run_library`; the number of processes is that of tensor parallelism.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from library_runs import save_expected

VOCABULARY, PADDED = 60, 64
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
# Megatron-Core has no parallel residual.
NEOX = {**SHAPE, "model_type": "gpt_neox", "use_parallel_residual": False, "hidden_act": "gelu"}
NEOX["rope_parameters"] = {**SHAPE["rope_parameters"], "partial_rotary_factor": 0.5}  # type: ignore[dict-item]
LLAMA = {**SHAPE, "model_type": "llama", "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
GATED = {
    "normalization": "RMSNorm",
    "gated_linear_unit": True,
    "activation_func": functional.silu,
    "add_bias_linear": False,
    "num_query_groups": 2,
}
NORMED = {**GATED, "qk_layernorm": True, "kv_channels": 8}
NAMES = {"non_homogeneous_layers": True}


@dataclass(frozen=True)
class Case:
    """A model: its configuration in transformers and in Megatron-Core, and how its layers are saved."""

    config: dict[str, Any]
    settings: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)


CASES = {
    "llama": Case({**LLAMA, "tie_word_embeddings": False}, GATED),
    "llama, tied": Case({**LLAMA, "tie_word_embeddings": True}, GATED),
    "llama, in names": Case({**LLAMA, "tie_word_embeddings": False}, GATED, NAMES),
    "llama, in halves": Case(
        {**LLAMA, "tie_word_embeddings": False}, GATED, {**NAMES, "singleton_local_shards": True}
    ),
    "llama, interleaved": Case(
        {**LLAMA, "tie_word_embeddings": False}, {**GATED, "rotary_interleaved": True}
    ),
    "qwen2": Case(
        {**LLAMA, "model_type": "qwen2", "tie_word_embeddings": False}, {**GATED, "add_qkv_bias": True}
    ),
    "qwen3": Case({**LLAMA, "model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": False}, NORMED),
    "qwen3, tied, in names": Case(
        {**LLAMA, "model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": True}, NORMED, NAMES
    ),
    "gpt_neox": Case(NEOX, {"activation_func": functional.gelu}),
    "gpt_neox, in names": Case(NEOX, {"activation_func": functional.gelu}, NAMES),
    # The fused GELU, which Megatron's training uses by default, is the approximation with tanh.
    "gpt_neox, fused": Case(
        {**NEOX, "hidden_act": "gelu_new"},
        {"activation_func": functional.gelu, "bias_activation_fusion": True},
    ),
}


def main(to: Path) -> None:
    """Write all cases."""
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel.random import initialize_rng_tracker

    torch.distributed.init_process_group("gloo")
    # The library moves rotary embeddings to the current GPU, and waits for it before it saves.
    torch.cuda.current_device = lambda: "cpu"  # type: ignore[assignment, return-value]
    torch.cuda.synchronize = lambda *_: None  # type: ignore[assignment]
    initialize_rng_tracker(inference_rng_tracker=True)  # the one for training needs a GPU
    parallel_state.initialize_model_parallel(torch.distributed.get_world_size())
    for name, case in CASES.items():
        write(to / name, case)
    torch.distributed.destroy_process_group()


def write(to: Path, case: Case) -> None:
    """Write one checkpoint with random values, and its logits."""
    from megatron.core import dist_checkpointing

    model = built(case)
    fill(model)
    tokens = torch.randint(0, VOCABULARY, (3, 24), generator=torch.Generator().manual_seed(2))
    positions = torch.arange(24).expand(3, 24)
    hidden = torch.ones(24, 24, dtype=torch.bool).triu(1)[None, None]
    with torch.no_grad():
        logits = model.eval()(tokens, positions, hidden)
    (to / "iter_0000007").mkdir(parents=True, exist_ok=True)
    state = {"iteration": 7, "model": model.sharded_state_dict(metadata=case.metadata)}
    dist_checkpointing.save(state, str(to / "iter_0000007"))
    if torch.distributed.get_rank() == 0:
        save_expected(to, tokens, logits[..., :VOCABULARY], case.config)


def built(case: Case) -> Any:
    """The model of a case, with layers that need no Transformer Engine."""
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.transformer_config import TransformerConfig

    config = TransformerConfig(
        num_layers=SHAPE["num_hidden_layers"],
        hidden_size=SHAPE["hidden_size"],
        num_attention_heads=SHAPE["num_attention_heads"],
        ffn_hidden_size=SHAPE["intermediate_size"],
        tensor_model_parallel_size=torch.distributed.get_world_size(),
        use_cpu_initialization=True,
        **case.settings,
    )
    return GPTModel(
        config,
        get_gpt_layer_local_spec(qk_layernorm=config.qk_layernorm, normalization=config.normalization),
        vocab_size=PADDED,
        max_sequence_length=64,
        parallel_output=False,
        share_embeddings_and_output_weights=case.config.get("tie_word_embeddings", False),
        position_embedding_type="rope",
        rotary_percent=case.config["rope_parameters"].get("partial_rotary_factor", 1.0),
    )


def fill(model: Any) -> None:
    """Give every parameter random values, of which each process keeps its part."""
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        shape, split = list(parameter.shape), getattr(parameter, "tensor_model_parallel", False)
        if split:
            shape[parameter.partition_dim] *= ranks
        values = 0.3 * torch.randn(shape, generator=generator) + ("norm.weight" in name)
        if split:
            values = values.chunk(ranks, parameter.partition_dim)[rank]
        parameter.data.copy_(values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
