"""The load proofs of a study: where each checkpoint's is in the store, and how they are judged."""

from collections.abc import Mapping
from typing import Any

from ebbtide.checkpoints.findings import Allowance
from ebbtide.grid import Model
from ebbtide.scoring.proof.load_key import key_of
from ebbtide.study.study import Study

CLASSES = ("load_loss", "load_tensors")


def proof_entries(study: Study, model: Model) -> list[dict[str, Any]]:
    """Return the checkpoints of a model in the order of training, with the keys of their proofs."""
    task = next(iter(study.tasks), None)  # any: a load does not depend on the task
    if task is None:
        return []
    return [
        {"name": c.name, "step": c.step, "tokens": c.tokens, "key": key_of(study.identity(c, task))}
        for c in model.checkpoints
    ]


def proof_rules(study: Study) -> Mapping[str, Any]:
    """Return what findings of load proofs do, by class, and those that the study or a series allows."""
    audit = study.config["audit"]
    of_series = (_entry(allowance) for model in study.hub for allowance in model.allowances)
    allow = [entry for entry in (*of_series, *audit["allow"]) if entry["finding"] in CLASSES]
    return {**{name: audit[name] for name in CLASSES}, "allow": allow}


def _entry(allowance: Allowance) -> dict[str, Any]:
    """Return an allowance as an entry of `audit.allow`."""
    steps = {} if allowance.steps is None else {"steps": sorted(allowance.steps)}
    named = {"finding": allowance.finding, "models": list(allowance.models), "reason": allowance.reason}
    return {**named, **steps}
