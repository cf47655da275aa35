"""Compare checkpoints with their twins, the same ones in another format, by the texts of load proofs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.errors import CellError
from ebbtide.scoring.proof.loss_record import Losses
from ebbtide.scoring.proof.proof_file import read_proof
from ebbtide.scoring.proof.verdicts import DIFFERS, EQUAL, FAKE_CELLS, NO_PROOF

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("model", "checkpoint", "step", "twin", "texts", "difference", "difference_per_token"),
    *("tolerance", "verdict", "detail"),
)
# Nats per token, by the coarser precision of the two. Rounding stays below; another epsilon of the norms or
# base of the rotary positions does not.
TOLERANCES = {"float64": 1e-6, "float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}


def twins_table(
    twins: Mapping[str, str],
    models: Mapping[str, Sequence[Mapping[str, Any]]],
    store: str | Path,
    *,
    fake: bool = False,
) -> "pd.DataFrame":
    """Return one row per checkpoint of the models that have a twin: `COLUMNS`.

    Parameters
    ----------
    twins
        Model → the model with the same checkpoints, by step.
    models
        Model → its checkpoints in the order of training: `name, step, key, dtype`.
    store
        The cell store, which has the proofs.
    fake
        Whether the cells are made up, so that there are no proofs.
    """
    import pandas as pd

    made_up = {"verdict": NO_PROOF, "detail": FAKE_CELLS}
    rows = [
        {"model": model, "checkpoint": entry["name"], "step": entry["step"], "twin": twin}
        | (made_up if fake else _compared(entry, models[twin], f"{model}/{entry['name']}", twin, store))
        for model, twin in twins.items()
        for entry in models[model]
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _compared(
    entry: Mapping[str, Any], others: Sequence[Mapping[str, Any]], name: str, twin: str, store: str | Path
) -> dict[str, Any]:
    other = next((one for one in others if one["step"] == entry["step"]), None)
    if other is None:
        return {"verdict": NO_PROOF, "detail": f"{twin} has no checkpoint at step {entry['step']}"}
    try:
        own, its = (
            _losses(store, one, of) for one, of in ((entry, name), (other, f"{twin}/{other['name']}"))
        )
    except CellError as error:
        return {"verdict": NO_PROOF, "detail": str(error.args[0]).rstrip(".")}
    if (own.language, own.version, own.tokens) != (its.language, its.version, its.tokens):
        detail = f"{name} and {twin}/{other['name']} read the texts in other tokens: compare the tokenizers"
        return {"verdict": DIFFERS, "texts": own.language, "detail": detail}
    pairs = list(_differences(own, its))
    most, per_token = max(one for one, _ in pairs), max(one / tokens for one, tokens in pairs)
    tolerance = max(TOLERANCES.get(str(one["dtype"]), max(TOLERANCES.values())) for one in (entry, other))
    numbers = {"texts": own.language, "difference": most, "difference_per_token": per_token}
    if per_token <= tolerance:
        return {**numbers, "tolerance": tolerance, "verdict": EQUAL, "detail": ""}
    detail = (
        f"{name} and its twin {twin}/{other['name']} differ by {per_token:.2g} nats per token on one of "
        f"{len(pairs)} texts (tolerance {tolerance:g}): one of them was converted or loaded wrongly"
    )
    return {**numbers, "tolerance": tolerance, "verdict": DIFFERS, "detail": detail}


def _losses(store: str | Path, entry: Mapping[str, Any], name: str) -> Losses:
    try:
        losses = read_proof(store, entry["key"]).losses
    except CellError:
        raise CellError(f"{name} has no load proof: it is made when the weights are next loaded") from None
    if losses is None:
        raise CellError(f"the load proof of {name} has no losses")
    return losses


def _differences(own: Losses, its: Losses) -> Iterator[tuple[float, int]]:
    """Yield the difference of each text in nats, infinite if one is not finite, and its tokens."""
    for mine, theirs, tokens in zip(own.loglikelihoods, its.loglikelihoods, own.tokens, strict=True):
        yield (float("inf") if mine is None or theirs is None else abs(mine - theirs)), tokens
