"""Cells on disk: one row per example and choice or sample; the footer records how they were made."""

import getpass
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide import __version__
from ebbtide.cells.samples import schema_of
from ebbtide.cells.store import IDENTITY_KEY, SEAL_KEY, UNSEALED, Identity, seal, seal_of
from ebbtide.cells.validity import check_footer, check_values
from ebbtide.errors import CellError
from ebbtide.files import canonical_json
from ebbtide.tables import CELL, read_footer, read_parquet, write_parquet

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def write_cell(
    rows: "pd.DataFrame | pa.Table", path: str | Path, identity: Identity, footer: Mapping[str, Any]
) -> None:
    """Write a cell atomically. `footer` is recorded but is not part of the identity (device, counters, …)."""
    write_parquet(
        rows,
        path,
        schema_of(footer),
        {**footer, "identity": dict(identity)},
        strings={IDENTITY_KEY: canonical_json(dict(identity)), SEAL_KEY: UNSEALED},
        finish=seal,
    )


def written() -> dict[str, str]:
    """Return who writes a cell, where, when and with which version: a footer entry that is never compared."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container without an entry for its user
        user = str(os.getuid())
    return {
        "user": user,
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
    }


def read_cell(
    path: str | Path, identity: Identity, requests_sha256: str
) -> "tuple[pa.Table, dict[str, Any]]":
    """Read the rows and the footer of a cell with this identity, scored from requests with this digest.

    Raises `CellError`, which names the file, the difference and the remedy, if the cell is missing,
    truncated, stale, or not a cell.
    """
    rows, footer = check_cell(path)
    found = footer["identity"]
    if found != dict(identity):
        differences = "; ".join(
            f"{name} is {found.get(name)!r}, expected {identity.get(name)!r}"
            for name in sorted({*found, *identity})
            if found.get(name) != identity.get(name)
        )
        raise CellError(f"{path} is stale: {differences}; {CELL.remedy}.")
    if footer["requests_sha256"] != requests_sha256:
        raise CellError(
            f"{path} is stale: its requests are {footer['requests_sha256']}, expected {requests_sha256}; "
            f"{CELL.remedy}."
        )
    return rows, footer


def check_cell(path: str | Path) -> "tuple[pa.Table, dict[str, Any]]":
    """Read the rows and the footer of a cell, after a check of everything that needs no other file.

    Raises `CellError`, which names the file, what is wrong and the remedy.
    """
    rows, footer = check_bytes(path)
    check_values(rows, footer, path)
    return rows, footer


def check_bytes(path: str | Path) -> "tuple[pa.Table, dict[str, Any]]":
    """Read the rows and the footer of a cell whose bytes are those that were written. Raises `CellError`."""
    footer = read_footer(path, CELL)
    check_footer(footer, path)
    sealed = seal_of(Path(path).read_bytes())
    if sealed is not None and sealed[0] != sealed[1]:
        raise CellError(
            f"{path} is damaged: its sha256 is {sealed[0]}, but its footer has {sealed[1]}; {CELL.remedy}."
        )
    return read_parquet(path, schema_of(footer)), footer
