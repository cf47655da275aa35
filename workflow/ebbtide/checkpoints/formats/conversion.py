"""Convert a checkpoint to safetensors in Hugging Face layout, tensor by tensor.

Tensors keep their precision. A conversion is complete or not there at all; after it was killed, the next one
keeps the files that were finished.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.directory import tokenizer_files
from ebbtide.checkpoints.disk import Budget, format_bytes, free_bytes
from ebbtide.checkpoints.formats.mapping import Step
from ebbtide.checkpoints.formats.operations import apply, shapes_of
from ebbtide.checkpoints.formats.partial import OWN, partial_directory
from ebbtide.checkpoints.formats.planning import CONFIG, Examined, Reading, examine, files_read
from ebbtide.checkpoints.formats.record import CONVERTED, STAMPS
from ebbtide.checkpoints.formats.source import BYTES
from ebbtide.checkpoints.header import read_header
from ebbtide.checkpoints.record import stamp
from ebbtide.checkpoints.weight_files import INDEX, WHOLE
from ebbtide.errors import CheckpointError
from ebbtide.files import atomic, file_sha256, write_text
from ebbtide.logs import log
from ebbtide.notices import counted
from ebbtide.training.record import RECORD

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 2 << 30  # most bytes of a file; one larger tensor has a file of its own


def convert_to_directory(
    spec: Mapping[str, Any], directory: str | Path, budget: Budget | None = None
) -> None:
    """Make the checkpoint `converted-ID`, a directory that is created complete or not at all.

    Parameters
    ----------
    spec
        See `planning.conversion_spec`.
    directory
        ID is the identity of the conversion: files, map, configuration and tokenizer.
    budget
        Limit on the total size of all copies of weights, see `ebbtide.checkpoints.disk`.

    Raises
    ------
    CheckpointError
        Files that cannot be read, do not fit the map, or are not those that the run was planned with; too
        little free space, on the disk or in the budget.
    """
    to, path = Path(directory), Path(spec["path"])
    reading = Reading(**{key: value for key, value in spec.items() if key != "path"})
    found = examine(path, reading)
    if to.name != f"{CONVERTED}-{found.identity}":
        raise CheckpointError(
            f"{path}, its map, configuration or tokenizer has changed since the run was planned (found "
            f"{CONVERTED}-{found.identity}, planned {to.name}); run snakemake again."
        )
    before = {str(file): stamp(file) for file in files_read(found, reading)}
    begun = {"source": before, "shard_bytes": SHARD_BYTES}
    with partial_directory(to, begun, found.disk_bytes, budget) as folder:
        _check_free(found, folder)
        write_converted(found, folder)
        for file, seen in before.items():
            if stamp(Path(file)) != seen:
                raise CheckpointError(f"{file} changed while it was converted; run snakemake again.")
        record = {
            "weights": found.identity,
            "source": dict(spec),
            "map": found.map.identity,
            "files": {f.name: file_sha256(f) for f in sorted(folder.iterdir()) if f.name not in OWN},
            STAMPS: before,
        }
        write_text(json.dumps(record, indent=2) + "\n", folder / RECORD)
    log.info("%s: %s", to, _summary(found))


def write_converted(found: Examined, folder: Path) -> None:
    """Write the weights, the configuration and the tokenizer of a checkpoint into `folder`.

    Files of weights that are there are those of a job that was killed, and are kept.

    Raises `CheckpointError` for tensors that cannot be read, and tied ones that differ.
    """
    from safetensors.torch import save_file

    _check_tied(found)
    # Steps that use one source follow each other, and a tensor of all layers has many of them.
    read = lru_cache(maxsize=1)(found.source.read)
    shards = list(_shards(found))
    files: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        written = WHOLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        zeros = found.plan.zeros if number == len(shards) else ()
        names = [*(target for step in shard for target in step.targets), *zeros]
        files |= dict.fromkeys(names, written)
        if _is_written(folder / written, {name: found.targets.shapes[name] for name in names}):
            log.info("%s: %s was written before", found.path, written)
            continue
        tensors: dict[str, Tensor] = {}
        for step in shard:
            tensors |= _made(step, found, read)
        if zeros:
            tensors |= _zeros(found)
        with atomic(folder / written) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
    if len(shards) > 1:
        index = {"metadata": {"total_size": found.size_bytes}, "weight_map": dict(sorted(files.items()))}
        write_text(json.dumps(index, indent=2) + "\n", folder / INDEX)
    write_text(json.dumps(found.config, indent=2) + "\n", folder / CONFIG)
    for name, file in (tokenizer_files(found.tokenizer) | dict(found.generation)).items():
        shutil.copyfile(file, folder / name)


def _is_written(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a file is complete and has these tensors."""
    try:
        return {one.name: one.shape for one in read_header(path).tensors} == shapes
    except CheckpointError:
        return False


def _check_free(found: Examined, folder: Path) -> None:
    """Raise `CheckpointError` if the tensors do not fit the file system of `folder`."""
    written = sum(file.stat().st_size for file in folder.glob("*.safetensors"))  # by a job that was killed
    need = found.size_bytes - written
    if (free := free_bytes(folder)) < need:
        raise CheckpointError(
            f"{found.path}: its conversion needs {format_bytes(need)}, but the disk of "
            f"{folder.parent} has {format_bytes(free)} free; free some space and run again, for example by "
            f"deleting directories {CONVERTED}-* of scored checkpoints that still have their sources."
        )


def _shards(found: Examined) -> Iterator[list[Step]]:
    """Yield the steps of each file, in the order in which sources are read."""
    shard: list[Step] = []
    held = 0
    for step in found.plan.steps:
        if step.tied_to:
            continue
        size = sum(_bytes(found, target) for target in step.targets)
        if shard and held + size > SHARD_BYTES:
            yield shard
            shard, held = [], 0
        shard.append(step)
        held += size
    yield shard


def _bytes(found: Examined, target: str) -> int:
    return math.prod(found.targets.shapes[target]) * BYTES[found.dtypes[target]]


def _made(step: Step, found: Examined, read: "Callable[[str], Tensor]") -> "dict[str, Tensor]":
    """The targets of a step by name, with memory of their own."""
    import torch

    parts = [[read(name) for name in ranks] for ranks in step.sources]
    try:
        made = apply(step, parts, shapes_of(step, found.targets))
    except ValueError as error:
        raise CheckpointError(f"{found.path}: {', '.join(step.names[:3])}: {error}.") from error
    return {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in zip(step.targets, made, strict=True)
    }


def _zeros(found: Examined) -> "dict[str, Tensor]":
    import torch

    return {
        name: torch.zeros(found.targets.shapes[name], dtype=getattr(torch, found.dtypes[name]))
        for name in found.plan.zeros
    }


def _check_tied(found: Examined) -> None:
    """Raise `CheckpointError` if a matrix differs from the one to which the configuration ties it."""
    import torch

    makers = {target: step for step in found.plan.steps for target in step.targets}
    for step in found.plan.steps:
        if not step.tied_to:
            continue
        [own] = _made(step, found, found.source.read).values()
        other = _made(makers[step.tied_to], found, found.source.read)[step.tied_to]
        if not torch.equal(own, other):
            raise CheckpointError(
                f"{found.path}: {step.names[0]} differs from {makers[step.tied_to].names[0]}, to which the "
                "configuration ties it; set tie_word_embeddings: false in the configuration (`config:`)."
            )


def _summary(found: Examined) -> str:
    """What was converted, in words."""
    precisions = sorted(set(found.dtypes.values()))
    words = [f"{counted(found.dtypes, 'tensor')} in {' and '.join(precisions)} from {found.path}"]
    words += [found.source.remark] if found.source.remark else []
    words += [f"{count} ignored ({found.map.ignored[p]})" for p, count in found.plan.ignored.items()]
    words += [f"{counted(found.plan.zeros, 'tensor')} of zeros"] if found.plan.zeros else []
    padded = [step for step in found.plan.steps if step.rule.padded and _dropped(step, found)]
    words += [f"{_dropped(step, found)} rows of padding of {step.names[0]} dropped" for step in padded]
    return ", ".join(words)


def _dropped(step: Step, found: Examined) -> int:
    rows = [sum(found.source.shapes[name][0] for name in ranks) for ranks in step.sources]
    shapes: Sequence[tuple[int, ...]] = shapes_of(step, found.targets)
    return sum(rows) - sum(shape[0] for shape in shapes)
