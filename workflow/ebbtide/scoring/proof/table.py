"""The table of the load proofs of a study: each checkpoint judged against the neighbours that have one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.findings import STOP, WARN, Finding, allowances, judged
from ebbtide.errors import CellError
from ebbtide.notices import Notice
from ebbtide.scoring.proof.load_key import path_of
from ebbtide.scoring.proof.proof_file import read_proof
from ebbtide.scoring.proof.series import NO_PROOF, NOT_JUDGED, SUSPICIOUS, Step, Verdict, judge

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("model", "checkpoint", "step", "tokens", "texts", "loss", "bits_per_byte", "guess"),
    *("neighbours", "neighbours_loss", "verdict", "finding", "action", "detail", "remedy", "reason"),
)
_ORDER = {STOP: 0, WARN: 1}
_MISSING = (
    "no load proof in the store: the weights were last loaded before there were load proofs, or elsewhere"
)
_AGAIN = "none needed: it is made when the weights are next loaded, such as for a further task"
_FAKE = "the numbers are made up (scoring.backend: fake), so no weights were loaded"


def load_proofs_table(
    models: Mapping[str, Sequence[Mapping[str, Any]]],
    store: str | Path,
    rules: Mapping[str, Any],
    *,
    fake: bool = False,
) -> "pd.DataFrame":
    """Return one row per checkpoint: `COLUMNS`.

    Parameters
    ----------
    models
        Model → its checkpoints in the order of training: `name, step, tokens, key`.
    store
        The cell store, which has the proofs.
    rules
        What findings do, by class, and `allow` (see `checkpoints.findings`).
    fake
        Whether the cells are made up, so that there are no proofs.
    """
    import pandas as pd

    rows = [
        row for model, entries in models.items() for row in _rows_of(model, entries, store, rules, fake=fake)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def load_proof_notices(table: "pd.DataFrame") -> list[Notice]:
    """Return the notices about load proofs, from the rows of `load_proofs.tsv`."""
    found = []
    said = table[["model", "checkpoint", "verdict", "action", "detail", "remedy", "reason"]].astype(object)
    rows = said.where(said.notna(), "").to_dict("records")
    for row in rows:
        if row["verdict"] == SUSPICIOUS:
            severity = "warning" if row["action"] in _ORDER else "note"
            remedy = f"Allowed: {row['reason']}." if severity == "note" else f"{_capital(row['remedy'])}."
            detail = f"{row['detail']}."
            found.append(
                Notice(severity, "suspicious", detail, remedy, str(row["model"]), str(row["checkpoint"]))
            )
    for verdict in (NO_PROOF, NOT_JUDGED):
        # Made-up numbers have a warning of their own.
        left = [row for row in rows if row["verdict"] == verdict and row["detail"] != _FAKE]
        if left:
            first = left[0]
            detail = (
                f"{len(left)} of {len(rows)} checkpoints have no judged load proof "
                f"({first['model']}/{first['checkpoint']}: {first['detail']})."
            )
            found.append(Notice("note", "not_audited", detail, "See load_proofs.tsv.", count=len(left)))
    return found


def _rows_of(
    model: str,
    entries: Sequence[Mapping[str, Any]],
    store: str | Path,
    rules: Mapping[str, Any],
    *,
    fake: bool,
) -> Iterator[dict[str, Any]]:
    steps, missing = [], {}
    for entry in entries:
        try:
            if fake:
                raise CellError(_FAKE)
            proof = read_proof(store, entry["key"])
        except CellError as error:
            exists = path_of(store, entry["key"]).exists()
            missing[entry["name"]] = str(error.args[0]).rstrip(".") if fake or exists else _MISSING
        else:
            steps.append(Step(entry["name"], entry["step"], entry["tokens"], proof))
    places = {step.name: index for index, step in enumerate(steps)}
    for entry in entries:
        row = {name: entry[name] for name in ("step", "tokens")}
        row |= {"model": model, "checkpoint": entry["name"]}
        if (reason := missing.get(entry["name"])) is not None:
            nothing = dict.fromkeys(("texts", "neighbours", "finding", "action", "reason"), "")
            remedy = "" if fake else _AGAIN
            yield {**row, **nothing, "verdict": NO_PROOF, "detail": reason, "remedy": remedy}
            continue
        index = places[entry["name"]]
        yield {**row, **_row_of(steps[index], judge(model, steps, index), rules)}


def _row_of(step: Step, verdict: Verdict, rules: Mapping[str, Any]) -> dict[str, Any]:
    losses = step.proof.losses
    found = sorted(
        judged(verdict.findings, rules, allowances(rules["allow"])), key=lambda f: _ORDER.get(f.action, 2)
    )
    return {
        "texts": losses.language if losses else "",
        "loss": losses.loss if losses else None,
        "bits_per_byte": losses.bits_per_byte if losses else None,
        "guess": losses.guess if losses else None,
        "neighbours": " ".join(verdict.neighbours),
        "neighbours_loss": verdict.neighbours_loss,
        "verdict": verdict.verdict,
        "finding": " ".join(dict.fromkeys(finding.finding for finding in found)),
        "action": found[0].action if found else "",
        "detail": ". ".join([*(finding.detail for finding in found), *filter(None, [verdict.note])]),
        "remedy": ". ".join(dict.fromkeys(_capital(finding.remedy) for finding in found)),
        "reason": _reason(found),
    }


def _reason(found: Sequence[Finding]) -> str:
    return ". ".join(dict.fromkeys(finding.reason for finding in found if finding.reason))


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
