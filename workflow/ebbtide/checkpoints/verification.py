"""The check that a checkpoint's files are those that its identity promises, by the job that loads them.

Whoever makes a checkpoint records the digests of its files once:

* training and averaging write them into `checkpoint.json` of the checkpoint (`ebbtide.training.record`);
* fetching takes them from the lock and writes them into `fetched.json` (`ebbtide.checkpoints.hub.fetched`);
* planning records a directory on disk when it first reads it (`ebbtide.checkpoints.directory`). Of large
  weights it reads a sample only, so the first job that scores them records their full digests in the store.

Before a job loads a checkpoint, it hashes the configuration, the index and the tokenizer. Weights are hashed
while they are loaded. Nothing is scored before all digests have been compared.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ebbtide.checkpoints.directory import (
    directory_of,
    files_identity,
    identities,
    identity_files,
    sampled_identity,
    tokenizer_identity,
    tokenizer_of,
)
from ebbtide.checkpoints.hub.digests import digest_of, kind_of
from ebbtide.checkpoints.hub.fetched import FETCHED, check_fetched, fetched_remedy, is_fetched, read_fetched
from ebbtide.checkpoints.hub.lock import TOKENIZER
from ebbtide.checkpoints.record import LOCATED, File, read_record, stamp
from ebbtide.checkpoints.weight_files import weight_files
from ebbtide.errors import CheckpointError
from ebbtide.files import file_sha256, read_json, write_text
from ebbtide.training.record import RECORD, TRAINED, made_remedy, read_made

_MAKERS = {TRAINED: "training", "averaged": "averaging", "converted": "the conversion"}
THREADS = 4  # files hashed in parallel: one core hashes only 0.5 to 2 GB/s


@dataclass(frozen=True)
class Recorded:
    """The digests that a checkpoint's files had when it was made, and what to do if they differ.

    Attributes
    ----------
    record
        The file with the digests.
    files
        Path → `sha256:…` or `git:…`. Weights of which planning read only a sample are not included.
    """

    record: Path
    files: Mapping[Path, str]
    remedy: str


def check_before_loading(checkpoint: str | Path, weights: str, tokenizer: str) -> None:
    """Check all files but the weights: configuration, index, tokenizer, and code of a fetched checkpoint.

    Parameters
    ----------
    checkpoint
        Anything that `directory_of` accepts.
    weights, tokenizer
        Identities that the run was planned with.

    Raises
    ------
    CheckpointError
        A file is missing or damaged, or there is one that was not there before; with a remedy.
    """
    directory, kind = directory_of(checkpoint), kind_of(weights)
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is not a directory; restore it, or run snakemake again.")
    recorded = _recorded(checkpoint, weights, tokenizer)
    if recorded:
        loaded = set(weight_files(directory))
        _compare(recorded, [path for path in recorded.files if path not in loaded])
    else:
        digests = _digests_beside_weights(checkpoint)
        _check_identity(directory, "tokenizer", tokenizer_identity(digests), tokenizer)
    if kind == "sampled":
        _check_identity(directory, "weights", sampled_identity(directory), weights)


def check_weights(checkpoint: str | Path, weights: str, tokenizer: str, cells: str | Path) -> dict[str, str]:
    """Hash all bytes of the weight files and compare them with their records; return the sha256 by name.

    Parameters
    ----------
    checkpoint, weights, tokenizer
        As for `check_before_loading`, which is called first.
    cells
        The cell store. It records the digests with which each `sampled:` identity was first scored.

    Raises
    ------
    CheckpointError
        A file differs from its record, or changed while it was read.
    """
    directory, kind = directory_of(checkpoint), kind_of(weights)
    recorded = _recorded(checkpoint, weights, tokenizer)
    paths = weight_files(directory)
    before = [stamp(path) for path in paths]
    found = dict(zip([path.name for path in paths], _sha256(paths), strict=True))
    for path, seen in zip(paths, before, strict=True):
        if stamp(path) != seen:
            raise CheckpointError(f"{path} changed while it was read; run snakemake again.")
    if recorded:
        hashed = {path: f"sha256:{found[path.name]}" for path in paths}
        _compare(recorded, [path for path in paths if path in recorded.files], hashed)
    if kind == "files":
        files = _digests_beside_weights(checkpoint) | {name: {"sha256": found[name]} for name in found}
        _check_identity(directory, "weights", files_identity(directory, files), weights)
    elif kind in ("sampled", "converted"):  # both are known from a sample
        _check_first(directory, weights, found, Path(cells))
    return found


def identity_of_kind(directory: Path, kind: str) -> str:
    """Return the identity of the weights of a directory that begins with `kind`; empty if it has none.

    A directory that Ebbtide trained or fetched also has the identity of any directory on disk.
    """
    match kind:
        case "trained" | "averaged" | "converted":
            try:
                return f"{kind}:{read_made(directory, kind).weights}"
            except CheckpointError:
                return ""
        case "hub":
            return read_fetched(directory).weights if is_fetched(directory) else ""
        case "sampled":
            return sampled_identity(directory)
    return identities(directory)[0]


def verify_fetched(directory: Path, weights: str, tokenizer: str) -> None:
    """Check all files of a fetched directory. Raises `CheckpointError` that names the first wrong one."""
    recorded = _fetched(directory, weights, tokenizer)
    _compare(recorded, list(recorded.files))


def _recorded(checkpoint: str | Path, weights: str, tokenizer: str) -> Recorded | None:
    """The record of a checkpoint; None for a directory on disk without one that fits the plan."""
    directory = directory_of(checkpoint)
    match kind_of(weights):
        case "trained" | "averaged" | "converted":
            return _made(directory, weights, kind_of(weights))
        case "hub":
            return _fetched(directory, weights, tokenizer)
        case _ if Path(checkpoint).name == LOCATED:
            return _on_disk(Path(checkpoint), directory, weights, tokenizer)
    return None


def _made(directory: Path, weights: str, how: str) -> Recorded:
    made, end = read_made(directory, how), made_remedy(directory, how)
    if f"{how}:{made.weights}" != weights:
        raise CheckpointError(
            f"{directory} has the weights {how}:{made.weights}, but the run was planned with {weights}; "
            f"{end}."
        )
    by = _MAKERS[how]
    for path in directory.iterdir():  # an additional file of the tokenizer would be loaded
        known = path.name in made.files or path.name == RECORD or path.match(f"{how}-*.json")
        if not known and not path.name.startswith("."):
            raise CheckpointError(f"{path} was not written by {by}; remove it, or {end}.")
    files = {directory / name: f"sha256:{sha256}" for name, sha256 in made.files.items()}
    _check_presence(files, end)
    return Recorded(directory / RECORD, files, end)


def _fetched(directory: Path, weights: str, tokenizer: str) -> Recorded:
    fetched = check_fetched(directory, weights, tokenizer)
    files = {directory / name: file.digest for name, file in fetched.files.items()}
    return Recorded(directory / FETCHED, files, fetched_remedy(directory))


def _on_disk(record: Path, directory: Path, weights: str, tokenizer: str) -> Recorded | None:
    known = read_record(record)
    if (known.get("weights"), known.get("tokenizer")) != (weights, tokenizer):
        return None  # planned again in the meantime
    place = Path(known["tokenizer_directory"])
    end = f"restore it, or delete {record} and run snakemake, which scores the new contents"
    recorded = known["files"]
    paths = {name: (place if name in TOKENIZER else directory) / name for name in recorded}
    _check_presence(paths.values(), end)
    for name, path in identity_files(directory, str(place)).items():
        if name not in recorded:
            raise CheckpointError(f"{path} was not there when {record} was written; {end}.")
    digests = {paths[name]: f"sha256:{file['sha256']}" for name, file in recorded.items() if "sha256" in file}
    return Recorded(record, digests, end)


def _check_presence(paths: Iterable[Path], remedy: str) -> None:
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing, or not a regular file; {remedy}.")


def _compare(recorded: Recorded, paths: Sequence[Path], known: Mapping[Path, str] | None = None) -> None:
    """Compare files with their recorded digests; `known` are digests of files that have been hashed."""
    for path in paths:
        expected = recorded.files[path]
        found = (known or {}).get(path, "")
        if kind_of(found) != kind_of(expected):
            try:
                found = digest_of(path, kind_of(expected))
            except OSError as error:
                raise CheckpointError(
                    f"{path} cannot be read ({error.strerror}); {recorded.remedy}."
                ) from error
        if found != expected:
            raise CheckpointError(
                f"{path} has the digest {found}, but {expected} in {recorded.record}; {recorded.remedy}."
            )


def _digests_beside_weights(checkpoint: str | Path) -> dict[str, File]:
    """Digests of the configuration, the index and the tokenizer of a directory on disk by name."""
    directory = directory_of(checkpoint)
    weights = weight_files(directory)
    files = identity_files(directory, tokenizer_of(checkpoint)).items()
    beside = {name: path for name, path in files if path not in weights}
    return {
        name: {"sha256": sha256} for name, sha256 in zip(beside, _sha256([*beside.values()]), strict=True)
    }


def _check_identity(directory: Path, what: str, found: str, planned: str) -> None:
    if found != planned:
        raise CheckpointError(
            f"{directory} has the {what} {found}, but the run was planned with {planned}; "
            "run snakemake again, which scores the new contents."
        )


def _check_first(directory: Path, weights: str, found: Mapping[str, str], cells: Path) -> None:
    """Compare with the digests of the first job that scored this identity, or record them as the first."""
    path = cells / "weights" / f"{weights.partition(':')[2]}.json"
    if not path.exists():
        first = {"weights": weights, "directory": str(directory.resolve()), "sha256": dict(found)}
        write_text(json.dumps(first, indent=1) + "\n", path)
        return
    end = "delete it, and score again with --config recompute=true"
    expected = read_json(path, CheckpointError, end).get("sha256")
    if not isinstance(expected, dict):
        raise CheckpointError(f"{path} is not a record of digests; {end}.")
    for name in found:
        if found[name] != expected.get(name):
            raise CheckpointError(
                f"{directory / name} has the sha256 {found[name]}, but {weights} was first scored with "
                f"{expected.get(name)} ({path}); restore the file, or set scoring.store to another directory."
            )


def _sha256(paths: Sequence[Path]) -> list[str]:
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(file_sha256, paths))
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read ({error.strerror}).") from error
