"""Hugging Face checkpoints written as GGUF in llama.cpp's layouts, by the writer of the package gguf."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ARCHITECTURES = {  # model_type → general.architecture, where they differ
    "gpt_neox": "gptneox",
    "gemma3_text": "gemma3",
    "mistral": "llama",
}


def write_gguf(
    checkpoint: Path,
    file: Path,
    *,
    quantisation: str = "F32",
    tokenizer: Path | None = None,
    change: Callable[[dict[str, np.ndarray], dict[str, Any]], None] | None = None,
    **metadata: Any,
) -> Path:
    """Write a checkpoint as GGUF. Matrices have the type `quantisation`, all other tensors float32.

    The vocabulary is that of `tokenizer`, whose first token is special, or a few tokens without types.
    `change` may edit tensors and metadata; `metadata` replace those of the model, or remove them (None).
    """
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((checkpoint / "config.json").read_text())
    architecture = ARCHITECTURES.get(config["model_type"], config["model_type"])
    code = next(code for code, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    names = gguf.get_tensor_name_map(code, layers)
    tensors = {}
    for name, values in load_file(checkpoint / "model.safetensors").items():
        to = names.get_name(name.removeprefix("transformer."), try_suffixes=(".weight", ".bias"))
        assert to is not None, name
        tensors[to] = _as_llama_cpp(config, name, values)
    keys = _metadata(config, architecture) | metadata
    if change is not None:
        change(tensors, keys)
    writer = gguf.GGUFWriter(file, keys.pop("general.architecture", architecture))
    if tokenizer is None:
        writer.add_token_list(["<unk>", "a", "b"])
    else:
        vocabulary = json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"]
        writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
        writer.add_token_types([3, *[1] * (len(vocabulary) - 1)])
    for key, value in keys.items():
        if value is not None:
            _add(writer, key, value)
    kind = gguf.GGMLQuantizationType[quantisation]
    for name, values in tensors.items():
        if values.ndim < 2 or quantisation == "F32" or name.startswith("rope"):
            writer.add_tensor(name, values.astype(np.float32))
        elif quantisation == "F16":
            writer.add_tensor(name, values.astype(np.float16))
        else:
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        writer.add_string(key, value)


def _as_llama_cpp(config: dict[str, Any], name: str, values: np.ndarray) -> np.ndarray:
    """What llama.cpp's conversion does to a tensor."""
    family, heads = config["model_type"], config.get("num_attention_heads", config.get("n_head"))
    if family in ("llama", "mistral", "olmo") and ("q_proj" in name or "k_proj" in name):
        heads = config.get("num_key_value_heads", heads) if "k_proj" in name else heads
        halves = values.reshape(heads, 2, -1, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)
    if family == "gpt2" and values.ndim == 2 and ".h." in name:
        return np.ascontiguousarray(values.T)
    if "query_key_value" in name:
        by_head = values.reshape(heads, 3, -1, *values.shape[1:])
        return by_head.swapaxes(0, 1).reshape(values.shape)
    if family.startswith("gemma") and name.endswith("norm.weight"):
        return values + 1
    return values


def _metadata(config: dict[str, Any], architecture: str) -> dict[str, Any]:
    """The metadata that llama.cpp's conversion writes for the families of the tests."""
    width = config.get("hidden_size", config.get("n_embd"))
    heads = config.get("num_attention_heads", config.get("n_head"))
    window = config.get("max_position_embeddings", config.get("n_positions", config.get("seq_length", 64)))
    found = {
        "block_count": config.get("num_hidden_layers", config.get("n_layer")),
        "context_length": window,
        "embedding_length": width,
        "feed_forward_length": config.get("intermediate_size") or config.get("n_inner") or 4 * width,
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads"),
        "attention.layer_norm_rms_epsilon": config.get("rms_norm_eps"),
        "attention.layer_norm_epsilon": config.get("layer_norm_eps", config.get("layer_norm_epsilon")),
        "use_parallel_residual": config.get("use_parallel_residual"),
        "attention.clamp_kqv": config.get("clip_qkv"),
        "attn_logit_softcapping": config.get("attn_logit_softcapping"),
        "final_logit_softcapping": config.get("final_logit_softcapping"),
    }
    if config["model_type"] == "olmo":
        found["attention.layer_norm_epsilon"] = 1e-5
    if "head_dim" in config:
        found |= {f"attention.{part}_length": config["head_dim"] for part in ("key", "value")}
    if config["model_type"] in ("gemma2", "gemma3_text"):
        found["attention.sliding_window"] = config["sliding_window"]
    rope = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    if rope:
        size = config.get("head_dim") or width // heads
        found["rope.freq_base"] = float(rope["rope_theta"])
        found["rope.dimension_count"] = int(rope.get("partial_rotary_factor", 1) * size)
        if rope["rope_type"] == "linear":
            found |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
    return {f"{architecture}.{key}": value for key, value in found.items() if value is not None}
