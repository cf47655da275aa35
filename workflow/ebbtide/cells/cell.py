"""Cells on disk: one row per example and choice; the footer records how they were made."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.cells.store import IDENTITY_KEY, Identity
from ebbtide.errors import CellError
from ebbtide.files import canonical_json
from ebbtide.tables import CELL, read_footer, read_frame, write_parquet

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
        CELL,
        {**footer, "identity": dict(identity)},
        strings={IDENTITY_KEY: canonical_json(dict(identity))},
    )


def read_cell(
    path: str | Path, identity: Identity, requests_sha256: str
) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """Read the rows and the footer of a cell with this identity, scored from requests with this digest.

    Raises `CellError`, which names the file, the difference and the remedy, if the cell is missing,
    truncated, stale, or not a cell.
    """
    footer = read_footer(path, CELL)
    found = footer.get("identity", {})
    if found != dict(identity):
        differences = "; ".join(
            f"{name} is {found.get(name)!r}, expected {identity.get(name)!r}"
            for name in sorted({*found, *identity})
            if found.get(name) != identity.get(name)
        )
        raise CellError(f"{path} is stale: {differences}; {CELL.remedy}.")
    if footer.get("requests_sha256") != requests_sha256:
        raise CellError(
            f"{path} is stale: its requests are {footer.get('requests_sha256')}, expected {requests_sha256}; "
            f"{CELL.remedy}."
        )
    rows = read_frame(path, CELL)
    if len(rows) != footer.get("requests"):
        raise CellError(
            f"{path} has {len(rows)} rows, expected {footer.get('requests')} by its footer; {CELL.remedy}."
        )
    return rows, footer
