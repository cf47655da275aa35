"""Tiny checkpoints in the formats of trainers, written by torch itself."""

import json
import warnings
from pathlib import Path
from typing import Any

import tiny
from ebbtide.checkpoints.formats.conversion import convert_to_directory
from ebbtide.checkpoints.formats.planning import (
    Reading,
    conversion_spec,
    converted_directory,
    locate_source,
)
from ebbtide.corpus import write_tokenizer

Tensors = dict[str, Any]


def dcp(directory: Path, state: dict[str, Any]) -> Path:
    """A directory of torch.distributed.checkpoint, written by one process."""
    import torch.distributed.checkpoint as written

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written.save(state, checkpoint_id=directory, no_dist=True)
    return directory


def olmo_core(directory: Path, model: Tensors) -> Path:
    """A step of OLMo-core: its configuration, and a distributed checkpoint with its own record of places."""
    import pickle

    import torch

    optimizer = {f"state.{name}.exp_avg": torch.zeros_like(tensor) for name, tensor in model.items()}
    to = dcp(directory / "model_and_optim", {"model": model, "optim": optimizer})
    own = {"model": {"_CLASS_": "olmo_core.nn.transformer.config.TransformerConfig", "d_model": 16}}
    (directory / "config.json").write_text(json.dumps(own))
    # Protocol 2 spells names of classes without their length, so that they can be replaced.
    described = pickle.dumps(pickle.loads((to / ".metadata").read_bytes()), protocol=2)
    place = b"distributed.checkpoint.filesystem\n_StorageInfo"
    assert b"torch." + place in described
    (to / ".metadata").write_bytes(described.replace(b"torch." + place, b"olmo_core." + place))
    return to


def sharded(directory: Path, state: Tensors, processes: int) -> Path:
    """A distributed checkpoint of several processes, which have each saved some rows of every tensor."""
    rows = {}
    for name, tensor in state.items():
        sizes = [len(part) for part in tensor.chunk(processes)]
        rows[name] = [(sum(sizes[:number]), size) for number, size in enumerate(sizes)]
    return _distributed(directory, state, rows)


def pieces(directory: Path, name: str, tensor: Any, rows: list[tuple[int, int]]) -> Path:
    """A distributed checkpoint of one tensor in pieces: the first row of each, and its rows."""
    return _distributed(directory, {name: tensor}, {name: rows})


def _distributed(directory: Path, state: Tensors, rows: dict[str, list[tuple[int, int]]]) -> Path:
    import io
    import pickle

    import torch
    from torch.distributed.checkpoint import filesystem, metadata

    directory.mkdir(parents=True)
    described, storage, files = {}, {}, [bytearray() for _ in range(max(map(len, rows.values())))]
    for name, tensor in state.items():
        chunks = []
        for process, (first, size) in enumerate(rows[name]):
            offsets = torch.Size([first, *[0] * (tensor.ndim - 1)])
            chunks.append(metadata.ChunkStorageMetadata(offsets, torch.Size([size, *tensor.shape[1:]])))
            saved = io.BytesIO()
            torch.save(tensor[first : first + size].clone(), saved)
            place = (f"__{process}_0.distcp", len(files[process]), saved.tell())
            storage[metadata.MetadataIndex(name, offsets)] = filesystem._StorageInfo(*place)
            files[process] += saved.getvalue()
        properties = metadata.TensorProperties(dtype=tensor.dtype)
        described[name] = metadata.TensorStorageMetadata(properties, tensor.shape, chunks)
    for process, content in enumerate(files):
        (directory / f"__{process}_0.distcp").write_bytes(content)
    whole = metadata.Metadata(described, storage_data=storage)
    (directory / ".metadata").write_bytes(pickle.dumps(whole))
    return directory


def pt(path: Path, state: object) -> Path:
    """A file of torch.save."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def tensors_of(family: str, scale: float = 1.0) -> Tensors:
    """The state dictionary of a tiny model in float32, as `tiny.checkpoint` saves it."""
    made = tiny.model(family)
    return {name: (tensor * scale).float() for name, tensor in made.state_dict().items()}


def beside(directory: Path, family: str) -> Path:
    """Write the configuration and the tokenizer of a tiny model into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    tiny.model(family).float().config.save_pretrained(directory)
    write_tokenizer(directory)
    return directory


def reading(of_format: str, of_map: str = "huggingface", **more: Any) -> Reading:
    """How a test reads a checkpoint."""
    given = {"config": None, "tokenizer": None, "where": "study.yaml: models[0]"}
    return Reading(of_format, of_map, **{**given, **more})


def converted(path: Path, reading: Reading, record: Path = Path("resources/source.json")) -> Path:
    """The directory that planning names and the job makes."""
    located = locate_source(path, record, reading)
    to = converted_directory(record, located.weights)
    convert_to_directory(json.loads(json.dumps(conversion_spec(path, reading))), to)
    return to


def nanogpt(state: Tensors, prefix: str = "_orig_mod.") -> dict[str, Any]:
    """What nanoGPT saves of a GPT-2 with these tensors: linear layers instead of Conv1D, and an optimizer."""
    import torch

    linear = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    model = {
        f"{prefix}{name}": tensor.t().contiguous() if name.endswith(linear) else tensor
        for name, tensor in state.items()
    }
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": tiny.WINDOW}
    return {
        "model": model,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "model_args": {**sizes, "bias": True, "vocab_size": state["transformer.wte.weight"].shape[0]},
        "iter_num": 10,
        "best_val_loss": torch.tensor(1.5),
        "config": {"dataset": "toy"},
    }


def megatron(state: Tensors, *, groups: int, width: int, layers_in: str, padding: int = 8) -> Tensors:
    """The tensors of Megatron-Core for those of a Llama with heads of this width in query groups.

    Of each group, the fused QKV has the queries, then the key, then the value. `layers_in` is `tensors`, one
    for all layers; `names`; or `halves`: in names, with the two parts of SwiGLU in tensors of their own.
    """
    import torch

    def rows(name: str) -> Any:
        return torch.cat([state[name], torch.zeros(padding, state[name].shape[1])])

    layers: list[Tensors] = []
    while (at := f"model.layers.{len(layers)}") + ".input_layernorm.weight" in state:
        queries, keys, values = (state[f"{at}.self_attn.{part}_proj.weight"] for part in "qkv")
        each = len(queries) // groups
        fused = []
        for group in range(groups):
            own = slice(group * width, (group + 1) * width)
            fused += [queries[group * each : (group + 1) * each], keys[own], values[own]]
        gate, up = (state[f"{at}.mlp.{part}_proj.weight"] for part in ("gate", "up"))
        halves = {"mlp.linear_fc1.weight": torch.cat([gate, up])}
        if layers_in == "halves":
            halves = {"mlp.linear_fc1.weight_w": gate, "mlp.linear_fc1.weight_v": up}
        layers.append(
            {
                "self_attention.linear_qkv.layer_norm_weight": state[f"{at}.input_layernorm.weight"],
                "self_attention.linear_qkv.weight": torch.cat(fused),
                "self_attention.linear_proj.weight": state[f"{at}.self_attn.o_proj.weight"],
                "mlp.linear_fc1.layer_norm_weight": state[f"{at}.post_attention_layernorm.weight"],
                **halves,
                "mlp.linear_fc2.weight": state[f"{at}.mlp.down_proj.weight"],
            }
        )
    found: Tensors = {
        "embedding.word_embeddings.weight": rows("model.embed_tokens.weight"),
        "output_layer.weight": rows("lm_head.weight"),
        "decoder.final_layernorm.weight": state["model.norm.weight"],
        "optimizer.state.exp_avg.decoder.final_layernorm.weight": torch.ones(4),
    }
    return found | in_layers(layers, stacked=layers_in == "tensors")


def in_layers(layers: list[Tensors], *, stacked: bool) -> Tensors:
    """The tensors of Megatron-Core's layers: one for all of them, or with the layer in names."""
    import torch

    if stacked:
        return {f"decoder.layers.{name}": torch.stack([one[name] for one in layers]) for name in layers[0]}
    return {
        f"decoder.layers.{number}.{name}": tensor
        for number, layer in enumerate(layers)
        for name, tensor in layer.items()
    }
