"""The record of a fetched directory, and the check that its files are those of the record. A lean module.

`fetched.json` is written last, so a directory that has it is complete. It contains the identities of the
weights and the tokenizer from the lock, and the size and digest of each file.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.hub.digests import kind_of
from ebbtide.checkpoints.hub.lock import is_plain
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
        document = read_json(path, CheckpointError, fetched_remedy(directory))
        files = {name: _file(name, **file) for name, file in document.pop("files").items()}
        return Fetched(**document, files=files)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not the record of a fetched checkpoint ({type_and_reason(error)}); "
            f"{fetched_remedy(directory)}."
        ) from None


def fetched_remedy(directory: str | Path) -> str:
    """What to do about a damaged directory."""
    return f"delete {directory}: it is fetched again"


def _file(name: str, digest: str, size: int, of: str | None = None, **earlier: Any) -> FetchedFile:
    """An entry of a record; those of earlier versions have the modification time as well."""
    if not is_plain(name) or kind_of(digest) not in ("sha256", "git") or type(size) is not int:
        raise ValueError(f"{name!r:.80} has no digest and size")
    return FetchedFile(digest, size, of)


def check_fetched(directory: str | Path, weights: str, tokenizer: str) -> Fetched:
    """Check that a fetched directory has these identities, and the files of its record and no others.

    Sizes are compared, contents are not (see `ebbtide.checkpoints.verification`). Raises `CheckpointError`
    with the name of the first wrong file.
    """
    directory = Path(directory)
    fetched, end = read_fetched(directory), fetched_remedy(directory)
    for found, planned in ((fetched.weights, weights), (fetched.tokenizer, tokenizer)):
        if found != planned:
            raise CheckpointError(f"{directory} has {found}, but the run was planned with {planned}; {end}.")
    for name, file in fetched.files.items():
        path = directory / name
        if path.is_symlink() or not path.is_file():
            raise CheckpointError(f"{path} is missing or no longer a regular file; {end}.")
        if (size := path.stat().st_size) != file.size:
            raise CheckpointError(f"{path} has {size} bytes, but {file.size} were fetched; {end}.")
    for path in directory.iterdir():  # an additional weight file would be loaded instead
        if path.name not in fetched.files and path.name != FETCHED and not path.name.startswith("."):
            raise CheckpointError(f"{path} was not fetched; remove it, or {end}.")
    return fetched


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
