"""The contents of small files, read when a study is locked: configurations, indices of weights, pointers.

With them, the audit finds weights that cannot be loaded before any are fetched.
"""

import json
import math
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.header import POINTER_BYTES, is_pointer
from ebbtide.checkpoints.hub.lock import CONFIG, INDICES, Index, Lock, Locked, LockedFile
from ebbtide.files import canonical_json
from ebbtide.transport import MAX_READ_BYTES

if TYPE_CHECKING:
    from ebbtide.checkpoints.hub.client import Hub

_MAX_SHARDS = 10_000


class Contents:
    """The contents of small files by digest. Each digest is read once, also across calls of `lock`."""

    def __init__(self, hub: "Hub", lock: Lock) -> None:
        self._hub = hub
        self.configs = dict(lock.configs)
        self.indices = dict(lock.indices)
        self.pointers = dict(lock.pointers)

    def add(self, locked: Locked) -> None:
        """Read the small files of a revision whose contents are not known yet."""
        for name, file in locked.files.items():
            as_config = name == CONFIG and file.digest not in self.configs
            as_index = (
                name in INDICES.values() and file.digest not in self.indices and file.size <= MAX_READ_BYTES
            )
            as_pointer = may_be_pointer(name, file) and file.digest not in self.pointers
            if not (as_config or as_index or as_pointer):
                continue
            data = self._hub.read(locked.repo, locked.commit, name, file)
            if as_pointer:
                self.pointers[file.digest] = is_pointer(data)
            if as_config:
                self.configs[file.digest] = parse_config(data)
            if as_index:
                self.indices[file.digest] = parse_index(data)


def parse_config(data: bytes) -> dict[str, Any]:
    """The JSON object in a `config.json`; empty if there is none. Infinities and NaN become text."""
    try:
        config = json.loads(data, parse_float=_finite, parse_constant=str)
        canonical_json(config)  # the lock must be able to store it
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def parse_index(data: bytes) -> Index:
    """The files that an index of weights names; without files if it is not an index."""
    try:
        document = json.loads(data)
        named = document["weight_map"].values()
        files = {name for name in named if isinstance(name, str) and len(name) <= 200}
        if len(files) > _MAX_SHARDS or len(files) != len(set(named)):
            return Index()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Index()
    metadata = document.get("metadata")
    stated = metadata.get("total_size") if isinstance(metadata, dict) else None
    if not isinstance(stated, int | float) or not 0 < stated < 1 << 60:
        stated = 0
    return Index(tuple(sorted(files)), int(stated))


def may_be_pointer(name: str, file: LockedFile) -> bool:
    """Whether a file can be a pointer by its name and size."""
    return file.size in POINTER_BYTES and not name.endswith(".py")


def _finite(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text
