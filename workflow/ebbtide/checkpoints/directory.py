"""Checkpoint directories in Hugging Face layout: their files, and which weights they hold.

The identity of a directory's weights is one of two:

* `files:…`, from the full digest of every weight file, where the weights have at most
  `fingerprint.WHOLE_BYTES` in total. It is also kept for larger ones that an earlier version hashed in
  full, as long as the record has those digests and the files are the same: by path, size and modification
  time when a record of that version is met first, by the sample of their bytes ever after.
* `sampled:…`, from a sample of every tensor, for all other directories: planning reads no more than that.

Both include the full digest of `config.json` and of the index. The scoring job reads all bytes and compares
(`ebbtide.checkpoints.full_digest`). Which identity a directory has never depends on whether it was scored.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.fingerprint import fingerprint, is_read_whole
from ebbtide.checkpoints.hub.fetched import is_fetched, verify_fetched
from ebbtide.checkpoints.hub.lock import INDICES, TOKENIZER, weight_map
from ebbtide.checkpoints.precision import own_dtype
from ebbtide.errors import CheckpointError
from ebbtide.files import digest, file_sha256, read_json, write_text

INDEX = INDICES["safetensors"]
WINDOW_KEYS = ("n_positions", "max_position_embeddings", "n_ctx", "seq_length")
WINDOW = 2048  # tokens, for a model without positions whose configuration names no limit
LOCATED = "located.json"  # name of the record of a directory on disk

File = dict[str, Any]  # of a record: `stamp`, and `sha256` where the file was hashed in full


def weight_files(directory: str | Path) -> list[Path]:
    """The safetensors files that hold a checkpoint's weights: `model.safetensors`, or those its index lists.

    Other files beside them are not looked at, as transformers does not. Raises `CheckpointError` if the
    directory or one of the files that loading needs is missing.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is not a directory; expected a Hugging Face checkpoint there.")
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
        raise CheckpointError(f"{directory} holds neither {whole.name} nor {INDEX} (found: {found}).")
    listed = sorted(set(weight_map(index).values()))
    if missing := [name for name in listed if not (directory / name).exists()]:
        raise CheckpointError(f"{directory} lacks {', '.join(missing)}, which {INDEX} lists.")
    return [directory / name for name in listed]


@dataclass(frozen=True)
class Located:
    """A checkpoint directory and what its files were when they were last read."""

    directory: str
    weights: str  # identity of the weight files and the architecture
    tokenizer: str
    size_bytes: int  # of the weights
    dtype: str  # their own precision, see `ebbtide.checkpoints.precision`


def identities(directory: str | Path) -> tuple[str, str]:
    """Identities of the weights (with the architecture) and of the tokenizer, from all bytes of the files."""
    directory = Path(directory)
    files = {path.name: {"sha256": file_sha256(path)} for path in _files(directory)}
    return files_identity(directory, files), _tokenizer_identity(directory, files)


def locate(directory: str | Path, record: str | Path) -> Located:
    """The identities of a directory, cached in the file `record`.

    Every start of Snakemake asks again. Nothing is read while path, size, modification time, change time
    and inode of each file are those of the record: the change time moves also when files are replaced under
    their old size and modification time. When the directory is gone, the record answers for it, so that
    what was scored can still be analysed.

    Raises `CheckpointError` for an incomplete directory, or a missing one without a record.
    """
    directory, record = Path(directory), Path(record)
    known = read_record(record)
    if known and not directory.exists():
        return _remembered(directory, known)
    stamps = {path.name: stamp(path) for path in _files(directory)}
    place = str(directory.resolve())
    files = known.get("files", {})
    unmoved = known.get("directory") == place
    if unmoved and {name: _stamp_in(file) for name, file in files.items()} == stamps:
        return _remembered(directory, known)
    found, content = _read(directory, stamps, known, unmoved=unmoved)
    write_text(json.dumps({**asdict(found), "directory": place, **content}, indent=1) + "\n", record)
    return found


def directory_of(checkpoint: str | Path) -> Path:
    """The directory that a name of a checkpoint stands for: itself, a file in it, or a record of `locate`."""
    path = Path(checkpoint)
    if not path.is_file():
        return path
    if path.name == LOCATED:
        return Path(read_record(path).get("directory", path.parent))
    return path.parent


def check_weights(checkpoint: str | Path, weights: str) -> None:
    """Check, before loading, that the weights are still those that the run was planned with.

    Raises `CheckpointError` when the files have changed since, or are gone.
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
            f"{directory} holds weights {found}, the run was planned with {weights}; run snakemake again."
        )


def files_identity(directory: Path, files: Mapping[str, File]) -> str:
    """Identity of the weights of a directory from the full digests of their files."""
    names = _weight_names(weight_files(directory))
    return f"files:{digest({name: files[name]['sha256'] for name in names})}"


def stamp(path: Path) -> dict[str, int]:
    """What changes when a file does: size, modification and change time (ns), inode."""
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
    """The identities of a directory, and what its record keeps of the files."""
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
        for name, sha256 in _digests_before(weights, content, known, unmoved=unmoved).items():
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


def _digests_before(
    weights: Sequence[Path], content: Mapping[str, Any], known: Mapping[str, Any], *, unmoved: bool
) -> dict[str, str]:
    """Full digests by name that a record has of weight files that are the same now; all of them, or none.

    A record of an earlier version has no sample, and neither change time nor inode.
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


def _remembered(directory: Path, known: Mapping[str, Any]) -> Located:
    named = {name: known.get(name, "unknown") for name in ("weights", "tokenizer", "dtype")}
    return Located(str(directory), **named, size_bytes=known["size_bytes"])


def _files(directory: Path) -> list[Path]:
    """All files that determine the identities: weights, configuration, index, tokenizer."""
    words = [name for name in TOKENIZER if (directory / name).exists()]
    return [directory / name for name in [*_weight_names(weight_files(directory)), *words]]


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
    """A record as it was written, or nothing when it is missing or damaged: it only saves time."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "weights" in record else {}


def configuration(directory: str | Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint directory. Raises `CheckpointError` when it is none."""
    return read_json(Path(directory) / "config.json", CheckpointError)


def context_window(config: Mapping[str, Any]) -> int:
    """Tokens that a model can read, by its configuration (of its text, where it reads images too)."""
    config = config.get("text_config") or config
    return next((int(config[key]) for key in WINDOW_KEYS if config.get(key)), WINDOW)
