"""The `config.json` of a checkpoint directory, and the context window that it sets. A lean module."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.header import check_content
from ebbtide.errors import CheckpointError
from ebbtide.files import MOST_JSON_BYTES, read_json

# Keys of the context window: first those that lm-evaluation-harness reads, then those of single families.
WINDOW_KEYS = (
    *("n_positions", "max_position_embeddings", "n_ctx", "seq_length", "max_seq_len", "max_seq_length"),
    *("max_sequence_length", "model_max_length", "context_length", "max_target_positions"),
)
WINDOW = 2048  # tokens; for models whose config.json sets no window
LONGEST = 2**31  # tokens; a larger number means "no limit"

# Libraries build a list of this length, or a module for each, before they look at any weights.
LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")
MOST_LAYERS = 10_000


def configuration(directory: str | Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint directory.

    Raises `CheckpointError` if it cannot be read, or has more layers than any model.
    """
    return read_configuration(Path(directory) / "config.json")


def read_configuration(path: Path) -> dict[str, Any]:
    """Read a `config.json`, see `configuration`."""
    check_content(path, MOST_JSON_BYTES)
    config = read_json(path, CheckpointError)
    for key, layers in _layers(config):
        if layers > MOST_LAYERS:
            raise CheckpointError(
                f"{path}: {key}: found {layers:,}, allowed: at most {MOST_LAYERS:,}; copy the file again."
            )
    return config


def _layers(config: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of layers of a model and of its parts, with their keys."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _layers(value, f"{where}{key}.")
        elif key in LAYER_KEYS and isinstance(value, int | float):
            yield f"{where}{key}", value


def context_window(config: Mapping[str, Any]) -> int:
    """Context window in tokens from a `config.json`; of the text model if the model also reads images.

    `WINDOW` if none of its keys is a number of tokens (see `window_key`).
    """
    key = window_key(config)
    return WINDOW if key is None else int(_text_model(config)[key])


def window_key(config: Mapping[str, Any]) -> str | None:
    """The key of a `config.json` that sets the context window; None if there is none.

    Values that mean "no limit" are skipped: null, 0, -1, or a huge number.
    """
    text = _text_model(config)
    for key in WINDOW_KEYS:
        value = text.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < LONGEST:
            return key
    return None


def _text_model(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) and inner else config
