"""Tiny transformers of OLMo-core: their checkpoints and logits, written by the library on CPUs.

A script for `library_runs.run_library`; several processes are those of FSDP, for one case only, because
OLMo-core makes one mesh per process.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from library_runs import save_expected

VOCABULARY = 64
LENGTH = 24
WINDOW = 4  # tokens: shorter than the sequences
CPU = torch.device("cpu")
ROPE = {"rope_type": "default", "rope_theta": 500_000.0}
YARN = {**ROPE, "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8}
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "rope_parameters": ROPE,
}
OLMO2 = {**SHAPE, "model_type": "olmo2", "rms_norm_eps": 1e-6}
OLMO3 = {**OLMO2, "model_type": "olmo3", "sliding_window": WINDOW}  # in three of four layers
STRETCHED = {**OLMO3, "rope_parameters": {"full_attention": YARN, "sliding_attention": ROPE}}
LLAMA = {**SHAPE, "model_type": "llama", "rms_norm_eps": 1e-5}
QWEN3 = {**SHAPE, "model_type": "qwen3", "rms_norm_eps": 1e-6, "head_dim": 8}


@dataclass(frozen=True)
class Case:
    """A model: its configuration in transformers, and what its configuration in OLMo-core has in addition."""

    config: dict[str, Any]
    fused: bool = False  # queries, keys and values in one matrix
    exported: bool = False  # OLMo-core can convert it to Hugging Face layout itself


CASES = {
    "olmo2": Case(OLMO2, exported=True),
    "olmo2, tied": Case({**OLMO2, "tie_word_embeddings": True}, exported=True),
    "olmo2, biases": Case({**OLMO2, "attention_bias": True}),
    "olmo2, fused": Case(OLMO2, fused=True),
    "olmo3": Case(OLMO3, exported=True),
    "olmo3, stretched": Case(STRETCHED, exported=True),
    "llama": Case(LLAMA),
    "llama, tied": Case({**LLAMA, "tie_word_embeddings": True}),
    "llama, biases": Case({**LLAMA, "attention_bias": True, "mlp_bias": True}),
    "qwen3": Case(QWEN3),
    "qwen3, tied": Case({**QWEN3, "tie_word_embeddings": True}),
}


def main(to: Path, *names: str) -> None:
    """Write these cases, or all."""
    torch.distributed.init_process_group("gloo")
    for name in names or CASES:
        write(to / name, CASES[name])
    torch.distributed.destroy_process_group()


def write(to: Path, case: Case) -> None:
    """Write one checkpoint with random values, its logits, and OLMo-core's own conversion if it has one."""
    from olmo_core.nn.hf import save_hf_model
    from olmo_core.train.checkpoint import Checkpointer
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    config = core_config(case)
    plain = config.build(init_device="cpu")
    fill(plain)
    tokens = torch.randint(0, VOCABULARY, (3, LENGTH), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = plain.eval()(tokens)
    trained = train_module(config)
    set_model_state_dict(trained.model, plain.state_dict(), options=StateDictOptions(full_state_dict=True))
    step(trained, tokens)
    Checkpointer(work_dir=to / "work").save(to / "step7", trained, {"global_step": 7})
    if torch.distributed.get_rank() == 0:
        save_expected(to, tokens, logits, case.config)
    if case.exported:
        save_hf_model(to / "exported", plain.state_dict(), plain)


def core_config(case: Case) -> Any:
    """The configuration of OLMo-core for a case."""
    from olmo_core.nn.attention import AttentionType, SlidingWindowAttentionConfig
    from olmo_core.nn.layer_norm import LayerNormType
    from olmo_core.nn.rope import YaRNRoPEScalingConfig
    from olmo_core.nn.transformer import TransformerBlockType, TransformerConfig

    family, more = case.config["model_type"], {}
    if family.startswith("olmo"):
        more = {"block_name": TransformerBlockType.reordered_norm, "qk_norm": True}
    elif family == "qwen3":
        more = {"qk_norm": True, "use_head_qk_norm": True, "layer_norm_name": LayerNormType.qwen_rms}
    if "sliding_window" in case.config:
        pattern = [WINDOW, WINDOW, WINDOW, -1]
        windows = SlidingWindowAttentionConfig(pattern, force_full_attention_on_first_layer=False)
        more["sliding_window"] = windows
    made = TransformerConfig.llama_like(
        vocab_size=VOCABULARY,
        d_model=SHAPE["hidden_size"],
        n_layers=SHAPE["num_hidden_layers"],
        n_heads=SHAPE["num_attention_heads"],
        n_kv_heads=SHAPE["num_key_value_heads"],
        head_dim=case.config.get("head_dim"),
        hidden_size_multiple_of=SHAPE["intermediate_size"],
        layer_norm_eps=case.config["rms_norm_eps"],
        tie_word_embeddings=case.config["tie_word_embeddings"],
        **more,
    )
    made.block.sequence_mixer.bias = case.config.get("attention_bias", False)
    made.block.feed_forward.bias = case.config.get("mlp_bias", False)
    if case.fused:
        made.block.sequence_mixer.name = AttentionType.fused_v2
    if case.config is STRETCHED:
        scaling = YaRNRoPEScalingConfig(factor=YARN["factor"], old_context_len=8)
        made = made.with_rope_scaling(scaling, full_attn_layers_only=True)
    return made


def fill(model: Any) -> None:
    """Give every parameter random values."""
    model.init_weights(max_seq_len=LENGTH, device=CPU)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        values = 0.3 * torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(values + ("norm.weight" in name))


def train_module(config: Any) -> Any:
    """What trains a model of this configuration: with FSDP if there are several processes."""
    from olmo_core.config import DType
    from olmo_core.distributed.parallel import DataParallelType
    from olmo_core.optim import AdamWConfig
    from olmo_core.train.train_module import TransformerTrainModule
    from olmo_core.train.train_module.transformer.config import TransformerDataParallelConfig

    sharded = TransformerDataParallelConfig(
        name=DataParallelType.fsdp, param_dtype=DType.float32, reduce_dtype=DType.float32
    )
    return TransformerTrainModule(
        config.build(init_device="cpu"),
        optim=AdamWConfig(lr=0.0),
        rank_microbatch_size=LENGTH,
        max_sequence_length=LENGTH,
        device=CPU,
        dp_config=sharded if torch.distributed.get_world_size() > 1 else None,
    )


def step(trained: Any, tokens: torch.Tensor) -> None:
    """A step of the optimizer, which then has a state; its learning rate is zero."""
    trained.model(tokens).square().mean().backward()
    trained.optim.step()
    trained.optim.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
