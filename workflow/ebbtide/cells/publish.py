"""Copy a cell from the store to the results, after a check of all its bytes. A lean module."""

from pathlib import Path

from ebbtide.cells.store import seal_of
from ebbtide.errors import CellError
from ebbtide.files import atomic


def publish(source: str | Path, target: str | Path) -> None:
    """Copy a cell from the store to the results, atomically. Raises `CellError` for a damaged cell."""
    data = Path(source).read_bytes()
    sealed = seal_of(data)
    if sealed is None:  # a cell of an earlier version, which only a Parquet reader can check
        from ebbtide.cells.cell import check_cell
        from ebbtide.tables import CELL

        try:
            check_cell(source)
        except CellError as error:  # its remedy is that of a cell in the results
            raise CellError(f"{str(error.args[0]).removesuffix(f'; {CELL.remedy}.')}.") from error
    elif sealed[0] != sealed[1]:
        raise CellError(f"{source} is damaged: its sha256 is {sealed[0]}, but its footer has {sealed[1]}.")
    with atomic(target) as temporary:
        temporary.write_bytes(data)
