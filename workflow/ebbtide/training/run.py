"""The training loop with its model and optimizer. Imports torch and transformers."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ebbtide.corpus import token_stream
from ebbtide.corpus.words import VOCABULARY
from ebbtide.errors import CheckpointError
from ebbtide.logs import Progress
from ebbtide.training.spec import POSITIONS, Corpus, Recipe, Shape, Spec
from ebbtide.training.state import load_state, save_state

_HELD_OUT_TOKENS = 8192
_HELD_OUT_LENGTH = 64  # tokens; the same for every recipe, so that losses are comparable
_SHOW_EVERY = 16  # steps


def run(
    spec: Spec,
    missing: Sequence[int],
    state: Path,
    save: Callable[[int, GPTNeoXForCausalLM, float], None],
    progress: Progress,
) -> None:
    """Train up to the last step of `missing` (ascending), and call `save` at each of them.

    `save` takes the step, the model and its held-out loss (nats per token). Training resumes from `state` if
    that belongs to this recipe and is not past the first missing step.
    Raises `CheckpointError` if the loss is not finite.
    """
    recipe, last = spec.recipe, missing[-1]
    batch_tokens = recipe.batch * recipe.length
    with _reproducible(recipe.seed):
        model = _model(spec.model)
        optimizer = _optimizer(model, recipe)
        start = load_state(state, spec.identity(), missing[0], model, optimizer)
        text = _tokens(spec.corpus, last * batch_tokens + 1, spec.corpus.seed)
        # Seeds of training text are not negative, so no model of the ladder was trained on this stream.
        held_out = _tokens(spec.corpus, _HELD_OUT_TOKENS + 1, -1 - spec.corpus.seed)
        began, saved = time.monotonic(), len(spec.checkpoints) - len(missing)
        for step in range(start, last + 1):
            if step in missing:
                save(step, model, _held_out_loss(model, held_out, spec, step))
                saved += 1
                if 0 < step < last:
                    save_state(state, spec.identity(), step, model, optimizer)
            if step == last:
                break
            batch = text[step * batch_tokens : (step + 1) * batch_tokens + 1]
            loss = _update(model, optimizer, batch, recipe, spec.model.learning_rate * _rate(recipe, step))
            if (step + 1) % _SHOW_EVERY == 0:
                speed = (step + 1 - start) * batch_tokens / (time.monotonic() - began)
                progress.show(
                    f"checkpoint {saved} of {len(spec.checkpoints)}, step {step + 1} of {recipe.steps},"
                    f" loss {loss.item():.3f}, {speed:,.0f} tokens/s"
                )


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """One thread, deterministic kernels, seeded weights; torch's settings are restored afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def _model(shape: Shape) -> GPTNeoXForCausalLM:
    config = GPTNeoXConfig(
        architectures=["GPTNeoXForCausalLM"],
        dtype="float32",
        vocab_size=len(VOCABULARY),
        hidden_size=shape.width,
        intermediate_size=4 * shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0},
        tie_word_embeddings=False,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return GPTNeoXForCausalLM(config)


def _optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]  # biases and norms are not decayed
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=recipe.betas, fused=True)


def _tokens(corpus: Corpus, count: int, seed: int) -> Tensor:
    return torch.from_numpy(token_stream(corpus.world, corpus.mixture, count, seed))


def _rate(recipe: Recipe, step: int) -> float:
    """Learning rate as a fraction of its peak: linear warm-up times one cosine to `final_fraction`."""
    warm = min(1.0, (step + 1) / max(1, recipe.warmup))
    cosine = (1 + math.cos(math.pi * step / recipe.steps)) / 2
    return warm * (recipe.final_fraction + (1 - recipe.final_fraction) * cosine)


def _update(
    model: GPTNeoXForCausalLM, optimizer: torch.optim.AdamW, batch: Tensor, recipe: Recipe, rate: float
) -> Tensor:
    """Make one update on `batch`, (batch × length + 1,) ids in stream order; return the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = _loss(model, batch, recipe.length)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def _loss(model: GPTNeoXForCausalLM, ids: Tensor, length: int) -> Tensor:
    """Mean next-token loss in nats over `ids` (n × length + 1,), split into n rows."""
    logits = model(input_ids=ids[:-1].view(-1, length), use_cache=False).logits  # (n, length, V)
    return cross_entropy(logits.flatten(0, 1), ids[1:])


@torch.no_grad()
def _held_out_loss(model: GPTNeoXForCausalLM, held_out: Tensor, spec: Spec, step: int) -> float:
    loss = _loss(model, held_out, _HELD_OUT_LENGTH).item()
    if not math.isfinite(loss):
        raise CheckpointError(
            f"model.learning_rate {spec.model.learning_rate} is too large: training diverged before"
            f" step {step} (held-out loss {loss}); lower it."
        )
    return loss
