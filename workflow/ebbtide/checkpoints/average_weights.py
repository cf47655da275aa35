"""Make an averaged checkpoint: the weighted mean of the weights of its parents, file by file.

The files have the layout and the precision of the newest parent, whose configuration and tokenizer are
copied. Values are read in pieces and averaged in float32 (float64 if they are saved in it), so that at most a
few pieces are in memory, however large the tensors are. The mean is a running one, m ← m + (x - m) w / W with
W the sum of the weights so far, so one parent, or equal parents, give their bits again. NumPy does it without
torch, whose import takes longer than averaging a small model.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from ebbtide.checkpoints.average import AVERAGED, average_identity
from ebbtide.checkpoints.configuration import configuration
from ebbtide.checkpoints.directory import directory_of, identity_files, tokenizer_of
from ebbtide.checkpoints.facts import IRRELEVANT_KEYS
from ebbtide.checkpoints.header import BUFFERS, Stored
from ebbtide.checkpoints.precision import NAMED_IN_CONFIG
from ebbtide.checkpoints.record import stamp
from ebbtide.checkpoints.verification import check_before_loading, check_weights
from ebbtide.checkpoints.weight_files import assigned_files, read_headers, weight_files
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.files import atomic_directory, file_sha256
from ebbtide.logs import log
from ebbtide.training.record import RECORD

PIECE = 1 << 24  # bytes read of each parent at a time; a multiple of the size of any value
_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # precisions that can be averaged
Place = tuple[Path, Stored]  # the file of a tensor, and its place in it


def average_to_directory(spec: Mapping[str, Any], directory: str | Path) -> None:
    """Make the checkpoint `averaged-ID`, a directory that is created complete or not at all.

    Parameters
    ----------
    spec
        See `average.average_spec`.
    directory
        ID is the identity of the average, so another average has another directory.

    Raises
    ------
    ConfigError
        A directory of another form, or of another average.
    CheckpointError
        A parent's files are not those that the run was planned with, or cannot be averaged with the others.
    """
    to, parents = Path(directory), spec["parents"]
    identity = average_identity([p["weights"] for p in parents], spec["shares"], parents[-1]["tokenizer"])
    if to.name != f"{AVERAGED}-{identity}":
        raise ConfigError(
            f"--to: found {to}; allowed for these parents: MODEL/CHECKPOINT/{AVERAGED}-{identity}."
        )
    for parent in parents:
        check_before_loading(parent["marker"], parent["weights"], parent["tokenizer"])
        check_weights(parent["marker"], parent["weights"], parent["tokenizer"], spec["store"])
    directories = [directory_of(parent["marker"]) for parent in parents]
    for interrupted in to.parent.glob(f".{to.name}.*"):
        shutil.rmtree(interrupted, ignore_errors=True)
    with atomic_directory(to) as folder:
        write_average(directories, spec["shares"], folder, tokenizer_of(parents[-1]["marker"]))
        record = {
            "weights": identity,
            "parents": parents,
            "shares": spec["shares"],
            "files": {path.name: file_sha256(path) for path in sorted(folder.iterdir())},
        }
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    log.info("%s: average of %d checkpoints", to, len(parents))


def write_average(
    parents: Sequence[Path], shares: Sequence[int], folder: Path, tokenizer: str | None = None
) -> None:
    """Write the files of an average into `folder`.

    Parameters
    ----------
    parents
        Directories of checkpoints, oldest first.
    shares
        The relative weight of each.
    tokenizer
        Directory of the tokenizer of the newest parent; None: see `directory.tokenizer_directory`.

    Raises
    ------
    CheckpointError
        Parents with other architectures, tensors, shapes or precisions, a precision that cannot be averaged,
        non-finite values, or a parent that changes while it is read.
    """
    newest = parents[-1]
    _check_configurations(parents)
    before = {path: stamp(path) for parent in parents for path in weight_files(parent)}
    places = [_places(parent) for parent in parents]
    _check_tensors(parents, places)
    with ExitStack() as stack:
        opened = {path: stack.enter_context(path.open("rb", buffering=0)) for path in before}
        for path, header in read_headers(weight_files(newest)).items():
            with (folder / path.name).open("wb") as out:
                out.write(header.raw)
                for tensor in header.tensors:
                    sources = [(opened[file], one) for file, one in (place[tensor.name] for place in places)]
                    _average_tensor(sources, shares, out, f"{newest}: tensor {tensor.name}")
    for path, seen in before.items():
        if stamp(path) != seen:
            raise CheckpointError(f"{path} changed while it was averaged; run snakemake again.")
    for name, path in identity_files(newest, tokenizer).items():
        if path not in before:
            shutil.copyfile(path, folder / name)


def _places(directory: Path) -> dict[str, Place]:
    """The place of each tensor; of one in two files, the place that the index names, which loading reads."""
    assigned = assigned_files(directory)
    return {
        tensor.name: (path, tensor)
        for path, header in read_headers(weight_files(directory)).items()
        for tensor in header.tensors
        if assigned.get(tensor.name, path.name) == path.name
    }


def _check_configurations(parents: Sequence[Path]) -> None:
    newest = _relevant(parents[-1])
    for parent in parents[:-1]:
        other = _relevant(parent)
        for key in sorted(newest.keys() | other.keys()):
            if newest.get(key) != other.get(key):
                raise CheckpointError(
                    f"{parent}/config.json: {key}: found {other.get(key)!r}, but {newest.get(key)!r} in "
                    f"{parents[-1]}; only checkpoints of one architecture can be averaged."
                )


def _relevant(directory: Path) -> dict[str, Any]:
    skipped = {*IRRELEVANT_KEYS, *NAMED_IN_CONFIG}  # the precision is that of the tensors
    return {key: value for key, value in configuration(directory).items() if key not in skipped}


def _check_tensors(parents: Sequence[Path], places: Sequence[Mapping[str, Place]]) -> None:
    newest = places[-1]
    for parent, own in zip(parents[:-1], places[:-1], strict=True):
        for name in sorted(own.keys() ^ newest.keys()):
            has, lacks = (parent, parents[-1]) if name in own else (parents[-1], parent)
            raise CheckpointError(f"{has} has the tensor {name}, but {lacks} does not; {_ONE_RUN}.")
        for name, (_, tensor) in newest.items():
            found = own[name][1]
            for what in ("shape", "dtype"):
                if getattr(found, what) != getattr(tensor, what):
                    raise CheckpointError(
                        f"{parent}: tensor {name} has the {what} {_text(getattr(found, what))}, but "
                        f"{_text(getattr(tensor, what))} in {parents[-1]}; {_ONE_RUN}."
                    )


_ONE_RUN = "only checkpoints of one run can be averaged"


def _text(value: object) -> str:
    return " × ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _average_tensor(
    sources: Sequence[tuple[IO[bytes], Stored]], shares: Sequence[int], out: IO[bytes], where: str
) -> None:
    """Append the mean of a tensor to `out`. Buffers such as masks are not averaged: they must be equal."""
    newest = sources[-1][1]
    fixed = bool(BUFFERS.search(newest.name))
    if not fixed and newest.dtype not in _STORED:
        raise CheckpointError(
            f"{where} is saved in {newest.dtype}; allowed in an average: {', '.join(_STORED)}."
        )
    size = newest.end - newest.begin
    for begin in range(0, size, PIECE):
        length = min(PIECE, size - begin)
        pieces = (_read(file, tensor.begin + begin, length) for file, tensor in sources)
        if fixed:
            first, *others = pieces
            if any(other != first for other in others):
                raise CheckpointError(f"{where} is a buffer and differs between the checkpoints; {_ONE_RUN}.")
            out.write(first)
            continue
        mean = _mean((_decoded(piece, newest.dtype) for piece in pieces), shares)
        if not np.isfinite(mean).all():
            raise CheckpointError(f"{where} has non-finite values, or a checkpoint averaged with it has.")
        out.write(_encoded(mean, newest.dtype))


def _mean(arrays: Iterable[np.ndarray], shares: Sequence[int]) -> np.ndarray:
    """The running weighted mean of arrays of one shape, which it changes; two of them exist at a time."""
    mean, total = np.empty(0), 0
    for values, share in zip(arrays, shares, strict=True):
        total += share
        if total == share:
            mean = values
            continue
        with np.errstate(invalid="ignore", over="ignore"):  # the caller looks for non-finite values
            difference = np.subtract(values, mean, out=values)
            difference *= share / total
            mean += difference
    return mean


def _read(file: IO[bytes], begin: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.pread(file.fileno(), length, begin)
        if not part:
            raise CheckpointError(f"{file.name} ended while it was read; run snakemake again.")
        parts.append(part)
        begin, length = begin + len(part), length - len(part)
    return b"".join(parts)


def _decoded(piece: bytes, dtype: str) -> np.ndarray:
    """The values of a piece, in an array of its own: float64 for F64, float32 for others."""
    stored = np.frombuffer(piece, _STORED[dtype])
    if dtype == "BF16":  # the upper half of a float32
        return (stored.astype("<u4") << 16).view("<f4")
    return stored.astype("<f8" if dtype == "F64" else "<f4")


def _encoded(values: np.ndarray, dtype: str) -> bytes:
    """The bytes of finite values in the precision of a file, rounded to nearest, ties to even."""
    if dtype == "BF16":
        bits = values.view("<u4")
        values = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return bytes(values.astype(_STORED[dtype]).data)
