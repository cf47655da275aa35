"""Inspect cells on disk: what is wrong with a file, if anything, and of which kind the damage is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ebbtide.arrow import numbers
from ebbtide.cells import store
from ebbtide.cells.cell import check_bytes
from ebbtide.cells.samples import is_sampled, per_row, with_choices
from ebbtide.cells.validity import check_footer, check_rows, check_values
from ebbtide.errors import CellError
from ebbtide.tables import CELL, read_footer

# Kinds of damage, and what is wrong.
KINDS = {
    "unreadable": "cannot be read, or not a file",
    "not_a_cell": "truncated, not Parquet, or without the footer of a cell",
    "bytes": "changed after it was written",
    "identity": "of another identity than its name or its study says",
    "values": "values that no model gives",
    "rows": "other rows than its task has",
    "rescored": "log-likelihoods that differ from a new scoring by more than rounding explains",
}
_NAME = re.compile(r"[0-9a-f]{32}\.parquet")


@dataclass(frozen=True)
class Damage:
    """What is wrong with a file."""

    path: Path
    kind: str  # one of `KINDS`
    detail: str
    modified: int | None = field(default=None, compare=False)  # time of the file that was inspected, in ns


class Requests(NamedTuple):
    """The frozen task of a cell."""

    rows: pa.Table
    sha256: str


def cells_in(directory: str | Path) -> list[Path]:
    """Return everything in a store that has the name of a cell, in the order of names."""
    return sorted(path for path in Path(directory).iterdir() if _NAME.fullmatch(path.name))


def inspect(
    path: Path, identity: store.Identity | None = None, requests: Requests | None = None
) -> Damage | None:
    """Return what is wrong with a cell, with the time of the file; None for a good one.

    Parameters
    ----------
    identity
        What the cell must have; None: any, whose key is the name of the file.
    requests
        Its frozen task, if it is known.
    """
    modified = modified_ns(path)  # first: a file that is written meanwhile counts as another one
    found = _damage(path, identity, requests)
    return found and replace(found, modified=modified)


def modified_ns(path: Path) -> int | None:
    """Time of the last modification of a file, not of the one that a link names; None without one."""
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return None


def _damage(path: Path, identity: store.Identity | None, requests: Requests | None) -> Damage | None:
    if (reason := store.obstacle(path)) is not None:
        return Damage(path, "unreadable", reason)
    kind = "not_a_cell"
    try:
        check_footer(read_footer(path, CELL), path)
        kind = "bytes"
        rows, footer = check_bytes(path)
        kind = "identity"
        _check_identity(path, footer["identity"], identity)
        kind = "values"
        check_values(rows, footer, path)
        kind = "rows"
        if requests is not None:
            _check_requests(path, rows, footer, requests)
    except CellError as error:
        detail = str(error.args[0]).removesuffix(f"; {CELL.remedy}.")
        return Damage(path, kind, detail.removeprefix(str(path)).lstrip(": "))
    except OSError as error:
        return Damage(path, "unreadable", f"cannot be read ({error.strerror})")
    return None


def _check_identity(path: Path, found: Mapping[str, Any], expected: store.Identity | None) -> None:
    if expected is None:
        if store.key(found) != path.stem:
            raise CellError(f"{path} has the identity with the key {store.key(found)}")
    elif differing := [k for k in sorted({*found, *expected}) if found.get(k) != expected.get(k)]:
        differences = "; ".join(f"{k} is {found.get(k)!r}, expected {expected.get(k)!r}" for k in differing)
        raise CellError(f"{path}: {differences}")


def _check_requests(path: Path, rows: pa.Table, footer: Mapping[str, Any], requests: Requests) -> None:
    if footer["requests_sha256"] != requests.sha256:
        raise CellError(f"{path}: its requests are {footer['requests_sha256']}, expected {requests.sha256}")
    check_rows(with_choices(rows, footer), per_row(requests.rows, footer), path)
    if is_sampled(footer):  # the texts are the model's
        return
    texts = requests.rows.column("continuation")
    sizes = {"bytes": pa.compute.binary_length(texts), "characters": pa.compute.utf8_length(texts)}
    for name, expected in sizes.items():
        found, asked = numbers(rows.column(name)), numbers(expected)
        wrong = np.flatnonzero(found != asked)
        if len(wrong) and name not in footer.get("unknown", ()):
            row = wrong[0]
            raise CellError(
                f"{path}: row {row + 1}: {name}: found {found[row]}, expected {asked[row]} as in its task"
            )
