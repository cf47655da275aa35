"""The verdicts of load proofs, and the notices about them. A lean module."""

from typing import TYPE_CHECKING

from ebbtide.checkpoints.findings import ALLOWED
from ebbtide.notices import Notice

if TYPE_CHECKING:
    import pandas as pd

GOOD, SUSPICIOUS, ALONE, NOT_JUDGED, NO_PROOF = "good", "suspicious", "alone", "not judged", "no proof"
EQUAL, DIFFERS = "equal", "differs"  # of twins
FAKE_CELLS = "the numbers are made up (scoring.backend: fake), so no weights were loaded"
_TEXTS = ["model", "checkpoint", "verdict", "action", "detail", "remedy", "reason"]


def load_proof_notices(table: "pd.DataFrame") -> list[Notice]:
    """Return the notices about load proofs, from the rows of `load_proofs.tsv`."""
    found = []
    said = table[_TEXTS].astype(object)
    rows = said.where(said.notna(), "").to_dict("records")
    for row in rows:
        if row["verdict"] == SUSPICIOUS:
            severity = "note" if row["action"] == ALLOWED else "warning"
            remedy = f"Allowed: {row['reason']}." if severity == "note" else f"{capital(row['remedy'])}."
            detail = f"{row['detail']}."
            found.append(
                Notice(severity, "suspicious", detail, remedy, str(row["model"]), str(row["checkpoint"]))
            )
    for verdict in (NO_PROOF, NOT_JUDGED):
        # Made-up numbers have a warning of their own.
        left = [row for row in rows if row["verdict"] == verdict and row["detail"] != FAKE_CELLS]
        if left:
            first = left[0]
            detail = (
                f"{len(left)} of {len(rows)} checkpoints have no judged load proof "
                f"({first['model']}/{first['checkpoint']}: {first['detail']})."
            )
            found.append(Notice("note", "not_audited", detail, "See load_proofs.tsv.", count=len(left)))
    return found


def twin_notices(table: "pd.DataFrame") -> list[Notice]:
    """Return the notices about twins, from the rows of `load_twins.tsv`."""
    remedy = "Compare their configurations, and convert the checkpoint again."
    found = [
        Notice(
            "warning", "suspicious", f"{row['detail']}.", remedy, str(row["model"]), str(row["checkpoint"])
        )
        for row in table[table["verdict"] == DIFFERS].to_dict("records")
    ]
    left = table[(table["verdict"] == NO_PROOF) & (table["detail"] != FAKE_CELLS)]
    if not left.empty:
        first = left["detail"].iloc[0]
        detail = f"{len(left)} of {len(table)} checkpoints are not compared with their twins ({first})."
        found.append(Notice("note", "not_audited", detail, "See load_twins.tsv.", count=len(left)))
    return found


def capital(text: str) -> str:
    """The text with its first letter as a capital; names of tensors keep theirs."""
    return f"{text[:1].upper()}{text[1:]}"
