"""What is known of a checkpoint in another format before it is converted: identity, precision, size, facts.

Reading it takes the metadata of the files, a bounded sample of their bytes, and the names and shapes of the
model. All are kept in a record, so later starts only look at the files' sizes and times.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from ebbtide.checkpoints.configuration import read_configuration
from ebbtide.checkpoints.directory import (
    Located,
    generation_files,
    tokenizer_directory,
    tokenizer_files,
    tokenizer_identity,
)
from ebbtide.checkpoints.facts import IRRELEVANT_KEYS, Facts
from ebbtide.checkpoints.formats.gguf import GgufFile
from ebbtide.checkpoints.formats.mapping import Plan, identity_of, plan
from ebbtide.checkpoints.formats.operations import most_values, precisions
from ebbtide.checkpoints.formats.peft import PeftSource
from ebbtide.checkpoints.formats.record import CONVERTED
from ebbtide.checkpoints.formats.rules import Map, read_map
from ebbtide.checkpoints.formats.source import BYTES, Source, files_digest, not_converted
from ebbtide.checkpoints.formats.sources import ADAPTER, open_source
from ebbtide.checkpoints.formats.targets import Targets, targets_of
from ebbtide.checkpoints.hub.generation import generation_identity
from ebbtide.checkpoints.precision import NAMED_IN_CONFIG
from ebbtide.checkpoints.record import facts_in, is_record_of, read_record, stamp
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.files import canonical_json, digest, file_sha256, write_text

CONVERSION_VERSION = 1
"""Increment by hand when the conversion of the same files gives other tensors."""

CONFIG = "config.json"
HEADER_BYTES = 512  # most that a tensor takes in the header of its file and in the index
STAMP_BYTES = 1024  # most that a file of the source takes in the records
RECORD_BYTES = 65_536  # most of the configuration and the rest of the records


@dataclass(frozen=True)
class Reading:
    """How the checkpoints of a row are read.

    Attributes
    ----------
    format
        Key of `sources.FORMATS`.
    map
        Name of a map, or the path of one.
    config
        A `config.json`, or a directory with one; None: that beside the checkpoint, or of the source.
    tokenizer
        Directory of the tokenizer; None: see `directory.tokenizer_directory`.
    where
        File and key of the row, for messages.
    base
        Directory of the model that adapters change; None: the one that they name.
    """

    format: str
    map: str
    config: str | None
    tokenizer: str | None
    where: str
    base: str | None = None


@dataclass(frozen=True)
class Examined:
    """A checkpoint whose tensors have been compared with a model.

    Attributes
    ----------
    config
        The configuration to write.
    dtypes
        Precision of each tensor of the model by name.
    identity
        Of the files, the map, the configuration and the tokenizer.
    generation
        Files that only the generation of texts reads, by name. The identity of weights does not cover them.
    """

    path: Path
    source: Source
    map: Map
    targets: Targets
    plan: Plan
    config: Mapping[str, Any]
    dtypes: Mapping[str, str]
    tokenizer: Path
    identity: str
    generation: Mapping[str, Path]
    files: str  # digest of the files alone

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensors to write."""
        return sum(math.prod(self.targets.shapes[name]) * BYTES[d] for name, d in self.dtypes.items())

    @property
    def disk_bytes(self) -> int:
        """Most bytes that the conversion takes on disk."""
        copied = (*tokenizer_files(self.tokenizer).values(), *self.generation.values())
        named = HEADER_BYTES * len(self.dtypes) + STAMP_BYTES * len(self.source.files) + RECORD_BYTES
        return self.size_bytes + named + sum(file.stat().st_size for file in copied)


def locate_source(path: Path, record: Path, reading: Reading) -> Located:
    """Identify a checkpoint that is converted before it is scored; the result is cached in `record`.

    Raises `CheckpointError` for files that cannot be read, or do not fit the map or the configuration, and
    `ConfigError` for an invalid map.
    """
    known = read_record(record)
    if is_record_of(known, path) and not is_there(path, known):
        return _from_record(path, known, gone=not converted_directory(record, known["weights"]).exists())
    inputs = _inputs(path, reading)
    if known.get("inputs") == inputs and facts_in(known) is not None and is_unchanged(path, known):
        return _from_record(path, known, gone=False)
    found = examine(path, reading)
    located = Located(
        directory=str(path),
        weights=f"{CONVERTED}:{found.identity}",
        tokenizer=_tokenizer_identity(found.tokenizer),
        size_bytes=found.size_bytes,
        dtype=most_values(found.dtypes, found.targets),
        tokenizer_directory=str(found.tokenizer.resolve()),
        facts=_facts(found),
        generation=generation_identity(
            {name: f"sha256:{file_sha256(file)}" for name, file in found.generation.items()}
        ),
        disk_bytes=found.disk_bytes,
    )
    read = [*files_read(found, reading), *([path] if path.is_dir() else [])]
    content = {
        **asdict(located),
        "directory": str(path.resolve()),
        "path": str(path),
        "inputs": inputs,
        # Without the base of an adapter, which may stay when the adapter is deleted.
        "sources": _names(found.source, path),
        "stamps": _stamps([str(file.resolve()) for file in read]),
    }
    write_text(json.dumps(content, indent=1) + "\n", record)
    return located


def is_there(path: Path, known: Mapping[str, Any]) -> bool:
    """Whether any file of a checkpoint's record exists, wherever the checkpoint was when it was recorded."""
    return any((path / name).exists() for name in known.get("sources", ["."]))


def is_unchanged(path: Path, known: Mapping[str, Any]) -> bool:
    """Whether the files of a checkpoint, and its directory, are those of its record."""
    stamps = known.get("stamps", {})
    return known.get("directory") == str(path.resolve()) and bool(stamps) and _stamps(stamps) == stamps


def has_same_files(path: Path, known: Mapping[str, Any], reading: Reading) -> bool:
    """Whether a checkpoint has the files of its record, unchanged, whatever else is in its directory.

    Raises `CheckpointError` for files that cannot be read.
    """
    own = str(path.resolve())
    stamps = {file: found for file, found in known.get("stamps", {}).items() if file != own or path.is_file()}
    if known.get("directory") != own or not stamps or _stamps(stamps) != stamps:
        return False
    source = open_source(reading.format, path, reading.base, reading.where)
    return _names(source, path) == known.get("sources")


def examine(path: Path, reading: Reading) -> Examined:
    """Compare a checkpoint with its map and its configuration. Reads no values of tensors but a sample.

    Raises `CheckpointError` and `ConfigError`, see `locate_source`.
    """
    of = read_map(reading.map, f"{reading.where}.map")
    source = open_source(reading.format, path, reading.base, reading.where)
    config, file = _configuration(path, source, reading)
    targets = _targets(canonical_json(config), file)
    steps = plan(of, source.shapes, targets, str(path))
    dtypes = precisions(steps, source.shapes, source.dtypes, targets, str(path))
    written = {key: value for key, value in config.items() if key not in NAMED_IN_CONFIG}
    written["dtype"] = most_values(dtypes, targets)
    tokenizer = _tokenizer_directory(path, source, reading)
    if isinstance(source, GgufFile):
        source.check_tokenizer(tokenizer)
    files = files_digest(source.files, path)
    identity = digest(
        {
            "files": files,
            "format": reading.format,
            "plan": identity_of(steps),
            "config": written,
            "tokenizer": _tokenizer_identity(tokenizer),
            "conversion_version": CONVERSION_VERSION,
        }
    )
    beside = _generation_files(path, source, reading, tokenizer)
    return Examined(path, source, of, targets, steps, written, dtypes, tokenizer, identity, beside, files)


def folder_of(path: Path) -> Path:
    """Return the directory of a checkpoint: itself, or that of its file."""
    return path if path.is_dir() else path.parent


def conversion_spec(path: Path, reading: Reading) -> dict[str, Any]:
    """Return what `conversion.convert_to_directory` needs, as JSON."""
    return {"path": str(path), **asdict(reading)}


def _configuration(path: Path, source: Source, reading: Reading) -> tuple[dict[str, Any], str]:
    """The configuration of a checkpoint, and where it is from."""
    if reading.config is not None:
        file = _given(reading.config)
        if not file.is_file():
            raise ConfigError(
                f"{reading.where}.config: {file} does not exist; correct it, or leave config out if {CONFIG} "
                "is beside the checkpoint."
            )
        return read_configuration(file), str(file)
    own = folder_of(path) / CONFIG
    if own.exists() and reading.format != ADAPTER:
        found = read_configuration(own)
        if "model_type" in found or source.config is None:
            return found, str(own)
    if source.config is not None:
        return dict(source.config), f"the configuration in {path}"
    raise not_converted(
        f"{path} has no {CONFIG} beside it; set `config:` to that of a model of the same shape."
    )


def _tokenizer_directory(path: Path, source: Source, reading: Reading) -> Path:
    """The directory of the tokenizer; of an adapter without one, that of its base."""
    try:
        return tokenizer_directory(folder_of(path), reading.tokenizer)
    except CheckpointError as error:
        if not isinstance(source, PeftSource) or error.finding != "no_tokenizer" or reading.tokenizer:
            raise
        return tokenizer_directory(source.base)


def _generation_files(path: Path, source: Source, reading: Reading, tokenizer: Path) -> dict[str, Path]:
    """The files beside the configuration and the tokenizer that only the generation of texts reads."""
    if reading.config is not None:
        folder = _given(reading.config).parent
    else:
        folder = source.base if isinstance(source, PeftSource) else folder_of(path)
    return generation_files(folder, tokenizer)


def _given(config: str) -> Path:
    path = Path(config).expanduser()
    return path / CONFIG if path.is_dir() else path


_MAKING = Lock()  # transformers changes the default precision of the process while it makes a model


def _targets(config: str, where: str) -> Targets:
    """The tensors of a configuration; a run has the same one at every step."""
    with _MAKING:
        return _made_targets(config, where)


@cache
def _made_targets(config: str, where: str) -> Targets:
    return targets_of(json.loads(config), where)


def _tokenizer_identity(directory: Path) -> str:
    files = tokenizer_files(directory)
    return tokenizer_identity({name: {"sha256": file_sha256(path)} for name, path in files.items()})


def _facts(found: Examined) -> Facts:
    shapes = sorted(found.targets.shapes.values())
    return Facts(
        files={"source": found.files},
        config={k: digest(repr(v)) for k, v in found.config.items() if k not in IRRELEVANT_KEYS},
        shapes=digest(shapes),
        values=sum(map(math.prod, shapes)),
    )


def _inputs(path: Path, reading: Reading) -> dict[str, Any]:
    """What the identity depends on, apart from the contents of files; also which files there are."""
    given = {key: value for key, value in asdict(reading).items() if key != "where"}
    identity = read_map(reading.map, f"{reading.where}.map").identity
    own = folder_of(path)
    places = [own, own.parent] if reading.tokenizer is None else [Path(reading.tokenizer).expanduser()]
    return {
        **given,
        "map": identity,
        "config_beside": (own / CONFIG).exists(),
        "tokenizer_files": {str(place): sorted(tokenizer_files(place)) for place in places},
        "version": CONVERSION_VERSION,
    }


def files_read(found: Examined, reading: Reading) -> list[Path]:
    """The files that a conversion is made of: tensors, configuration, tokenizer, and those for generation."""
    own = _given(reading.config) if reading.config is not None else folder_of(found.path) / CONFIG
    others = (*tokenizer_files(found.tokenizer).values(), *found.generation.values())
    return [*found.source.files, *([own] if own.exists() else []), *others]


def _names(source: Source, path: Path) -> list[str]:
    """The files of a checkpoint relative to its path, which is `.` itself if it is a file."""
    return [file.relative_to(path).as_posix() for file in source.files if file.is_relative_to(path)]


def _stamps(files: Mapping[str, Any] | list[str]) -> dict[str, Any]:
    """The stamps of files; none of one that does not exist."""
    return {file: stamp(Path(file)) for file in files if Path(file).exists()}


def converted_directory(record: Path, weights: str) -> Path:
    """Return the directory of converted weights, which is beside their record."""
    return record.with_name(weights.replace(":", "-", 1))


def _from_record(path: Path, known: Mapping[str, Any], *, gone: bool) -> Located:
    return Located(
        str(path),
        known["weights"],
        known["tokenizer"],
        known["size_bytes"],
        known["dtype"],
        known["tokenizer_directory"],
        facts_in(known),
        generation=known.get("generation", ""),
        gone=gone,
        disk_bytes=known.get("disk_bytes", known["size_bytes"]),
    )
