"""Tasks, a tokenizer and checkpoints that need no download: generated text, random weights.

Numbers have many digits and texts few words in common after their beginnings, as in tasks of arithmetic; a
byte-level BPE is trained on the texts themselves.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workloads import Request

VOCABULARY = 50_304  # rows of the embedding, as in Pythia; the tokenizer has far fewer
PIECES = 2_000  # tokens of the tokenizer
START = "<|endoftext|>"
NOUNS = ("river", "window", "garden", "stone", "letter", "market", "winter", "doctor", "engine", "harbour")
VERBS = ("crossed", "opened", "painted", "carried", "followed", "answered", "measured", "remembered")


@dataclass(frozen=True)
class Shape:
    """A GPT-NeoX: width, layers, heads."""

    name: str
    hidden: int
    layers: int
    heads: int


def figures(examples: int) -> list[Request]:
    """Rounding, two choices an example: about 41 tokens that no other example shares, as in Sig Figs."""
    draw = random.Random(0)
    rows = []
    for _ in range(examples):
        a, b, c = (f"{draw.uniform(1, 9):.11f}" for _ in range(3))
        text = f"Please round {a} and {b} to 3 digits.\nA. {b}, {c}\nB. {a[:4]}\nAnswer:"
        rows += [Request(text, choice) for choice in (" A", " B")]
    return rows


def endings(examples: int) -> list[Request]:
    """A sentence to end, two choices an example, like proverbs: short, and most of it shared."""
    draw = random.Random(1)
    rows = []
    for _ in range(examples):
        text = f"Write a sentence that ends in the word {draw.choice(NOUNS)!r}. The {draw.choice(NOUNS)}"
        text += f" {draw.choice(VERBS)} the"
        rows += [Request(text, f" {word}.") for word in draw.sample(NOUNS, 2)]
    return rows


def questions(examples: int, shots: int = 0) -> list[Request]:
    """Questions with choices A and B, after a constant prefix of `shots` answered ones."""
    draw = random.Random(2)

    def question() -> str:
        names = " ".join(draw.choice(NOUNS) for _ in range(6))
        number = draw.randrange(10**6)
        return f"Question: which {names} {draw.choice(VERBS)} {number}?\nA. {names[:9]}\nB. none\nAnswer:"

    prefix = "".join(f"{question()} {draw.choice('AB')}\n\n" for _ in range(shots))
    return [Request(prefix + text, c) for text in (question() for _ in range(examples)) for c in (" A", " B")]


def write_tokenizer(to: Path) -> None:
    """Train a byte-level BPE on the texts above and write its files."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=[START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [r.context + r.continuation for r in (*figures(500), *endings(500), *questions(500))]
    tokenizer.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=START, eos_token=START)
    made.save_pretrained(to)


def write_checkpoint(shape: Shape, to: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Random weights (seed 0) and the tokenizer, as a checkpoint directory at `to`."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=0,
    )
    model: Any = GPTNeoXForCausalLM(config)
    model.to(dtype).save_pretrained(to)
    write_tokenizer(to)
    return to
