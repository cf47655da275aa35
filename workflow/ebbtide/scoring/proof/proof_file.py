"""Load proofs in the cell store: `{store}/proofs/{key}.json`, written once, atomically, with a digest.

The key follows from what determines a load: weights, tokenizer, precision and back end, as in the identity of
a cell, and the version of the proof. Whatever cannot be read is no proof and is made again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ebbtide.errors import CellError
from ebbtide.files import canonical_json, digest, read_json, write_text
from ebbtide.scoring.proof.load_key import key_of, load_identity, path_of
from ebbtide.scoring.proof.loss_record import Losses
from ebbtide.scoring.proof.sketch import Sketch, Sketches

_NO_PROOF = "delete it: it is made again when the weights are next loaded"


@dataclass(frozen=True, eq=False)
class Proof:
    """What is kept of a loaded checkpoint.

    Attributes
    ----------
    losses
        None if they could not be computed, for the reason in `unread`.
    sketches
        None if the files have none, for the reason in `unread`.
    unread
        Why there are no losses, or no sketches, as a part of a sentence.
    """

    losses: Losses | None
    sketches: Sketches | None
    unread: str = ""


def write_proof(proof: Proof, store: str | Path, identity: Mapping[str, Any]) -> Path:
    """Write a proof, and return its path. Raises `StorageError`."""
    sketches = proof.sketches
    content = {
        "load": load_identity(identity),
        "losses": None if proof.losses is None else asdict(proof.losses),
        "sketches": None
        if sketches is None
        else {
            "tensors": {name: sketch.record() for name, sketch in sketches.tensors.items()},
            "left_out": sketches.left_out,
            "head": sketches.head,
        },
        "unread": proof.unread,
    }
    plain = _plain(content)
    text = canonical_json({"sha256": digest(plain), "proof": plain})
    path = path_of(store, key_of(identity))
    write_text(text + "\n", path)
    return path


def read_proof(store: str | Path, key: str) -> Proof:
    """Read and check a proof.

    Raises `CellError` if it does not exist, is damaged, or is that of another load.
    """
    path = path_of(store, key)
    content = read_json(path, CellError, _NO_PROOF)
    proof = content.get("proof")
    if not isinstance(proof, dict) or content.get("sha256") != digest(proof):
        raise CellError(f"{path} is damaged: its digest is not that of its content; {_NO_PROOF}.")
    if digest(proof["load"]) != key:
        raise CellError(f"{path} is the proof of another load; {_NO_PROOF}.")
    losses, sketches = proof["losses"], proof["sketches"]
    return Proof(
        None if losses is None else Losses.of(losses),
        None
        if sketches is None
        else Sketches(
            {name: Sketch.of(_numbers(record)) for name, record in sketches["tensors"].items()},
            sketches["left_out"],
            sketches["head"],
        ),
        proof["unread"],
    )


def _plain(value: Any) -> Any:
    """The value with infinite numbers as text, which canonical JSON lacks."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return "inf" if value == float("inf") else value


def _numbers(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**record, "peak": None if record["peak"] is None else float(record["peak"])}
