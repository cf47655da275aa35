"""A Hugging Face configuration from the metadata of a GGUF file.

Every key of the architecture is read, or known to change nothing: a file with any other key needs `config:`.
Metadata do not name everything: activations are those of the families in transformers, and the scale and the
windows of Gemma's attention are those of llama.cpp.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ebbtide.checkpoints.formats.source import not_converted
from ebbtide.errors import CheckpointError, nearest

Shapes = Mapping[str, tuple[int, ...]]

_SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
_RMS = {**_SIZES, "attention.layer_norm_rms_epsilon": "rms_norm_eps"}
_WITHOUT_EFFECT = (
    *("vocab_size", "tensor_data_layout", "rope.scaling.finetuned", "rope.scaling.original_context_length"),
    "attention.sliding_window_pattern",  # of Gemma 3: the same for all its models
)
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_THETA = 10000.0  # llama.cpp's default


class _Keys:
    """The metadata of an architecture, without its prefix; it records which have been read."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str, where: str) -> None:
        prefix = f"{architecture}."
        self._values = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
        self._left, self._prefix, self.where = set(self._values), prefix, where

    def __call__(self, key: str, *default: Any) -> Any:
        """The value of a key. Raises `CheckpointError` if it is missing and has no default."""
        self._left.discard(key)
        if key in self._values:
            return self._values[key]
        if not default:
            raise self.unclear(f"no {self._prefix}{key}{nearest(key, list(self._values))}")
        return default[0]

    def must_be(self, key: str, *allowed: Any) -> None:
        """Raise `CheckpointError` if an optional key has another value."""
        if (found := self(key, allowed[0])) not in allowed:
            raise self.unclear(f"{self._prefix}{key} {found!r}")

    def done(self) -> None:
        """Raise `CheckpointError` for keys that have not been read, and may change the model."""
        if left := sorted(self._left.difference(_WITHOUT_EFFECT)):
            raise self.unclear(f"{self._prefix}{left[0]}, which is not known here")

    def unclear(self, found: str) -> CheckpointError:
        return not_converted(
            f"{self.where}: found {found}, so its metadata do not say which model it is. Set `config:` to "
            "the config.json of the model."
        )


Config = dict[str, Any]


@dataclass(frozen=True)
class _Architecture:
    """How metadata of one architecture become a configuration.

    Attributes
    ----------
    family
        `model_type`.
    keys
        Required metadata → key of the configuration.
    constants
        What metadata do not name.
    finish
        Adds what is not a single key.
    """

    family: str
    keys: Mapping[str, str]
    constants: Mapping[str, Any]
    finish: Callable[[_Keys, Config, Shapes, Sequence[float] | None], None]


def configuration_of(
    metadata: Mapping[str, Any], shapes: Shapes, factors: Sequence[float] | None, where: str
) -> Config:
    """Return the configuration of a model.

    Parameters
    ----------
    metadata
        See `gguf_header.Header`.
    shapes
        Shapes of the tensors in llama.cpp's names.
    factors
        Values of the tensor `rope_freqs.weight`, by which rotary frequencies are divided, if there is one.
    where
        The file, for messages.

    Raises
    ------
    CheckpointError
        An architecture that is not known, or metadata that do not determine the model.
    """
    name = str(metadata.get("general.architecture"))
    if name not in ARCHITECTURES:
        raise not_converted(
            f"{where}: general.architecture: found {name!r}; allowed: {', '.join(ARCHITECTURES)}. For "
            "another one, set `config:` to its config.json, and `map:` to a map of its tensors."
        )
    of, keys = ARCHITECTURES[name], _Keys(metadata, name, where)
    if "token_embd.weight" not in shapes:
        raise CheckpointError(f"{where} has no tensor token_embd.weight, so it is not a whole model.")
    config: Config = {"model_type": of.family, "vocab_size": shapes["token_embd.weight"][0]}
    config |= {key: keys(found) for found, key in of.keys.items()} | dict(of.constants)
    config["tie_word_embeddings"] = "output.weight" not in shapes
    for token in ("bos_token_id", "eos_token_id"):
        if (number := metadata.get(f"tokenizer.ggml.{token}")) is not None:
            config[token] = number
    keys.must_be("expert_count", 0)
    keys.must_be("expert_used_count", 0)
    keys.must_be("attention.causal", True)
    of.finish(keys, config, shapes, factors)
    keys.done()
    return config


def _llama(keys: _Keys, config: Config, shapes: Shapes, factors: Sequence[float] | None) -> None:
    config["head_dim"] = _heads(keys, config)
    config["attention_bias"] = "blk.0.attn_q.bias" in shapes
    config["mlp_bias"] = "blk.0.ffn_up.bias" in shapes
    config["rope_parameters"] = _rope(keys, config["head_dim"], factors)


def _qwen2(keys: _Keys, config: Config, shapes: Shapes, factors: Sequence[float] | None) -> None:
    config["rope_parameters"] = _rope(keys, _plain_heads(keys, config), factors)


def _qwen3(keys: _Keys, config: Config, shapes: Shapes, factors: Sequence[float] | None) -> None:
    config["head_dim"] = _heads(keys, config)
    config["attention_bias"] = "blk.0.attn_q.bias" in shapes
    config["rope_parameters"] = _rope(keys, config["head_dim"], factors)


def _olmo(keys: _Keys, config: Config, shapes: Shapes, factors: Sequence[float] | None) -> None:
    keys.must_be("attention.layer_norm_epsilon", 1e-5)
    config["clip_qkv"] = keys("attention.clamp_kqv", None)
    config["rope_parameters"] = _rope(keys, _plain_heads(keys, config), factors)


def _olmo2(keys: _Keys, config: Config, shapes: Shapes, factors: Sequence[float] | None) -> None:
    keys.must_be("attention.sliding_window", 0)  # OLMo 3 has one
    config["rope_parameters"] = _rope(keys, _plain_heads(keys, config), factors)


def _gemma(keys: _Keys, config: Config, shapes: Shapes, factors: Sequence[float] | None) -> None:
    config["head_dim"] = _heads(keys, config)
    config["rope_parameters"] = _rope(keys, config["head_dim"], factors)


def _gemma2(keys: _Keys, config: Config, shapes: Shapes, factors: Sequence[float] | None) -> None:
    _gemma(keys, config, shapes, factors)
    config["attn_logit_softcapping"] = keys("attn_logit_softcapping", 50.0)
    config["final_logit_softcapping"] = keys("final_logit_softcapping", 30.0)
    _window(keys, config, largest=46)


def _gemma3(keys: _Keys, config: Config, shapes: Shapes, factors: Sequence[float] | None) -> None:
    _gemma(keys, config, shapes, factors)
    config["final_logit_softcapping"] = keys("final_logit_softcapping", None)
    local = {"rope_type": "default", "rope_theta": keys("rope.freq_base_swa", _THETA)}
    config["rope_parameters"] = {"full_attention": config["rope_parameters"], "sliding_attention": local}
    _window(keys, config, largest=62)


def _window(keys: _Keys, config: Config, largest: int) -> None:
    """The attention of Gemma 2 and 3. The largest of each, by its layers, is scaled by the width per head."""
    whole = config["hidden_size"] // config["num_attention_heads"]
    config["query_pre_attn_scalar"] = whole if config["num_hidden_layers"] == largest else config["head_dim"]
    config["sliding_window"] = keys("attention.sliding_window")


def _gpt2(keys: _Keys, config: Config, shapes: Shapes, factors: Sequence[float] | None) -> None:
    keys.must_be("attention.head_count_kv", config["n_head"])


def _gpt_neox(keys: _Keys, config: Config, shapes: Shapes, factors: Sequence[float] | None) -> None:
    size = config["hidden_size"] // config["num_attention_heads"]
    share = keys("rope.dimension_count") / size
    theta = keys("rope.freq_base", _THETA)
    keys.must_be("attention.head_count_kv", config["num_attention_heads"])
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": share}
    config["attention_bias"] = "blk.0.attn_output.bias" in shapes


def _bloom(keys: _Keys, config: Config, shapes: Shapes, factors: Sequence[float] | None) -> None:
    keys.must_be("feed_forward_length", 4 * config["hidden_size"])
    keys.must_be("attention.head_count_kv", config["n_head"])


def _heads(keys: _Keys, config: Config) -> int:
    """The size of a head, and the number of heads of keys and values; whole heads are rotated."""
    heads = config["num_attention_heads"]
    config["num_key_value_heads"] = keys("attention.head_count_kv", heads)
    size = int(keys("attention.key_length", config["hidden_size"] // heads))
    keys.must_be("attention.value_length", size)
    keys.must_be("rope.dimension_count", size)
    return size


def _plain_heads(keys: _Keys, config: Config) -> int:
    """The size of a head, which is the width divided by their number."""
    size = config["hidden_size"] // config["num_attention_heads"]
    keys.must_be("attention.key_length", size)
    return _heads(keys, config)


def _rope(keys: _Keys, size: int, factors: Sequence[float] | None) -> dict[str, Any]:
    """Rotary parameters in the form of transformers 5, for heads of `size` dimensions."""
    theta, kind = keys("rope.freq_base", _THETA), keys("rope.scaling.type", "none")
    if factors is not None:
        return _llama3(keys, theta, size, factors)
    if kind == "none":
        return {"rope_type": "default", "rope_theta": theta}
    if kind == "linear":
        return {"rope_type": "linear", "rope_theta": theta, "factor": keys("rope.scaling.factor")}
    raise keys.unclear(f"rotary positions of the type {kind!r}")


def _llama3(keys: _Keys, theta: float, size: int, factors: Sequence[float]) -> dict[str, Any]:
    """The scaling of Llama 3.1 whose factors these are.

    The file has the factors alone: those of the published parameters are compared with them.
    """
    found = {"rope_type": "llama3", "rope_theta": theta, "factor": round(max(factors), 4), **_LLAMA3}
    expected = [_factor(theta ** (2 * i / size), found) for i in range(size // 2)]
    close = len(expected) == len(factors) and all(
        math.isclose(one, other, rel_tol=1e-5) for one, other in zip(expected, factors, strict=True)
    )
    if not close:
        raise keys.unclear(
            "factors of rotary frequencies (rope_freqs.weight) that are not those of Llama 3.1"
        )
    return found


def _factor(period: float, scaling: Mapping[str, Any]) -> float:
    """By how much Llama 3.1 divides a rotary frequency with a period of 2π times this, in tokens."""
    turns = scaling["original_max_position_embeddings"] / (2 * math.pi * period)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    blend = min(max((turns - low) / (high - low), 0.0), 1.0)
    factor: float = 1 / ((1 - blend) / scaling["factor"] + blend)
    return factor


ARCHITECTURES = {
    "llama": _Architecture("llama", _RMS, {"hidden_act": "silu"}, _llama),
    "qwen2": _Architecture("qwen2", _RMS, {"hidden_act": "silu"}, _qwen2),
    "qwen3": _Architecture("qwen3", _RMS, {"hidden_act": "silu"}, _qwen3),
    "olmo": _Architecture("olmo", _SIZES, {"hidden_act": "silu"}, _olmo),
    "olmo2": _Architecture("olmo2", _RMS, {"hidden_act": "silu"}, _olmo2),
    "gemma": _Architecture("gemma", _RMS, {"hidden_activation": "gelu_pytorch_tanh"}, _gemma),
    "gemma2": _Architecture("gemma2", _RMS, {"hidden_activation": "gelu_pytorch_tanh"}, _gemma2),
    "gemma3": _Architecture("gemma3_text", _RMS, {"hidden_activation": "gelu_pytorch_tanh"}, _gemma3),
    "gpt2": _Architecture(
        "gpt2",
        {
            "context_length": "n_positions",
            "embedding_length": "n_embd",
            "block_count": "n_layer",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        {"activation_function": "gelu_new"},
        _gpt2,
    ),
    "gptneox": _Architecture(
        "gpt_neox",
        {
            **_SIZES,
            "attention.layer_norm_epsilon": "layer_norm_eps",
            "use_parallel_residual": "use_parallel_residual",
        },
        {"hidden_act": "gelu"},
        _gpt_neox,
    ),
    "bloom": _Architecture(
        "bloom",
        {
            "context_length": "seq_length",
            "embedding_length": "hidden_size",
            "block_count": "n_layer",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        {},
        _bloom,
    ),
}
"""`general.architecture` → how its metadata are read."""
