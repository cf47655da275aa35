"""Cells on disk: one row per example × choice, with everything about their making in the footer."""

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
    """Write a cell atomically. `footer` holds what is recorded but not identity (device, counters, …)."""
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
    """Read a cell that must have this identity and have scored the requests of this content hash.

    Returns the rows and the footer. Raises `CellError` naming the file, what differs, and the remedy
    when the cell is missing, truncated, foreign, or stale.
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
            f"{path} scored requests {footer.get('requests_sha256')}, the frozen task is {requests_sha256}; "
            f"{CELL.remedy}."
        )
    rows = read_frame(path, CELL)
    if len(rows) != footer.get("requests"):
        raise CellError(
            f"{path} has {len(rows)} rows, its footer says {footer.get('requests')}; {CELL.remedy}."
        )
    return rows, footer
