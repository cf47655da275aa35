"""The table of the load proofs of a study: each checkpoint judged against the neighbours that have one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.findings import STOP, WARN, Finding, allowances, judged
from ebbtide.errors import CellError
from ebbtide.scoring.proof.load_key import path_of
from ebbtide.scoring.proof.proof_file import read_proof
from ebbtide.scoring.proof.series import Step, Verdict, judge
from ebbtide.scoring.proof.verdicts import FAKE_CELLS, NO_PROOF, capital

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
                raise CellError(FAKE_CELLS)
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
        "remedy": ". ".join(dict.fromkeys(capital(finding.remedy) for finding in found)),
        "reason": _reason(found),
    }


def _reason(found: Sequence[Finding]) -> str:
    return ". ".join(dict.fromkeys(finding.reason for finding in found if finding.reason))
