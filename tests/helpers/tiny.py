"""Tiny checkpoints, requests and cells for tests: no training, no randomness, milliseconds."""

from pathlib import Path
from typing import Any

import pandas as pd

from ebbtide.cells.store import MAGIC, SEAL_KEY, UNSEALED, Identity, path_of, seal
from ebbtide.corpus import write_tokenizer
from ebbtide.corpus.words import VOCABULARY
from ebbtide.scoring.version import SCORING_VERSION
from ebbtide.tables import REQUESTS, write_parquet

WINDOW = 48  # tokens
FAMILIES = ("gpt_neox", "llama", "gpt2", "opt", "bloom")
BPE_VOCABULARY = 280

# Words of the toy language; contexts share beginnings, continuations have one to four tokens.
ROWS = [
    ("0", 0, "the old child", " is young", True),
    ("0", 1, "the old child", " is not young .", False),
    ("1", 0, "every tall", " a", False),
    ("1", 1, "every tall", " the short", True),
    ("2", 0, "", "no pattern", True),
    ("2", 1, "", "who", False),
]


def model(family: str, *, vocabulary: int = len(VOCABULARY)) -> Any:
    """A model of two layers in float64 whose weights are a formula of their names' order."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, Any] = {"vocab_size": vocabulary, "hidden_size": 16, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    if family != "bloom":
        sizes["max_position_embeddings"] = WINDOW
    sizes |= {
        "gpt_neox": {"intermediate_size": 32},
        "llama": {"intermediate_size": 32, "num_key_value_heads": 1, "tie_word_embeddings": True},
        "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    }.get(family, {})
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes)).double().eval()
    with torch.no_grad():
        for number, (name, weight) in enumerate(sorted(made.named_parameters()), start=1):
            steps = torch.arange(1, weight.numel() + 1, dtype=torch.float64)
            centre = 1.0 if weight.ndim == 1 and name.endswith("weight") else 0.0  # of a normalisation
            weight.copy_(centre + 0.5 * torch.sin(0.7 * number * steps).reshape(weight.shape))
    return made


def checkpoint(
    directory: Path, family: str = "gpt_neox", *, scale: float = 1.0, vocabulary: int = len(VOCABULARY)
) -> Path:
    """A checkpoint in Hugging Face layout (float32) with the toy language's tokenizer.

    `scale` multiplies the weights: another scale is another checkpoint.
    """
    import torch

    made = model(family, vocabulary=vocabulary)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(scale)
    made.float().save_pretrained(directory)
    write_tokenizer(directory)
    return directory


def hollow_checkpoint(directory: Path, number: int = 0) -> Path:
    """A directory in Hugging Face layout for the fake back end, made without torch.

    Its configuration is that of `model("gpt_neox")`; its weights are the `number`, which makes their digest.
    """
    import json

    import numpy as np
    from safetensors.numpy import save_file

    config: dict[str, Any] = {"model_type": "gpt_neox", "vocab_size": len(VOCABULARY), "hidden_size": 16}
    config |= {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config | {"max_position_embeddings": WINDOW}))
    save_file({"number": np.full(1, number, dtype=np.float32)}, directory / "model.safetensors")
    write_tokenizer(directory)
    return directory


def hollow_model(directory: Path, layers: int) -> dict[str, Any]:
    """A checkpoint for the fake back end, of a size of its own, as a row of a study beside `models/`."""
    import json

    hollow_checkpoint(directory / "step1", layers)
    config = directory / "step1/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": layers}))
    path = f"models/{directory.name}/step{{step}}"
    return {"name": directory.name, "path": path, "steps": [1], "tokens_per_step": 1000}


def bpe(*, beginning: bool = False, end: bool = False) -> Any:
    """A byte-level BPE tokenizer that merges `ab` and `Ġab`; its post-processor may add ids 0 and 1."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["ab ab ab ab cd ab cd abcd"], trainer)
    template = f"{'<s> ' if beginning else ''}$A{' </s>' if end else ''}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def requests(path: Path, rows: list[tuple[Any, ...]] = ROWS, task: str = "task-1") -> Path:
    """A frozen task of (example, choice, context, continuation, gold); its identity is `task`."""
    columns = ["example", "choice", "context", "continuation", "gold"]
    write_parquet(pd.DataFrame(rows, columns=columns), path, REQUESTS, {"identity": task})
    return path


def identity(task: str = "task-1", **changes: Any) -> dict[str, Any]:
    """Identity of a cell of a made-up checkpoint."""
    return {
        "weights": "files:0",
        "tokenizer": "toy",
        "task": task,
        "recipe": SCORING_VERSION,
        "dtype": "float32",
        "encoding": "harness",
        "bos": "tokenizer",
        "truncation": "left",
        "max_length": None,
        **changes,
    }


def cell_rows(examples: int = 3, choices: int = 2) -> pd.DataFrame:
    """Rows of a valid cell."""
    n = examples * choices
    return pd.DataFrame(
        {
            "example": [str(i // choices) for i in range(n)],
            "choice": [i % choices for i in range(n)],
            "loglikelihood": [-1.0 - i for i in range(n)],
            "tokens": 1,
            "bytes": 2,
            "characters": 2,
            "greedy": False,
            "first_token_loglikelihood": [-1.0 - i for i in range(n)],
            "context_tokens": 3,
            "truncated": False,
        }
    )


def stored(store: Path, of: Identity) -> Path:
    """Put the least file that the store takes for a cell of this identity into `store`."""
    from ebbtide.files import canonical_json

    footer = f"{canonical_json(dict(of))}{SEAL_KEY}@{UNSEALED}".encode()
    path = path_of(store, of)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(MAGIC + footer + len(footer).to_bytes(4, "little") + MAGIC)
    seal(path)
    return path
