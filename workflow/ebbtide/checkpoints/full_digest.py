"""The full digests of a directory's weight files, computed by the job that loads them.

Planning identifies a large directory by a sample of its bytes (`ebbtide.checkpoints.directory`). Loading
reads all bytes, so the job also hashes them before it scores. The digests are recorded in the footer of the
cell and compared with those of the first job that scored this identity. They are cached next to the record of
the directory, so later jobs do not hash again.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.directory import directory_of, files_identity
from ebbtide.checkpoints.hub.fetched import fetched_digests
from ebbtide.checkpoints.record import LOCATED, read_record, stamp
from ebbtide.checkpoints.weight_files import INDEX, weight_files
from ebbtide.errors import CheckpointError
from ebbtide.files import file_sha256, write_text

HASHED = "hashed.json"  # cache of full digests, next to the record of a directory
THREADS = 4  # files hashed in parallel: one core hashes only 0.5 to 2 GB/s


def check_full_digests(checkpoint: str | Path, weights: str, cells: str | Path) -> dict[str, str]:
    """Compute the full sha256 of each weight file, and check them against the identity `weights`.

    Parameters
    ----------
    checkpoint
        Anything that `directory_of` accepts.
    weights
        Identity that the run was planned with.
    cells
        The cell store. It records the digests with which each `sampled:` identity was first scored.

    Returns
    -------
    Digest by file name. Digests of fetched weights come from the record of the fetch, which was checked
    against the lock. Empty for trained weights, whose identity does not come from files.

    Raises
    ------
    CheckpointError
        The identity belongs to other bytes, or a file changed while it was read.
    """
    kind = weights.partition(":")[0]
    if kind == "hub":
        return fetched_digests(directory_of(checkpoint))
    if kind not in ("files", "sampled"):
        return {}
    directory = directory_of(checkpoint)
    record = Path(checkpoint) if Path(checkpoint).name == LOCATED else None
    found = _digests(directory, record, weights)
    if kind == "sampled":
        _check_first(directory, weights, found, Path(cells))
    else:
        _check_identity(directory, weights, found, record)
    return found


def _check_first(directory: Path, weights: str, found: Mapping[str, str], cells: Path) -> None:
    """Compare with the digests of the first job that scored this identity, or record them as the first."""
    path = cells / "weights" / f"{weights.partition(':')[2]}.json"
    if not path.exists():
        first = {"weights": weights, "directory": str(directory.resolve()), "sha256": dict(found)}
        write_text(json.dumps(first, indent=1) + "\n", path)
        return
    try:
        expected = dict(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a record of digests ({type(error).__name__}: {error}); "
            "delete it, and score again with --config recompute=true."
        ) from None
    for name in found:
        if found[name] != expected.get(name):
            raise CheckpointError(
                f"{directory / name} has the sha256 {found[name]}, but {weights} was first scored with "
                f"{expected.get(name)} ({path}); restore the file, or set scoring.store to another directory."
            )


def _check_identity(directory: Path, weights: str, found: Mapping[str, str], record: Path | None) -> None:
    """Compare with an identity that is computed from full digests."""
    beside = [directory / name for name in ("config.json", INDEX) if (directory / name).exists()]
    files = {path.name: {"sha256": file_sha256(path)} for path in beside}
    files |= {name: {"sha256": sha256} for name, sha256 in found.items()}
    if files_identity(directory, files) == weights:
        return
    known = read_record(record).get("files", {}) if record else {}
    for name, sha256 in found.items():
        expected = known.get(name, {}).get("sha256", sha256)
        if sha256 != expected:
            raise CheckpointError(
                f"{directory / name} has the sha256 {sha256}, expected {expected}; restore the file, "
                f"or delete {record} and run snakemake again."
            )
    raise CheckpointError(
        f"{directory} has the weights {files_identity(directory, files)}, but the run was planned with "
        f"{weights}; run snakemake again."
    )


def _digests(directory: Path, record: Path | None, weights: str) -> dict[str, str]:
    """Full digests of the weight files by name. Only files without a current cached digest are hashed."""
    paths = weight_files(directory)
    stamps = {path.name: stamp(path) for path in paths}
    absolute = str(directory.resolve())
    known: dict[str, Any] = {}
    if record:
        located, hashed = read_record(record), read_record(record.with_name(HASHED))
        for cache in (located, hashed):
            # In a record with a sample, the digests are older than the stamps next to them.
            if cache.get("directory") == absolute and "sample" not in cache:
                known |= cache.get("files", {})
    found = {
        name: known[name]["sha256"]
        for name, seen in stamps.items()
        if {**seen, "sha256": known.get(name, {}).get("sha256")} == known.get(name)
    }
    missing = [path for path in paths if path.name not in found]
    with ThreadPoolExecutor(THREADS) as pool:
        found |= dict(zip((path.name for path in missing), pool.map(file_sha256, missing), strict=True))
    for path in missing:
        if stamp(path) != stamps[path.name]:
            raise CheckpointError(f"{path} changed while it was read; run snakemake again.")
    if record and missing:
        files = {name: {**seen, "sha256": found[name]} for name, seen in stamps.items()}
        content = {"directory": absolute, "weights": weights, "files": files}
        write_text(json.dumps(content, indent=1) + "\n", record.with_name(HASHED))
    return found
