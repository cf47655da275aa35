"""The configuration of a task of lm-eval as JSON, with functions by name and digest."""

import functools
import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ebbtide.files import digest

# Keys for the origin of documents and for few-shot examples; not needed once requests are frozen.
BEFORE_FREEZING = (
    "custom_dataset",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "fewshot_config",
    "num_fewshot",
    "process_docs",
)


def describe(config: Any) -> dict[str, Any]:
    """Return a task's configuration (lm-eval's `TaskConfig`), without empty keys and local paths."""
    described: dict[str, Any] = _plain(config)
    metadata = described.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("config_source", None)
    return described


def measures(config: Mapping[str, Any]) -> str:
    """Return the digest of the part of a described configuration that metrics depend on."""
    left = (*BEFORE_FREEZING, "_qualified_name")  # which has the group that measuring loads it in
    return digest({key: value for key, value in config.items() if key not in left})


def _plain(value: Any) -> Any:
    if isinstance(value, functools.partial):
        return {**_plain(value.func), "args": _plain(value.args), "keywords": _plain(value.keywords)}
    if is_dataclass(value) and not isinstance(
        value, type
    ):  # before mappings, because a TaskConfig is also an (empty) dict
        values = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: _plain(each) for name, each in values.items() if each is not None}
    if callable(value):
        return {
            "function": getattr(value, "__qualname__", type(value).__qualname__),
            "sha256": _sha256(value),
        }
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in (sorted(value) if isinstance(value, set) else value)]
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)


def _sha256(function: Any) -> str:
    """Return the sha256 of the file that defines a function, which may call others in the file."""
    try:
        file = inspect.getsourcefile(function)
    except TypeError:  # a callable object
        file = inspect.getsourcefile(type(function))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else "unknown"
