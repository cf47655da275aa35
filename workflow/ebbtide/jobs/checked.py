"""Write a cell and check it: a check that fails never takes the scores along.

Scoring is expensive, and checks load another model, which may not fit in memory or may not run at all. A
check that could not run leaves the cell, with the reason in its footer. A check that finds a difference
beyond rounding refutes the cell: it is kept for inspection, but under a name that nothing reads.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.cells import store
from ebbtide.cells.cell import write_cell
from ebbtide.errors import CellError, EbbtideError, ScoringError, first_line
from ebbtide.logs import log
from ebbtide.tables import CELL, read_footer

if TYPE_CHECKING:
    import pyarrow as pa

UNFINISHED = "the process ended during the check; is there enough memory?"


def write_checked_cell(
    rows: "pa.Table",
    path: str | Path,
    identity: store.Identity,
    footer: Mapping[str, Any],
    check: Callable[[], Mapping[str, Any]],
) -> Mapping[str, Any]:
    """Write a cell after its check; return the footer entry `verified`.

    Parameters
    ----------
    check
        Returns the entry (see `scoring.rescore.largest_difference`), whose `beyond_rounding` is the number of
        wrong requests. Whatever it raises means that the cell could not be checked.

    Returns
    -------
    What `check` returned, or `examples: 0` and the `reason` why it could not run.

    Raises
    ------
    ScoringError
        The check found a difference. The cell is then at `store.refuted(path)`.
    """
    waiting, wrong = store.unchecked(path), store.refuted(path)
    write_cell(rows, waiting, identity, {**footer, "verified": {"examples": 0, "reason": UNFINISHED}})
    verified: Mapping[str, Any]
    try:
        verified = check()
    except Exception as error:  # also what torch and transformers raise for an unusual model
        log.exception("the check of %s failed", path)
        own = isinstance(error, EbbtideError)
        reason = str(error.args[0]) if own else f"{type(error).__name__}: {first_line(error)}"
        verified = {"examples": 0, "reason": reason.rstrip(".")}
    refuted = bool(verified.get("beyond_rounding"))
    write_cell(rows, wrong if refuted else path, identity, {**footer, "verified": verified})
    waiting.unlink(missing_ok=True)
    if refuted:
        raise ScoringError(
            f"{verified['beyond_rounding']} of {verified['requests']} rescored requests differ from float64 "
            f"by more than rounding explains ({verified['worst']} by {verified['largest_difference']:.2g} "
            f"nats); the cell is not used, but kept as {wrong}. Score with `backend: transformers`, and "
            "report this model."
        )
    wrong.unlink(missing_ok=True)
    return verified


def examples_to_rescore(path: str | Path, wanted: int) -> int:
    """How many examples of a cell to rescore: `wanted`, or as many as once refuted it."""
    wrong = store.refuted(path)
    if not wrong.exists():
        return wanted
    try:
        return max(wanted, int(read_footer(wrong, CELL)["verified"]["examples"]))
    except (CellError, KeyError):  # another file of this name
        return wanted
