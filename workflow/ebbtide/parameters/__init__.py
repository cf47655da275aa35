"""Exact parameter counts of a model from its `config.json`, by a closed formula for each family.

Notation of the formulas: V vocabulary, d width (hidden size), L layers, f width of the feed-forward layer,
h query heads, k key-value heads, c width of a head, E experts of which each token uses e. A linear layer
from i to o has i·o weights, and o more with a bias. The counts are:

* total: all trained parameters; tied matrices count once;
* embeddings: all lookup tables (tokens, learned positions) and the output matrix;
* active: the parameters that one token uses, that is, all but the experts that it is not routed to.
  Embeddings count in full, as is usual for active parameters in papers.

Buffers (rotary frequencies, masks) are not parameters. Only the text model of a multimodal model is counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebbtide.errors import CheckpointError
from ebbtide.parameters.families import FAMILIES

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Parameters:
    """Parameter counts of a model: total, non-embedding, and the active part of both."""

    total: int
    non_embedding: int
    active: int
    active_non_embedding: int


def count(config: Config) -> Parameters | None:
    """Count the parameters of the language model that a `config.json` describes; None for unknown types.

    Keys of older configurations (`n_embd`, `n_layer`, `n_head`, `ffn_dim`, …) are accepted. Missing keys have
    the defaults of transformers. For a composite model, its `text_config` is used.

    Raises `CheckpointError` for a shape that is not a positive integer.
    """
    config, model_type = _language_model(config)
    if model_type not in FAMILIES:
        return None
    family = FAMILIES[model_type]
    parts = family.parts(_settings(config, family.defaults, model_type))
    total = parts.embeddings + parts.body
    return Parameters(total, parts.body, total - parts.idle, parts.body - parts.idle)


def is_tied(config: Config) -> bool:
    """Whether a `config.json` ties the output matrix to the embedding; False if its family is unknown."""
    config, model_type = _language_model(config)
    family = FAMILIES.get(model_type)
    defaults = {"tie_word_embeddings": False, **(family.defaults if family else {})}
    given = {_SPELLINGS.get(key, key): value for key, value in config.items()}
    return bool(given.get("tie_word_embeddings", defaults["tie_word_embeddings"]))


def _language_model(config: Config) -> tuple[Config, str]:
    """The configuration of the language model and its type."""
    inner = config.get("text_config")
    config = inner if isinstance(inner, Mapping) else config
    model_type = str(config.get("model_type"))
    if model_type == "olmo" and "d_model" in config:
        model_type = "hf_olmo"  # the first releases used this name with the keys of hf_olmo
    return config, model_type


_SPELLINGS = {
    "d_model": "hidden_size",
    "n_embd": "hidden_size",
    "n_embed": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_layers": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "n_inner": "intermediate_size",
    "ffn_dim": "intermediate_size",
    "mlp_hidden_size": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "max_sequence_length": "max_position_embeddings",
    "num_local_experts": "num_experts",
    "weight_tying": "tie_word_embeddings",
}
_NULLABLE = ("num_key_value_heads", "head_dim", "embedding_size")  # null: follows from other shapes


def _settings(config: Config, defaults: Config, model_type: str) -> Config:
    """The keys that the family's formula reads, with current names and defaults filled in."""
    respelled = {_SPELLINGS[key]: value for key, value in config.items() if key in _SPELLINGS}
    given = respelled | dict(config)
    settings = {key: given.get(key, default) for key, default in defaults.items()}
    for key, value in settings.items():
        if type(defaults[key]) is not int or (value is None and key in _NULLABLE):
            continue
        if not isinstance(value, int) or value < 1:
            raise CheckpointError(
                f"config.json of type {model_type}: {key}: found {value!r}, expected a positive integer."
            )
    return settings
