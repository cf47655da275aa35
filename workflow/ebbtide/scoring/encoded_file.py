"""Encoded tasks on disk: one safetensors file each, in the directory `encoded` of a cell store.

All checkpoints with one tokenizer share the tokens and the trie of a task. Whoever needs them first writes
them; two who do so at once write the same. A file is used only if its key and the digest of its contents are
right; else it is written again. Deleting a file is harmless.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ebbtide.files import atomic, canonical_json, digest
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.encoded_task import EncodedTask
from ebbtide.scoring.stops import Stops
from ebbtide.scoring.trie import Trie

# Increment by hand when the same texts get other arrays, or the file another form.
VERSION = 1
DIRECTORY = "encoded"

Key = Mapping[str, Any]  # everything that determines the arrays

_RECORD = "ebbtide"  # the entry of the header: key, facts and digest
_REQUESTS = ("tokens", "bounds", "context", "truncated", "border")
_STOPS = tuple(field.name for field in fields(Stops))
_TRIE = tuple(field.name for field in fields(Trie))


def key_of(**inputs: Any) -> Key:
    """The key of an encoded task: its inputs, the form of the file, and the versions of the libraries."""
    libraries = {name: version(name) for name in ("tokenizers", "transformers")}
    return {**inputs, **libraries, "version": VERSION}


def path_of(store: str | Path, key: Key) -> Path:
    """The path of the encoded task with this key in a cell store."""
    return Path(store) / DIRECTORY / f"{digest(dict(key))}.safetensors"


def write_encoded(task: EncodedTask, path: str | Path, key: Key) -> None:
    """Write an encoded task atomically."""
    trie = task.requests.trie
    arrays = {name: getattr(task.requests, name) for name in _REQUESTS}
    arrays |= {f"trie.{name}": getattr(trie, name) for name in _TRIE}
    arrays |= {f"row.{name}": values for name, values in task.rows.items()}
    if task.stops is not None:
        arrays |= {f"stops.{name}": getattr(task.stops, name) for name in _STOPS}
    arrays = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    record: dict[str, Any] = {"key": dict(key), "facts": dict(task.facts)}
    record["sha256"] = _sha256(record, arrays)
    with atomic(path) as temporary:
        # One entry, because safetensors writes several in any order, and equal tasks must have equal files.
        temporary.write_bytes(save(arrays, {_RECORD: canonical_json(record)}))


def read_encoded(path: str | Path, key: Key) -> EncodedTask:
    """Read an encoded task.

    Raises `FileNotFoundError`, or `ValueError` with the reason in words for a file that is truncated, damaged
    or not the one of this key.
    """
    if not Path(path).exists():
        raise FileNotFoundError(path)
    if not Path(path).is_file():  # opening a named pipe would wait for its writer
        raise ValueError("not a file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        record = dict(json.loads(metadata[_RECORD]))
        expected = record.pop("sha256")
        found = _sha256(record, arrays)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"not a complete file of its kind ({type(error).__name__}: {error})") from None
    if found != expected:
        raise ValueError(f"its contents have the sha256 {found}, its header has {expected}")
    if record["key"] != dict(key):
        raise ValueError(f"it was made for {canonical_json(record['key'])}")
    trie = Trie(**{name: arrays[f"trie.{name}"] for name in _TRIE})
    requests = Requests(**{name: arrays[name] for name in _REQUESTS}, stored_trie=trie)
    rows = {name.removeprefix("row."): values for name, values in arrays.items() if name.startswith("row.")}
    given = "stops.rows" in arrays
    stops = Stops(**{name: arrays[f"stops.{name}"] for name in _STOPS}) if given else None
    return EncodedTask(requests, rows, record["facts"], stops)


def _sha256(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Digest of the names, types, shapes and values of arrays, and of their record."""
    sha = hashlib.sha256(canonical_json(record).encode())
    for name, values in sorted(arrays.items()):
        sha.update(f"{name}:{values.dtype.str}:{values.shape}".encode())
        sha.update(values.data)
    return sha.hexdigest()
