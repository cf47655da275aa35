"""What was fetched: the record beside the files, and whether they are still those files. A lean module.

`fetched.json` is the last file of a fetched directory; with it the directory is whole. It keeps the identity
that the lock gave the weights, and size, time and digest of each file, so that a check before loading takes
no hashing.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.hub.digests import digest_of, kind_of
from ebbtide.errors import CheckpointError
from ebbtide.files import read_json, write_text

FETCHED = "fetched.json"
_BESIDE = ".beside"
_CONFIGURATIONS = ("config.json", "tokenizer_config.json")
_OWN_CLASS = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*")  # module.Class, of the directory itself


@dataclass(frozen=True)
class FetchedFile:
    """A file as it lay when it was fetched; `of` is the digest in the lock of the file it was made from."""

    digest: str
    size: int
    mtime_ns: int
    of: str | None = None


@dataclass(frozen=True)
class Fetched:
    """The record of a fetched directory.

    Attributes
    ----------
    format
        What the repository holds: `safetensors`, or `bin`, from which the safetensors here were made.
    weights, tokenizer
        Identities by the lock.
    remote_code
        Whether loading may run the Python files of this directory.
    dtype
        Precision of the weights, see `ebbtide.checkpoints.precision`.
    size_bytes
        Of the weights.
    """

    repo: str
    revision: str
    commit: str
    format: str
    weights: str
    tokenizer: str
    remote_code: bool
    dtype: str
    size_bytes: int
    files: Mapping[str, FetchedFile]


def is_fetched(directory: str | Path) -> bool:
    """Whether a directory has the record of a fetch."""
    return (Path(directory) / FETCHED).is_file()


def place_for(directory: str) -> str:
    """Where weights of an identity lie, or may be fetched to: `directory`, or a name beside it.

    A removal that was cut short leaves a directory that holds no checkpoint. Planning deletes nothing, so
    such a checkpoint is fetched beside it; `jobs.weight_budget` cleans up when the run has ended.
    """
    place, number = directory, 1
    while Path(place).exists() and not is_fetched(place):
        number += 1
        place = f"{directory}{_BESIDE}{number}"
    return place


def first_place(place: str) -> Path:
    """The directory that `place_for` was asked for."""
    return Path(re.sub(rf"{re.escape(_BESIDE)}\d+$", "", place))


def write_fetched(fetched: Fetched, directory: Path) -> None:
    """Write the record into its directory."""
    write_text(json.dumps(asdict(fetched), indent=1) + "\n", directory / FETCHED)


def read_fetched(directory: str | Path) -> Fetched:
    """The record of a fetched directory. Raises `CheckpointError` when it is damaged."""
    path = Path(directory) / FETCHED
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        files = {name: FetchedFile(**file) for name, file in document.pop("files").items()}
        return Fetched(**document, files=files)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not the record of a fetched checkpoint ({type(error).__name__}: {error}); "
            f"remove {directory} and fetch it again."
        ) from None


def verify_fetched(directory: str | Path, weights: str) -> None:
    """Check that a fetched directory holds the weights of this identity, and nothing else than was fetched.

    A file of the recorded size and time is taken as it is; another one is hashed. Raises `CheckpointError`
    that names the file.
    """
    directory = Path(directory)
    fetched = read_fetched(directory)
    remedy = f"remove {directory} and fetch it again"
    if fetched.weights != weights:
        raise CheckpointError(
            f"{directory} holds weights {fetched.weights}, the run was planned with {weights}; {remedy}."
        )
    for name, file in fetched.files.items():
        path = directory / name
        if path.is_symlink() or not path.is_file():
            raise CheckpointError(f"{path} is no file any more; {remedy}.")
        status = path.stat()
        if status.st_size != file.size:
            raise CheckpointError(f"{path} has {status.st_size} bytes, {file.size} were fetched; {remedy}.")
        if status.st_mtime_ns != file.mtime_ns:
            found = digest_of(path, kind_of(file.digest))
            if found != file.digest:
                raise CheckpointError(f"{path} is {found}, fetched was {file.digest}; {remedy}.")
    for path in directory.iterdir():  # a second file of weights would be loaded in place of the first
        if path.name not in fetched.files and path.name != FETCHED and not path.name.startswith("."):
            raise CheckpointError(f"{path} was not fetched; remove it, or {remedy}.")


def runs_code(directory: str | Path) -> bool:
    """Whether loading may run the Python files of a directory: only if it was fetched with that permission.

    Raises `CheckpointError` where a configuration names code that is not in the directory.
    """
    if not is_fetched(directory) or not read_fetched(directory).remote_code:
        return False
    for name in _CONFIGURATIONS:
        path = Path(directory) / name
        if not path.exists():
            continue
        for reference in _references(read_json(path, CheckpointError)):
            if not _OWN_CLASS.fullmatch(reference):
                raise CheckpointError(
                    f"{path}: auto_map: found {reference!r}; allowed: module.Class of a Python file in "
                    f"{directory}, since code of another repository is not locked."
                )
    return True


def _references(value: Any, inside: bool = False) -> Iterator[str]:
    """All strings within `auto_map`, at any depth."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _references(child, inside or key == "auto_map")
    elif isinstance(value, list):
        for child in value:
            yield from _references(child, inside)
    elif inside and isinstance(value, str):
        yield value
