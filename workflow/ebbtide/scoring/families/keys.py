"""Reading a model's `config.json`; every key must be known, otherwise the model is unsupported."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional

_IRRELEVANT = """
    _attn_implementation_autoset _name_or_path _sliding_window_pattern activation_dropout architectures
    attention_dropout attention_probs_dropout_prob attention_softmax_in_fp32 attn_pdrop bad_words_ids
    begin_suppress_tokens bias_dropout_fusion bos_token_id cache_implementation classifier_dropout
    decoder_start_token_id dropout dtype embd_pdrop eos_token_id finetuning_task forced_bos_token_id
    forced_eos_token_id gradient_checkpointing hidden_dropout id2label init_std initializer_range is_decoder
    is_llama_config keys_to_ignore_at_inference label2id layerdrop masked_softmax_fusion
    max_position_embeddings model_type n_ctx offset_alibi pad_token_id prefix pretraining_tp problem_type
    resid_pdrop seq_length skip_bias_add skip_bias_add_qkv summary_activation summary_first_dropout
    summary_proj_to_labels summary_type summary_use_proj task_specific_params tokenizer_class torch_dtype
    transformers.js_config transformers_version unk_token_id use_cache
"""
IRRELEVANT = frozenset(_IRRELEVANT.split())  # keys that do not change the forward of a trained model

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
}

SIZES = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "inner": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
}

_REQUIRED = object()


class Unsupported(Exception):  # noqa: N818 (not an error: the checkpoint is loaded by transformers)
    """The checkpoint needs transformers, for the reason in the message."""


class Keys:
    """A configuration that records which of its keys have been read."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._left = set(config) - IRRELEVANT

    def __call__(self, *names: str, default: Any = _REQUIRED) -> Any:
        """The value of the first of these keys that exists and is not null, else the default.

        Raises `Unsupported` if there is neither.
        """
        self._left -= set(names)
        for name in names:
            if self._config.get(name) is not None:
                return self._config[name]
        if default is _REQUIRED:
            raise Unsupported(f"config.json without {' or '.join(names)}")
        return default

    def or_null(self, name: str, default: Any) -> Any:
        """Like `__call__`, but an explicit null gives None instead of the default."""
        return self(name, default=None if name in self._config else default)

    def sizes(self, **own: Any) -> dict[str, Any]:
        """The sizes of an `Architecture`: the given ones, and the usual keys for those missing or None."""
        found = {size: value for size, value in own.items() if value is not None}
        for size, key in SIZES.items():
            if size not in found:
                found[size] = self(key)
        heads = {"key_value_heads": found["heads"], "head_dim": found["width"] // found["heads"]}
        found = {**heads, **found}
        return {"scale": found["head_dim"] ** -0.5, **found}

    def must_be(self, name: str, *allowed: Any) -> None:
        """Raise `Unsupported` if an optional key has another value than the allowed ones."""
        self._left.discard(name)
        if name in self._config and self._config[name] not in allowed:
            raise Unsupported(f"{name} {self._config[name]!r}")

    def activation(self, *names: str, default: str) -> Callable[[Tensor], Tensor]:
        """The activation function of this key."""
        name = self(*names, default=default)
        if name not in ACTIVATIONS:
            raise Unsupported(f"activation {name!r}")
        return ACTIVATIONS[name]

    def rope(self) -> dict[str, Any]:
        """Rotary parameters in the form of transformers 5, from that form or the older keys."""
        new, old = self("rope_parameters", default=None), self("rope_scaling", default=None)
        if new and old:
            raise Unsupported("rope_parameters beside rope_scaling")
        return whole_heads({"rope_theta": self("rope_theta", default=10000.0), **(new or old or {})})

    def windows(self, default: list[int | None], window: int | None) -> list[int | None]:
        """Attention window of each layer in tokens (None: unlimited), from `layer_types` if it exists."""
        kinds = self("layer_types", default=None)
        if kinds is None:
            return default
        known = {"full_attention": None, "sliding_attention": window}
        if set(kinds) - set(known) or len(kinds) != len(default):
            raise Unsupported(f"layer_types {', '.join(sorted(set(kinds)))}")
        return [known[kind] for kind in kinds]

    def done(self) -> None:
        """Raise `Unsupported` for keys that have not been read. Called before weights are read."""
        if self._left:
            raise Unsupported(f"{', '.join(sorted(self._left))} in config.json")


def whole_heads(rope: dict[str, Any]) -> dict[str, Any]:
    """Return these rotary parameters. Raises `Unsupported` if only a part of each head is rotated."""
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise Unsupported("rotary positions in a part of each head")
    return rope
