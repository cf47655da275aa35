"""Checkpoint directories in Hugging Face layout: their files and the identities of their weights.

The weights of a directory have one of two kinds of identity:

* `files:…` is computed from the full digest of every weight file. It is used for weights of at most
  `fingerprint.WHOLE_BYTES` in total. It is also kept for larger weights that an earlier version hashed in
  full, as long as the record has those digests and the files are unchanged. Files are compared by path, size
  and modification time when the old record is first read, and by the sample of their bytes from then on.
* `sampled:…` is computed from a sample of every tensor. It is used for all other directories, because
  planning must not read all weights.

Both include the full digest of `config.json` and of the index. The scoring job reads all bytes and compares
them (`ebbtide.checkpoints.verification`). Scoring a directory never changes its kind of identity.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.configuration import configuration
from ebbtide.checkpoints.facts import Facts, read_facts
from ebbtide.checkpoints.fingerprint import fingerprint, is_read_whole
from ebbtide.checkpoints.header import check_content, check_regular
from ebbtide.checkpoints.hub.fetched import fetch_directory
from ebbtide.checkpoints.hub.generation import GENERATION, TEMPLATE, generation_identity
from ebbtide.checkpoints.hub.lock import TOKENIZER
from ebbtide.checkpoints.precision import own_dtype
from ebbtide.checkpoints.record import (
    LOCATED,
    File,
    facts_in,
    is_record_of,
    read_record,
    recorded_digests,
    stamp,
    stamp_in,
)
from ebbtide.checkpoints.weight_files import (
    INDEX,
    MOST_TOKENIZER_BYTES,
    WHOLE,
    has_weight_files,
    read_headers,
    weight_files,
)
from ebbtide.errors import CheckpointError
from ebbtide.files import digest, file_sha256, write_text


@dataclass(frozen=True)
class Located:
    """A checkpoint directory and the identities of its files when they were last read."""

    directory: str
    weights: str  # identity of the weight files and the architecture
    tokenizer: str
    size_bytes: int  # of the weights
    dtype: str  # precision of the stored weights, see `ebbtide.checkpoints.precision`
    tokenizer_directory: str
    facts: Facts | None  # None: the weights are gone, and an earlier version wrote the record
    generation: str = ""  # identity of the files that only the generation of texts reads
    gone: bool = False  # the weights have been deleted; everything is from the record
    disk_bytes: int = 0  # most bytes of its conversion; 0 if it is not converted


def identities(directory: str | Path) -> tuple[str, str]:
    """Identities of the weights (with the architecture) and of the tokenizer, from the whole files."""
    directory = Path(directory)
    files = {name: {"sha256": file_sha256(path)} for name, path in identity_files(directory, None).items()}
    return files_identity(directory, files), tokenizer_identity(files)


def tokenizer_directory(directory: str | Path, given: str | Path | None = None) -> Path:
    """The directory of a checkpoint's tokenizer: `given`, else its own, else its parent.

    Trainers save the tokenizer once, in the directory of the run. Raises `CheckpointError` of the class
    `no_tokenizer` if there is none, and of another class for a damaged one.
    """
    own = Path(directory)
    candidates = [Path(given).expanduser()] if given is not None else [own, own.parent]
    for candidate in candidates:
        if (candidate / "tokenizer.json").exists():
            check_content(candidate / "tokenizer.json", MOST_TOKENIZER_BYTES)
            return candidate
    where = str(candidates[0]) if given is not None else f"{own} or its parent"
    raise CheckpointError(f"no tokenizer.json in {where}.", "no_tokenizer")


def locate(directory: str | Path, record: str | Path, tokenizer: str | None = None) -> Located:
    """Identify the weights and the tokenizer of a directory; the result is cached in the file `record`.

    Snakemake calls this at every start. Files are read only if the path, size, modification time, change
    time or inode of one of them differs from the record. The change time detects files that were replaced
    under their old size and modification time. If the weights are gone, the record of this path is returned,
    so that scored checkpoints can still be analysed.

    Parameters
    ----------
    tokenizer
        Directory of the tokenizer; None: see `tokenizer_directory`.

    Raises
    ------
    CheckpointError
        An incomplete directory, or missing weights without a record of this path.
    """
    directory, record = Path(directory), Path(record)
    known = read_record(record)
    if known and not has_weight_files(directory):
        if is_record_of(known, directory):
            return _from_record(directory, known, tokenizer, gone=True)
        if not directory.exists():
            raise CheckpointError(
                f"{directory} is not a directory, and {record} is the record of another, "
                f"{known.get('directory')}. Correct the path, or give the model another name."
            )
    paths = identity_files(directory, tokenizer)
    stamps = {name: stamp(path) for name, path in paths.items()}
    absolute = str(directory.resolve())
    files = known.get("files", {})
    unmoved = known.get("directory") == absolute
    complete = facts_in(known) is not None and known.get("tokenizer_directory") == _tokenizer_place(paths)
    if unmoved and complete and {name: stamp_in(file) for name, file in files.items()} == stamps:
        return _from_record(directory, known, tokenizer, gone=False)
    found, content = _read(directory, paths, stamps, known, unmoved=unmoved)
    write_text(
        json.dumps({**asdict(found), "directory": absolute, "path": str(directory), **content}, indent=1)
        + "\n",
        record,
    )
    return found


def directory_of(checkpoint: str | Path) -> Path:
    """The directory of a checkpoint, given the directory itself, a file in it, or a record of `locate`."""
    path = Path(checkpoint)
    if path.name.startswith("hub-"):
        return Path(fetch_directory(str(path)))
    if not path.is_file():
        return path
    if path.name == LOCATED:
        return Path(read_record(path).get("directory", path.parent))
    return path.parent


def tokenizer_of(checkpoint: str | Path) -> str | None:
    """The directory of the tokenizer according to a record of `locate`; None for anything else."""
    if Path(checkpoint).name != LOCATED:
        return None
    return read_record(Path(checkpoint)).get("tokenizer_directory")


def files_identity(directory: Path, files: Mapping[str, File]) -> str:
    """Identity of the weights of a directory from the full digests of their files."""
    names = _weight_names(weight_files(directory))
    return f"files:{digest({name: files[name]['sha256'] for name in names})}"


def _read(
    directory: Path,
    paths: Mapping[str, Path],
    stamps: Mapping[str, Mapping[str, int]],
    known: Mapping[str, Any],
    *,
    unmoved: bool,
) -> tuple[Located, dict[str, Any]]:
    """The identities of a directory, and the entries of its record about the files."""
    weights, config = weight_files(directory), configuration(directory)
    headers = read_headers(weights)
    size = sum(stamps[path.name]["size"] for path in weights)
    whole = is_read_whole(size)
    files: dict[str, File] = {name: dict(found) for name, found in stamps.items()}
    for name, path in paths.items():
        if whole or path not in weights:
            files[name]["sha256"] = file_sha256(path)
    content: dict[str, Any] = {"files": files}
    digests = {path.name: str(files[path.name].get("sha256")) for path in weights}
    if not whole:
        sample = fingerprint(headers)
        content["sample"], digests = sample.whole, dict(sample.files)
        for name, sha256 in recorded_digests(weights, content, known, unmoved=unmoved).items():
            files[name]["sha256"] = sha256
    hashed = all("sha256" in files[path.name] for path in weights)
    identity = files_identity(directory, files) if hashed else _sampled(content["sample"], files)
    located = Located(
        directory=str(directory),
        weights=identity,
        tokenizer=tokenizer_identity(files),
        size_bytes=size,
        dtype=own_dtype(directory, weights),
        tokenizer_directory=_tokenizer_place(paths),
        facts=read_facts(directory, headers, config, digests),
        generation=generation_identity(
            {name: f"sha256:{files[name]['sha256']}" for name in GENERATION if name in files}
        ),
    )
    return located, content


def _from_record(directory: Path, known: Mapping[str, Any], tokenizer: str | None, *, gone: bool) -> Located:
    named = {name: known.get(name, "unknown") for name in ("weights", "tokenizer", "dtype")}
    where = known.get("tokenizer_directory", known.get("directory", str(directory)))
    if gone and tokenizer is not None:  # it may be another than that of the record
        files = tokenizer_files(tokenizer_directory(directory, tokenizer))
        where = _tokenizer_place(files)
        named["tokenizer"] = tokenizer_identity({n: {"sha256": file_sha256(p)} for n, p in files.items()})
    return Located(
        str(directory),
        **named,
        size_bytes=known["size_bytes"],
        tokenizer_directory=where,
        facts=facts_in(known),
        generation=known.get("generation", ""),
        gone=gone,
    )


def _tokenizer_place(paths: Mapping[str, Path]) -> str:
    return str(paths["tokenizer.json"].parent.resolve())


def identity_files(directory: Path, tokenizer: str | None) -> dict[str, Path]:
    """All files that determine an identity, by name: weights, configuration, index and the others."""
    weights = {name: directory / name for name in _weight_names(weight_files(directory))}
    place = tokenizer_directory(directory, tokenizer)
    return weights | tokenizer_files(place) | generation_files(directory, place)


def generation_files(directory: Path, tokenizer: Path) -> dict[str, Path]:
    """The files that only the generation of texts reads, by name; `tokenizer` is its directory."""
    paths = {name: (tokenizer if name == TEMPLATE else directory) / name for name in GENERATION}
    found = {name: path for name, path in paths.items() if path.exists()}
    for path in found.values():
        check_regular(path, MOST_TOKENIZER_BYTES)
    return found


def tokenizer_files(directory: Path) -> dict[str, Path]:
    """The files of the tokenizer in a directory, by name. Raises `CheckpointError` for irregular ones."""
    found = {name: directory / name for name in TOKENIZER if (directory / name).exists()}
    for path in found.values():
        check_regular(path, MOST_TOKENIZER_BYTES)
    return found


def _weight_names(weights: Sequence[Path]) -> list[str]:
    names = [path.name for path in weights]
    return [*names, "config.json"] if names == [WHOLE] else [*names, "config.json", INDEX]


def tokenizer_identity(files: Mapping[str, File]) -> str:
    """Identity of a tokenizer from the full digests of its files."""
    return f"files:{digest({name: files[name]['sha256'] for name in TOKENIZER if name in files})}"


def sampled_identity(directory: Path) -> str:
    """The identity `sampled:…` of a directory without a record."""
    weights = weight_files(directory)
    beside = [name for name in _weight_names(weights) if directory / name not in weights]
    others = {name: {"sha256": file_sha256(directory / name)} for name in beside}
    return _sampled(fingerprint(read_headers(weights)).whole, others)


def _sampled(sample: str, files: Mapping[str, File]) -> str:
    beside = {name: files[name]["sha256"] for name in ("config.json", INDEX) if name in files}
    return f"sampled:{digest({'weights': sample, **beside})}"
