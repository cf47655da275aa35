"""Causal transformers models as a `Body`, and the test of whether a model can be one."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebbtide.errors import ScoringError
from ebbtide.logs import log
from ebbtide.scoring.chunks import Chunk
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.families import FAMILIES
from ebbtide.scoring.head import vocabulary_slices
from ebbtide.scoring.padded import input_device, score_padded
from ebbtide.scoring.scorer import Counters
from ebbtide.scoring.walk import score_trie

# Model types that respect the given mask and positions at any depth; each has a test. Other types may have
# their own windows, biases or caches that a small probe cannot detect.
TESTED_TYPES = frozenset(FAMILIES) - {"bloom"} | {
    "apertus",
    "arcee",
    "exaone4",
    "glm",
    "glm4",
    "gptj",
    "nemotron",
    "olmo3",
    "phi",
    "phi3",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
}
# Each token attends to all of its chunk, so chunks are shorter than those of our own decoder.
PREFERRED_TOKENS = {"cpu": 512, "cuda": 4096}


class TransformersBody:
    """A model with the standard interface: a 4-D mask, `position_ids`, a `DynamicCache`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._windows = attention_windows(model.config)
        self.start()

    @property
    def device(self) -> torch.device:
        """See `Body`."""
        return input_device(self._model)

    @property
    def preferred_tokens(self) -> int:
        """See `Body`."""
        return PREFERRED_TOKENS.get(self.device.type, PREFERRED_TOKENS["cpu"])

    def bytes_per_token(self, depth: int) -> int:
        """See `Body`: an estimate for a decoder of this width, plus its masks."""
        config = self._model.config
        width, layers = config.hidden_size, config.num_hidden_layers
        masks = len(self._windows) * (depth + self.preferred_tokens)
        return int(self._model.dtype.itemsize * (width * (24 + 2 * layers) + masks))

    def start(self) -> None:
        """See `Body`."""
        from transformers import DynamicCache

        # Full-attention layers even for sliding windows: the mask implements the window.
        self._cache: Any = DynamicCache()
        self._kept: list[tuple[Tensor, Tensor]] = []  # keys and values (1, heads, P, h) of the path

    def forward(self, chunk: Chunk) -> Tensor:
        """See `Body`."""
        model = self._model
        self._restore()  # a forward pass that ran out of memory has left its keys in the cache
        masks = {name: self._mask(chunk, window) for name, window in self._windows.items()}
        output = model.base_model(
            input_ids=chunk.token[None],
            position_ids=chunk.depth[None],
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            past_key_values=self._cache,
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state[0]
        return hidden[chunk.scored.to(hidden.device)]

    def keep(self, slots: Tensor) -> None:
        """See `Body`."""
        gathered = []
        for layer in self._cache.layers:
            index = slots.to(layer.keys.device)
            gathered.append((layer.keys.index_select(2, index), layer.values.index_select(2, index)))
        self._kept = gathered
        self._restore()

    def logits(self, hidden: Tensor) -> Iterator[tuple[int, Tensor]]:
        """See `Body`."""
        head = self._model.get_output_embeddings()
        cap = getattr(self._model.config, "final_logit_softcapping", None)
        if head.weight.device == hidden.device:
            yield from vocabulary_slices(hidden, head.weight, getattr(head, "bias", None), cap)
            return
        logits = head(hidden)  # the weights are on another device, and hooks move them
        yield 0, logits if cap is None else cap * torch.tanh(logits / cap)

    def _restore(self) -> None:
        if not self._kept:
            self._cache.layers.clear()
        for layer, (keys, values) in zip(self._cache.layers, self._kept, strict=False):
            layer.keys, layer.values = keys, values

    def _mask(self, chunk: Chunk, window: int | None) -> Tensor:
        """Additive mask (1, 1, n, P + n), a form that every attention kernel supports."""
        visible, dtype = chunk.mask(chunk.whole(), window), self._model.dtype
        mask = torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)
        return mask[None]


def attention_windows(config: Any) -> dict[str, int | None]:
    """Attention window in tokens of each layer type of a model (None: unlimited), from its configuration.

    Raises `NotImplementedError` for attention types whose mask is not implemented here.
    """
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or [])
    if not kinds:
        return {"all": window}
    known: dict[str, int | None] = {"full_attention": None, "sliding_attention": window}
    if unknown := kinds - set(known):
        raise NotImplementedError(f"layers of kind {', '.join(sorted(unknown))}")
    return {kind: known[kind] for kind in sorted(kinds)}


def is_length_dependent(config: Any) -> bool:
    """Whether rotary positions depend on the longest text of a forward pass, so texts cannot share one."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [parameters, *(value for value in parameters.values() if isinstance(value, dict))]
    return any(kind.get("rope_type") in ("dynamic", "longrope") for kind in kinds)


def body_of(model: Any) -> TransformersBody | None:
    """The model as a `Body` if its type is tested and the trie reproduces its scores; else None.

    The reason for None is logged. Scores are compared on a small tree with branches and with chunk borders
    inside its paths.
    """
    name = type(model).__name__
    if model.config.model_type not in TESTED_TYPES or is_length_dependent(model.config):
        log.warning("%s: padded batches instead of the trie (its type is not tested)", name)
        return None
    vocabulary = int(model.get_input_embeddings().num_embeddings)

    def token(i: int) -> int:
        return (7 * i + 3) % vocabulary

    stem = tuple(token(i) for i in range(5))
    probe = Requests.of(
        [
            Encoded((*stem, *(token(10 * branch + i) for i in range(3))), context=3, truncated=False)
            for branch in range(1, 4)
        ]
    )
    try:
        body = TransformersBody(model)
        found = score_trie(body, probe, Counters(), chunk=4)
    except ScoringError:
        raise
    except Exception as error:  # anything that the model's code raises for an unsupported mask
        log.warning("%s: padded batches instead of the trie (%s)", name, error)
        return None
    expected = score_padded(model, probe, Counters())
    difference = float(np.abs(found.loglikelihood - expected.loglikelihood).max())
    tolerance = 1e-4 if model.dtype in (torch.float32, torch.float64) else 0.1
    if difference <= tolerance:
        return body
    log.warning("%s: padded batches instead of the trie (the two differ by %.2g)", name, difference)
    return None
