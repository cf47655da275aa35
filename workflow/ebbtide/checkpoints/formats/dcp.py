"""Directories of torch.distributed.checkpoint: a file `.metadata`, and the values in `*.distcp`.

FSDP, torchtitan, OLMo-core and Megatron (`torch_dist`) write them. `.metadata` is a pickle that lists names,
shapes and pieces of tensors; it is read without making its objects (see `pickles`). Each piece is a tensor
that torch saved, and is loaded with `weights_only=True`.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.formats.pickles import Described, Named, describe
from ebbtide.checkpoints.formats.pt import SUFFIXES
from ebbtide.checkpoints.formats.source import Stored
from ebbtide.checkpoints.header import check_content
from ebbtide.checkpoints.hub.lock import is_plain
from ebbtide.errors import CheckpointError, type_and_reason
from ebbtide.files import open_regular

if TYPE_CHECKING:
    from torch import Tensor

METADATA = ".metadata"
# `.metadata` names classes of torch, OLMo-core, Megatron and plugins. None of them is imported.
_ALLOWED = ("torch.", "pathlib.", "megatron.core.", "olmo_core.", "builtins.set", "builtins.frozenset")
_OPTIMIZER = ("optim", "optimizer")
_MOST_VALUES = 1 << 40  # of a tensor; no model has more


@dataclass(frozen=True)
class _Piece:
    """A rectangle of a tensor, and the bytes of a file that contain it."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: Path
    begin: int
    length: int


class DistributedCheckpoint:
    """A directory that torch.distributed.checkpoint wrote; see `source.Source`.

    Raises `CheckpointError` if `.metadata` is missing or cannot be read, if a file of values is missing or
    shorter than `.metadata` says, or if the pieces of a tensor do not cover it.
    """

    config: Mapping[str, Any] | None = None
    remark = ""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        path = directory / METADATA
        if not directory.is_dir() or not path.exists():
            raise CheckpointError(
                f"{directory} has no {METADATA}, which a complete checkpoint of torch.distributed.checkpoint "
                f"contains{_instead(directory)}.",
                "no_weights",
            )
        check_content(path)
        described = describe(path.read_bytes(), path, _ALLOWED)
        try:
            self._stored, pieces = _read(described, directory)
        except CheckpointError:
            raise
        except Exception as error:  # whatever an unexpected structure raises
            raise CheckpointError(
                f"{path} has another structure than torch 2 writes ({type_and_reason(error)}); save the "
                "checkpoint with torch.distributed.checkpoint.save."
            ) from error
        if not self._stored:
            raise CheckpointError(f"{path} lists no tensors.", "no_weights")
        self._pieces = pieces
        self.shapes = {name: stored.shape for name, stored in self._stored.items()}
        self.dtypes = {name: stored.dtype for name, stored in self._stored.items()}
        self._check()

    @cached_property
    def files(self) -> Sequence[Path]:
        """`.metadata` and the files that it names."""
        values = {piece.file for pieces in self._pieces.values() for piece in pieces}
        return [self._directory / METADATA, *sorted(values)]

    def read(self, name: str) -> "Tensor":
        """Return a tensor, put together from its pieces."""
        import torch

        stored = self._stored[name]
        whole = torch.empty(stored.shape, dtype=getattr(torch, stored.dtype))
        for piece in self._pieces[name]:
            values = _load(piece, name)
            if tuple(values.shape) != piece.sizes or values.dtype != whole.dtype:
                raise CheckpointError(
                    f"{piece.file}: a piece of {name} has another shape or precision than {METADATA} says; "
                    "copy the directory again."
                )
            if not piece.sizes:
                return values
            whole[tuple(slice(o, o + s) for o, s in zip(piece.offsets, piece.sizes, strict=True))] = values
        return whole

    def _check(self) -> None:
        sizes = {path: path.stat().st_size if path.is_file() else -1 for path in self.files}
        for name, pieces in self._pieces.items():
            for piece in pieces:
                found, needed = sizes[piece.file], piece.begin + piece.length
                if found < 0:
                    raise CheckpointError(
                        f"{self._directory} lacks {piece.file.name}, which {METADATA} lists; copy it again."
                    )
                if found < needed:
                    raise CheckpointError(
                        f"{piece.file} has {found:,} bytes, but {METADATA} places {name} up to {needed:,}; "
                        "copy the file again."
                    )
            if name.startswith(_OPTIMIZER):
                continue  # Megatron saves parts of flattened states, and nothing uses them
            shape = self.shapes[name]
            covered = sum(math.prod(piece.sizes) for piece in pieces if _is_inside(piece, shape))
            if covered != math.prod(shape) or not all(_is_inside(piece, shape) for piece in pieces):
                raise CheckpointError(
                    f"{self._directory}: the pieces of {name} have {covered:,} values in its shape, which "
                    f"has {math.prod(shape):,}; the checkpoint is incomplete."
                )
            if pair := _overlapping(pieces):  # as many values as the tensor has, so others are missing
                raise CheckpointError(
                    f"{self._directory}: the pieces of {name} at {pair[0].offsets} and {pair[1].offsets} "
                    "overlap, so others are missing; save the checkpoint again."
                )


def _is_inside(piece: _Piece, shape: tuple[int, ...]) -> bool:
    if not len(piece.offsets) == len(piece.sizes) == len(shape):
        return False
    ends = zip(piece.offsets, piece.sizes, shape, strict=True)
    return all(offset + size <= length for offset, size, length in ends)


def _overlapping(pieces: Sequence[_Piece]) -> tuple[_Piece, _Piece] | None:
    """Two pieces of a tensor that have places in common; None if there are none."""
    solid = [piece for piece in pieces if math.prod(piece.sizes)]
    if len(solid) < 2:
        return None
    # Along the axis that is cut most, few pieces begin before another ends: not all pairs are compared.
    axis = max(range(len(solid[0].sizes)), key=lambda axis: len({piece.offsets[axis] for piece in solid}))
    begun: list[_Piece] = []
    for piece in sorted(solid, key=lambda piece: piece.offsets[axis]):
        begun = [one for one in begun if one.offsets[axis] + one.sizes[axis] > piece.offsets[axis]]
        for one in begun:
            both = zip(one.offsets, one.sizes, piece.offsets, piece.sizes, strict=True)
            if all(mine < their + theirs and their < mine + ours for mine, ours, their, theirs in both):
                return one, piece
        begun.append(piece)
    return None


def _read(described: Any, directory: Path) -> tuple[dict[str, Stored], dict[str, list[_Piece]]]:
    """Return the tensors and their pieces by name from the content of `.metadata`."""
    stored = {
        name: Stored(_size(entry.state["size"]), _dtype(entry.state["properties"]))
        for name, entry in described.state["state_dict_metadata"].items()
        if entry.name.endswith(".TensorStorageMetadata")
    }
    sizes = {
        (name, _size(chunk.state["offsets"])): _size(chunk.state["sizes"])
        for name, entry in described.state["state_dict_metadata"].items()
        if name in stored
        for chunk in entry.state["chunks"]
    }
    pieces: dict[str, dict[tuple[int, ...], _Piece]] = {name: {} for name in stored}
    for index, info in described.state["storage_data"].items():
        name = index.state["fqn"]
        if name not in stored:
            continue
        file = info.state["relative_path"]
        if not is_plain(file):
            raise CheckpointError(
                f"{directory / METADATA} lists {file!r:.80}, which is not a plain file name."
            )
        if info.state.get("transform_descriptors"):
            raise CheckpointError(
                f"{directory}: {name} is stored with an extension of torch.distributed.checkpoint, such as "
                "compression; save the checkpoint without extensions."
            )
        offsets = _size(index.state.get("offset") or (0,) * len(stored[name].shape))
        begin, length = int(info.state["offset"]), int(info.state["length"])
        pieces[name][offsets] = _Piece(offsets, sizes[name, offsets], directory / file, begin, length)
    return stored, {name: list(found.values()) for name, found in pieces.items()}


def _size(value: Any) -> tuple[int, ...]:
    size = tuple(value.arguments[0] if isinstance(value, Described) else value)
    if any(not isinstance(length, int) or length < 0 for length in size) or math.prod(size) > _MOST_VALUES:
        raise ValueError(f"the size {size!r:.80}")
    return size


def _dtype(properties: Described) -> str:
    """The precision in the properties of a tensor, whose state is a tuple in most versions of torch."""
    state = properties.state.get("state", properties.state)
    found = next(one for one in _values_of(state) if isinstance(one, type) and issubclass(one, Named))
    return str(found.full).removeprefix("torch.")


def _values_of(state: Any) -> Iterator[Any]:
    yield from state.values() if isinstance(state, dict) else state


def _load(piece: _Piece, name: str) -> "Tensor":
    import torch

    with open_regular(piece.file) as file:
        file.seek(piece.begin)
        data = file.read(piece.length)
    try:
        values = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise many types
        raise CheckpointError(
            f"{piece.file}: {name} cannot be loaded ({type_and_reason(error)}); copy the file again."
        ) from error
    if not isinstance(values, torch.Tensor):
        raise CheckpointError(f"{piece.file}: {name} is a {type(values).__name__}, not a tensor.")
    return values


def _instead(directory: Path) -> str:
    """What it may be: a state dictionary, or a directory below that of the step, where trainers put it."""
    if directory.suffix in SUFFIXES and directory.is_file():
        return "; for a state dictionary, set format: pt"
    below = sorted(directory.glob(f"*/{METADATA}")) if directory.is_dir() else []
    return f", but {below[0].parent} has one: add `/{below[0].parent.name}` to path" if below else ""
