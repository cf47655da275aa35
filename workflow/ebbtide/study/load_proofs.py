"""The load proofs of a study: where each checkpoint's is in the store, and how they are judged."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ebbtide.checkpoints.findings import Allowance
from ebbtide.errors import ConfigError, nearest
from ebbtide.grid import Model
from ebbtide.notices import listed
from ebbtide.scoring.proof.load_key import key_of
from ebbtide.scoring.scorer import backend_identity
from ebbtide.study.study import Study

CLASSES = ("load_loss", "load_tensors")


def proof_entries(study: Study, model: Model) -> list[dict[str, Any]]:
    """Return the checkpoints of a model in the order of training, with the keys of their proofs.

    They are of the first back end of the study, which scores all cells that are not generated.
    """
    return next(_entries(study, model), [])


def all_proof_entries(study: Study, model: Model) -> list[dict[str, Any]]:
    """Return those of every back end, whose name each entry has as in an identity."""
    return [entry for of_backend in _entries(study, model) for entry in of_backend]


def _entries(study: Study, model: Model) -> Iterator[list[dict[str, Any]]]:
    for backend, task in study.backends().items():  # any task: a load does not depend on it
        yield [
            {
                **{"name": c.name, "step": c.step, "tokens": c.tokens},
                **backend_identity(backend),
                "key": key_of(study.identity(c, task)),
            }
            for c in model.checkpoints
        ]


def twin_entries(study: Study) -> dict[str, list[dict[str, Any]]]:
    """Return the checkpoints of the models that are twins or have one, with keys of proofs and precisions."""
    task = next(iter(study.backends().values()), None)
    named = {name for pair in twins_of(study.config["models"]).items() for name in pair}
    return {
        name: [
            {**entry, "dtype": study.identity(checkpoint, task)["dtype"]}
            for entry, checkpoint in zip(proof_entries(study, model), model.checkpoints, strict=True)
        ]
        for name, model in study.models.items()
        if name in named and task is not None
    }


def twins_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return model → its twin, of the rows of `models`."""
    return {row["name"]: row["twin"] for row in rows if "twin" in row}


def check_twins(rows: Sequence[Mapping[str, Any]], models: Collection[str], file: str) -> None:
    """Raise `ConfigError` unless every twin is another model of the study."""
    for number, row in enumerate(rows):
        others = [name for name in models if name != row.get("name")]
        if "twin" in row and row["twin"] not in others:
            raise ConfigError(
                f"{file}: models[{number}].twin: found {row['twin']!r}; allowed: another model of the study, "
                f"{listed(others) or 'of which there is none'}{nearest(row['twin'], others) or '.'}"
            )


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
