"""Checkpoint directories in Hugging Face layout: their files and the identities of their weights.

The weights of a directory have one of two kinds of identity:

* `files:…` is computed from the full digest of every weight file. It is used for weights of at most
  `fingerprint.WHOLE_BYTES` in total. It is also kept for larger weights that an earlier version hashed in
  full, as long as the record has those digests and the files are unchanged. Files are compared by path, size
  and modification time when the old record is first read, and by the sample of their bytes from then on.
* `sampled:…` is computed from a sample of every tensor. It is used for all other directories, because
  planning must not read all weights.

Both include the full digest of `config.json` and of the index. The scoring job reads all bytes and compares
them (`ebbtide.checkpoints.full_digest`). Scoring a directory never changes
its kind of identity.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.fingerprint import fingerprint, is_read_whole
from ebbtide.checkpoints.hub.fetched import fetch_directory, is_fetched, verify_fetched
from ebbtide.checkpoints.hub.lock import INDICES, TOKENIZER, weight_map
from ebbtide.checkpoints.precision import own_dtype
from ebbtide.errors import CheckpointError
from ebbtide.files import digest, file_sha256, read_json, write_text

INDEX = INDICES["safetensors"]
WINDOW_KEYS = ("n_positions", "max_position_embeddings", "n_ctx", "seq_length")
WINDOW = 2048  # tokens; for models without positions whose config.json sets no limit
LOCATED = "located.json"  # file name of the record of a directory on disk

File = dict[str, Any]  # entry of a record: the `stamp`, and `sha256` if the file was hashed in full


def weight_files(directory: str | Path) -> list[Path]:
    """Return the safetensors files of a checkpoint: `model.safetensors`, or those that its index lists.

    Other weight files are ignored, as in transformers. Raises `CheckpointError` if the directory or a file
    that loading needs is missing.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is not a directory; expected a Hugging Face checkpoint.")
    files = _listed(directory)
    for name in ("config.json", "tokenizer.json"):
        if not (directory / name).exists():
            raise CheckpointError(f"{directory} has no {name}; it is needed to load the checkpoint.")
    return files


def _listed(directory: Path) -> list[Path]:
    whole, index = directory / "model.safetensors", directory / INDEX
    if whole.exists():
        return [whole]
    if not index.exists():
        found = ", ".join(sorted(p.name for p in directory.iterdir())) or "nothing"
        raise CheckpointError(f"{directory} has neither {whole.name} nor {INDEX} (found: {found}).")
    listed = sorted(set(weight_map(index).values()))
    if missing := [name for name in listed if not (directory / name).exists()]:
        raise CheckpointError(f"{directory} lacks {', '.join(missing)}, which {INDEX} lists.")
    return [directory / name for name in listed]


@dataclass(frozen=True)
class Located:
    """A checkpoint directory and the identities of its files when they were last read."""

    directory: str
    weights: str  # identity of the weight files and the architecture
    tokenizer: str
    size_bytes: int  # of the weights
    dtype: str  # precision of the stored weights, see `ebbtide.checkpoints.precision`


def identities(directory: str | Path) -> tuple[str, str]:
    """Identities of the weights (with the architecture) and of the tokenizer, from the whole files."""
    directory = Path(directory)
    files = {path.name: {"sha256": file_sha256(path)} for path in _files(directory)}
    return files_identity(directory, files), _tokenizer_identity(directory, files)


def locate(directory: str | Path, record: str | Path) -> Located:
    """Identify the weights and the tokenizer of a directory; the result is cached in the file `record`.

    Snakemake calls this at every start. Files are read only if the path, size, modification time, change
    time or inode of one of them differs from the record. The change time detects files that were replaced
    under their old size and modification time. If the directory is gone, the record of this path is returned,
    so that scored checkpoints can still be analysed.

    Raises `CheckpointError` for an incomplete directory, or for a missing one without a record.
    """
    directory, record = Path(directory), Path(record)
    known = read_record(record)
    if known and not directory.exists():
        if known.get("path", str(directory)) != str(directory):
            raise CheckpointError(
                f"{directory} is not a directory, and {record} is the record of another, {known['path']}. "
                "Correct the path, or give the model another name."
            )
        return _from_record(directory, known)
    stamps = {path.name: stamp(path) for path in _files(directory)}
    absolute = str(directory.resolve())
    files = known.get("files", {})
    unmoved = known.get("directory") == absolute
    if unmoved and {name: _stamp_in(file) for name, file in files.items()} == stamps:
        return _from_record(directory, known)
    found, content = _read(directory, stamps, known, unmoved=unmoved)
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


def check_weights(checkpoint: str | Path, weights: str) -> None:
    """Check before loading that the weights are still those that the run was planned with.

    Raises `CheckpointError` if the files have changed or are missing.
    """
    directory = directory_of(checkpoint)
    if Path(checkpoint).name == LOCATED:
        weight_files(directory)
        found = locate(directory, checkpoint).weights
    elif is_fetched(directory):
        verify_fetched(directory, weights)
        return
    elif trained := read_record(directory / "checkpoint.json").get("weights"):
        found = f"trained:{trained}"
    elif weights.startswith("sampled:"):
        found = _sampled_identity(directory)
    else:
        found = identities(directory)[0]
    if found != weights:
        raise CheckpointError(
            f"{directory} has the weights {found}, but the run was planned with {weights}; "
            "run snakemake again."
        )


def files_identity(directory: Path, files: Mapping[str, File]) -> str:
    """Identity of the weights of a directory from the full digests of their files."""
    names = _weight_names(weight_files(directory))
    return f"files:{digest({name: files[name]['sha256'] for name in names})}"


def stamp(path: Path) -> dict[str, int]:
    """Size, modification and change time (ns) and inode of a file: they change when the file does."""
    status = path.stat()
    return {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "inode": status.st_ino,
    }


def _read(
    directory: Path, stamps: Mapping[str, Mapping[str, int]], known: Mapping[str, Any], *, unmoved: bool
) -> tuple[Located, dict[str, Any]]:
    """The identities of a directory, and the entries of its record about the files."""
    weights = weight_files(directory)
    size = sum(stamps[path.name]["size"] for path in weights)
    whole = is_read_whole(size)
    files: dict[str, File] = {name: dict(found) for name, found in stamps.items()}
    for path in _files(directory):
        if whole or path not in weights:
            files[path.name]["sha256"] = file_sha256(path)
    content: dict[str, Any] = {"files": files}
    if not whole:
        content["sample"] = fingerprint(weights)
        for name, sha256 in _recorded_digests(weights, content, known, unmoved=unmoved).items():
            files[name]["sha256"] = sha256
    hashed = all("sha256" in files[path.name] for path in weights)
    identity = files_identity(directory, files) if hashed else _sampled(content["sample"], files)
    located = Located(
        directory=str(directory),
        weights=identity,
        tokenizer=_tokenizer_identity(directory, files),
        size_bytes=size,
        dtype=own_dtype(directory, weights),
    )
    return located, content


def _recorded_digests(
    weights: Sequence[Path], content: Mapping[str, Any], known: Mapping[str, Any], *, unmoved: bool
) -> dict[str, str]:
    """Full digests by name from the record, if no weight file has changed since; otherwise an empty dict.

    Records of earlier versions have no sample, change time or inode.
    """
    old, files = known.get("files", {}), content["files"]
    pairs = [(old.get(path.name, {}), files[path.name]) for path in weights]
    if unmoved and "sample" not in known:
        same = all(before.get(key) == now[key] for before, now in pairs for key in ("size", "mtime_ns"))
    else:
        same = known.get("sample") == content["sample"]
    if not same or not all("sha256" in before for before, _ in pairs):
        return {}
    return {path.name: before["sha256"] for path, (before, _) in zip(weights, pairs, strict=True)}


def _stamp_in(file: File) -> File:
    return {key: value for key, value in file.items() if key != "sha256"}


def _from_record(directory: Path, known: Mapping[str, Any]) -> Located:
    named = {name: known.get(name, "unknown") for name in ("weights", "tokenizer", "dtype")}
    return Located(str(directory), **named, size_bytes=known["size_bytes"])


def _files(directory: Path) -> list[Path]:
    """All files that determine the identities: weights, configuration, index and tokenizer."""
    tokenizer = [name for name in TOKENIZER if (directory / name).exists()]
    return [directory / name for name in [*_weight_names(weight_files(directory)), *tokenizer]]


def _weight_names(weights: Sequence[Path]) -> list[str]:
    names = [path.name for path in weights]
    return [*names, "config.json"] if names == ["model.safetensors"] else [*names, "config.json", INDEX]


def _tokenizer_identity(directory: Path, files: Mapping[str, File]) -> str:
    return f"files:{digest({name: files[name]['sha256'] for name in TOKENIZER if name in files})}"


def _sampled_identity(directory: Path) -> str:
    """The identity `sampled:…` of a directory without a record."""
    weights = weight_files(directory)
    large = {path.name for path in weights}
    others = {p.name: {"sha256": file_sha256(p)} for p in _files(directory) if p.name not in large}
    return _sampled(fingerprint(weights), others)


def _sampled(sample: str, files: Mapping[str, File]) -> str:
    beside = {name: files[name]["sha256"] for name in ("config.json", INDEX) if name in files}
    return f"sampled:{digest({'weights': sample, **beside})}"


def read_record(path: Path) -> dict[str, Any]:
    """Read a record. A missing or damaged one is empty: records only save time."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "weights" in record else {}


def configuration(directory: str | Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint directory. Raises `CheckpointError` if it cannot be read."""
    return read_json(Path(directory) / "config.json", CheckpointError)


def context_window(config: Mapping[str, Any]) -> int:
    """Context window in tokens from a `config.json`; of the text model if the model also reads images."""
    config = config.get("text_config") or config
    return next((int(config[key]) for key in WINDOW_KEYS if config.get(key)), WINDOW)
