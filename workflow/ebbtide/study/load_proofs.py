"""The load proofs of a study: where each checkpoint's is in the store, and how they are judged."""

from collections.abc import Mapping
from typing import Any

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
    """Return what findings of load proofs do, by class, and which are allowed."""
    audit = study.config["audit"]
    allow = [entry for entry in audit["allow"] if entry["finding"] in CLASSES]
    return {**{name: audit[name] for name in CLASSES}, "allow": allow}
