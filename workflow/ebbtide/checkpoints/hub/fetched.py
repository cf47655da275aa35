"""The record of a fetched directory, and the check that its files are unchanged. A lean module.

`fetched.json` is written last, so a directory that has it is complete. It contains the identity of the
weights from the lock, and the size, modification time and digest of each file. With these, a check before
loading needs no hashing.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.hub.digests import digest_of, kind_of
from ebbtide.errors import CheckpointError, type_and_reason
from ebbtide.files import read_json, write_text

FETCHED = "fetched.json"
_SUFFIX = ".beside"
_CONFIGURATIONS = ("config.json", "tokenizer_config.json")
_OWN_CLASS = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*")  # module.Class of a file in the directory


@dataclass(frozen=True)
class FetchedFile:
    """A file when it was fetched. `of` is the locked digest of the file that it was converted from."""

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
        Weights in the repository: `safetensors`, or `bin`, which were converted to safetensors.
    weights, tokenizer
        Identities from the lock.
    remote_code
        Whether loading may run the Python files of this directory.
    dtype
        Precision of the weights, see `ebbtide.checkpoints.precision`.
    size_bytes
        Bytes of the weights.
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
    """Whether a directory has the record of a completed fetch."""
    return (Path(directory) / FETCHED).is_file()


def fetch_directory(directory: str) -> str:
    """The directory that contains a fetched checkpoint or that it can be fetched to.

    This is `directory`, unless an interrupted removal left files without a record there. Snakemake takes such
    a leftover for the weights, and planning deletes nothing, so the checkpoint is fetched to a name with a
    suffix. `jobs.weight_budget` cleans up at the end of the run: removing the leftover earlier would change
    the name while jobs of the run use it.
    """
    place, number = directory, 1
    while Path(place).exists() and not is_fetched(place):
        number += 1
        place = f"{directory}{_SUFFIX}{number}"
    return place


def write_fetched(fetched: Fetched, directory: Path) -> None:
    """Write the record into its directory."""
    write_text(json.dumps(asdict(fetched), indent=1) + "\n", directory / FETCHED)


def read_fetched(directory: str | Path) -> Fetched:
    """Read the record of a fetched directory. Raises `CheckpointError` if it is damaged."""
    path = Path(directory) / FETCHED
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        files = {name: FetchedFile(**file) for name, file in document.pop("files").items()}
        return Fetched(**document, files=files)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not the record of a fetched checkpoint ({type_and_reason(error)}); "
            f"remove {directory} and fetch it again."
        ) from None


def verify_fetched(directory: str | Path, weights: str) -> None:
    """Check that a fetched directory has the weights of this identity and no other files.

    Files are hashed only if their modification time differs from the record. Raises `CheckpointError` with
    the name of the first wrong file.
    """
    directory = Path(directory)
    fetched = read_fetched(directory)
    remedy = f"remove {directory} and fetch it again"
    if fetched.weights != weights:
        raise CheckpointError(
            f"{directory} has the weights {fetched.weights}, but the run was planned with {weights}; "
            f"{remedy}."
        )
    for name, file in fetched.files.items():
        path = directory / name
        if path.is_symlink() or not path.is_file():
            raise CheckpointError(f"{path} is missing or no longer a regular file; {remedy}.")
        status = path.stat()
        if status.st_size != file.size:
            raise CheckpointError(
                f"{path} has {status.st_size} bytes, but {file.size} were fetched; {remedy}."
            )
        if status.st_mtime_ns != file.mtime_ns:
            found = digest_of(path, kind_of(file.digest))
            if found != file.digest:
                raise CheckpointError(
                    f"{path} has the digest {found}, but {file.digest} was fetched; {remedy}."
                )
    for path in directory.iterdir():  # an additional weight file would be loaded instead
        if path.name not in fetched.files and path.name != FETCHED and not path.name.startswith("."):
            raise CheckpointError(f"{path} was not fetched; remove it, or {remedy}.")


def fetched_digests(directory: str | Path) -> dict[str, str]:
    """The sha256 of each weight file of a fetched directory by name, from its record.

    Files that the hub stores in git have another digest in the record, so they are hashed.
    """
    found = {}
    for name, file in read_fetched(directory).files.items():
        if name.endswith(".safetensors"):
            known = kind_of(file.digest) == "sha256"
            digest = file.digest if known else digest_of(Path(directory) / name, "sha256")
            found[name] = digest.partition(":")[2]
    return found


def allows_remote_code(directory: str | Path) -> bool:
    """Whether loading may run the Python files of a directory: only if it was fetched with `remote_code`.

    Raises `CheckpointError` if a configuration names code that is not in the directory.
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
                    f"{directory}, because code from other repositories is not locked."
                )
    return True


def _references(value: Any, inside: bool = False) -> Iterator[str]:
    """Yield all strings inside `auto_map`, at any depth."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _references(child, inside or key == "auto_map")
    elif isinstance(value, list):
        for child in value:
            yield from _references(child, inside)
    elif inside and isinstance(value, str):
        yield value
