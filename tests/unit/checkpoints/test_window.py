"""The context window: the keys that architectures use for it, and configurations without one."""

from typing import Any

import pytest

from ebbtide.checkpoints.configuration import WINDOW, context_window, window_key


@pytest.mark.parametrize(
    ("config", "key", "tokens"),
    [
        ({"model_type": "mpt", "max_seq_len": 65536}, "max_seq_len", 65536),
        ({"model_type": "dbrx", "max_seq_len": 32768}, "max_seq_len", 32768),
        ({"model_type": "gpt2", "n_positions": 1024, "n_ctx": 512}, "n_positions", 1024),
        ({"model_type": "llama", "max_position_embeddings": 4096}, "max_position_embeddings", 4096),
        ({"model_type": "bloom", "seq_length": 2048}, "seq_length", 2048),
        ({"model_type": "olmo", "max_sequence_length": 4096}, "max_sequence_length", 4096),
        ({"model_type": "rwkv", "context_length": 1024}, "context_length", 1024),
        ({"model_type": "kimi_linear", "model_max_length": 8192}, "model_max_length", 8192),
        (
            {"text_config": {"max_position_embeddings": 99}},
            "max_position_embeddings",
            99,
        ),
        ({"max_position_embeddings": -1, "max_seq_len": 512}, "max_seq_len", 512),
        ({"n_positions": None, "seq_length": 0, "max_seq_len": 512}, "max_seq_len", 512),
        ({"model_max_length": 1000000000000000019884624838656}, None, WINDOW),
        ({"model_type": "mamba"}, None, WINDOW),
        ({"max_position_embeddings": "long"}, None, WINDOW),
        ({"max_position_embeddings": True, "text_config": []}, None, WINDOW),
    ],
)
def test_the_window_is_that_of_the_configuration(
    config: dict[str, Any], key: str | None, tokens: int
) -> None:
    assert window_key(config) == key
    assert context_window(config) == tokens
