"""Llama and similar architectures: SmolLM, Mistral, Qwen 2 and 3."""

from functools import partial
from typing import Any

from ebbtide.scoring.decoder import rms_norm
from ebbtide.scoring.families.architecture import ATTENTION, HEAD_NORMS, LLAMA, LLAMA_NORMS, Architecture
from ebbtide.scoring.families.keys import Keys


def llama(keys: Keys) -> Architecture:
    """Llama 1 to 3, SmolLM."""
    keys.must_be("rope_interleaved", False)
    attention = ATTENTION if keys("attention_bias", default=False) else ()
    feed_forward = ("feed_forward",) if keys("mlp_bias", default=False) else ()
    sizes = keys.sizes(
        key_value_heads=keys("num_key_value_heads", default=None), head_dim=keys("head_dim", default=None)
    )
    return _plan(keys, sizes, biases=(*attention, *feed_forward))


def mistral(keys: Keys) -> Architecture:
    """All layers have the window `sliding_window`; null means unlimited, and the default is 4,096."""
    window = keys.or_null("sliding_window", 4096)
    sizes = keys.sizes(
        key_value_heads=keys("num_key_value_heads", default=8), head_dim=keys("head_dim", default=None)
    )
    return _plan(keys, sizes, windows=[window] * sizes["layers"])


def qwen2(keys: Keys) -> Architecture:
    """Biases on queries, keys and values only."""
    sizes = keys.sizes(key_value_heads=keys("num_key_value_heads", default=32))
    return _plan(keys, sizes, biases=("project",), windows=_qwen_windows(keys))


def qwen3(keys: Keys) -> Architecture:
    """Norms of queries and keys, per head."""
    return _plan(
        keys,
        keys.sizes(
            key_value_heads=keys("num_key_value_heads", default=32), head_dim=keys("head_dim", default=128)
        ),
        biases=ATTENTION if keys("attention_bias", default=False) else (),
        norms=LLAMA_NORMS | HEAD_NORMS,
        windows=_qwen_windows(keys),
    )


def _qwen_windows(keys: Keys) -> list[int | None]:
    count, first = keys("num_hidden_layers"), keys("max_window_layers", default=28)
    window = keys.or_null("sliding_window", 4096)
    if not keys("use_sliding_window", default=False):
        window = None
    return keys.windows([window if i >= first else None for i in range(count)], window)


def _plan(keys: Keys, sizes: dict[str, Any], **own: Any) -> Architecture:
    common = {
        "names": LLAMA,
        "norms": LLAMA_NORMS,
        "norm": partial(rms_norm, eps=keys("rms_norm_eps", default=1e-6)),
        "rope": keys.rope(),
        "activation": keys.activation("hidden_act", default="silu"),
        "tied": keys("tie_word_embeddings", default=False),
    }
    return Architecture(**sizes, **{**common, **own})
