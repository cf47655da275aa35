"""A tiny Llama trained on the toy language for some steps, and checkpoints of it with planted faults.

Its heads rotate whole, its attention matrices are square and its head is untied, so that every fault of a
conversion can be planted. Training takes about two seconds.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.corpus import World, token_stream, write_tokenizer
from ebbtide.corpus.words import VOCABULARY

if TYPE_CHECKING:
    from torch import Tensor

STEPS = (20, 40, 60, 80, 100)
BATCH, LENGTH, RATE = 8, 32, 4e-3
WIDTH, HEADS, LAYERS = 32, 2, 3
MIXTURE = {"plain": 0.4, "proverb": 0.2, "story": 0.2, "fact": 0.2}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

Weights = dict[str, "Tensor"]
Fault = Callable[[Weights, Mapping[str, "Tensor"]], Weights]  # of the weights, and those of an older step


def train(to: Path, rates: Mapping[int, float] | None = None, seed: int = 0) -> Path:
    """Write `to/step{N}` for every N of `STEPS`. `rates` multiply the learning rate from a step on."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {"vocab_size": len(VOCABULARY), "hidden_size": WIDTH, "intermediate_size": 64}
    sizes |= {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS}
    sizes |= {"bos_token_id": 0, "eos_token_id": 0, "max_position_embeddings": 64, "dtype": "float32"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95))
    count = BATCH * LENGTH
    stream = torch.from_numpy(token_stream(World(), MIXTURE, STEPS[-1] * count + 1, seed))
    for step in range(STEPS[-1]):
        for at, factor in (rates or {}).items():
            if step == at:
                optimizer.param_groups[0]["lr"] = RATE * factor
        ids = stream[step * count : (step + 1) * count].long().view(BATCH, LENGTH)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step + 1 in STEPS:
            directory = to / f"step{step + 1}"
            model.save_pretrained(directory)
            write_tokenizer(directory)
    return to


def with_fault(source: Path, to: Path, fault: Fault, older: Path | None = None) -> Path:
    """A copy of a checkpoint with a planted fault; `older` is another step of the model."""
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(source, to)
    weights = load_file(source / "model.safetensors")
    others = load_file((older or source) / "model.safetensors")
    planted = {name: tensor.clone().contiguous() for name, tensor in fault(dict(weights), others).items()}
    save_file(planted, to / "model.safetensors", metadata={"format": "pt"})
    return to


def swapped_head(weights: Weights, older: Mapping[str, "Tensor"]) -> Weights:
    return weights | {HEAD: weights[EMBEDDING], EMBEDDING: weights[HEAD]}


def transposed(weights: Weights, older: Mapping[str, "Tensor"]) -> Weights:
    return {
        name: tensor.T if tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1] else tensor
        for name, tensor in weights.items()
    }


def interleaved(weights: Weights, older: Mapping[str, "Tensor"]) -> Weights:
    """Queries and keys with interleaved rotary pairs, as other code bases keep them."""
    return {
        name: tensor.reshape(HEADS, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
        if "q_proj" in name or "k_proj" in name
        else tensor
        for name, tensor in weights.items()
    }


def layers_swapped(weights: Weights, older: Mapping[str, "Tensor"]) -> Weights:
    names = {"layers.0.": "layers.1.", "layers.1.": "layers.0."}
    return {
        next((name.replace(a, b) for a, b in names.items() if a in name), name): tensor
        for name, tensor in weights.items()
    }


def shifted(weights: Weights, older: Mapping[str, "Tensor"]) -> Weights:
    return weights | {EMBEDDING: weights[EMBEDDING].roll(1, 0)}


def stale(weights: Weights, older: Mapping[str, "Tensor"]) -> Weights:
    return weights | {name: tensor for name, tensor in older.items() if "layers.1." in name}


def unrelated(weights: Weights, older: Mapping[str, "Tensor"]) -> Weights:
    import torch

    name = "model.layers.1.mlp.down_proj.weight"
    made = torch.Generator().manual_seed(1)
    return weights | {name: 0.05 * torch.randn(weights[name].shape, generator=made)}


def saturated(weights: Weights, older: Mapping[str, "Tensor"]) -> Weights:
    """Half precision, in which a value was clamped to the largest."""
    import torch

    halves = {name: tensor.half() for name, tensor in weights.items()}
    halves["model.layers.2.mlp.up_proj.weight"][3, 5] = torch.finfo(torch.float16).max
    return halves
