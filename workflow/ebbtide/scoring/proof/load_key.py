"""What determines a load, and so a load proof: known from the identity of a cell. A lean module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.files import digest
from ebbtide.scoring.scorer import backend_of

VERSION = 1  # of texts and sketches; another version has other files
PROOFS = "proofs"  # directory in the cell store


def load_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What determines a load, from the identity of one of its cells."""
    named = {name: identity[name] for name in ("weights", "tokenizer", "dtype")}
    return {**named, "backend": backend_of(identity), "version": VERSION}


def key_of(identity: Mapping[str, Any]) -> str:
    """The name of the proof of a load, from the identity of one of its cells: 32 hex digits."""
    return digest(load_identity(identity))


def path_of(store: str | Path, key: str) -> Path:
    """The path of a proof in the store."""
    return Path(store) / PROOFS / f"{key}.json"
