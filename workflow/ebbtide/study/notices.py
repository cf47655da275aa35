"""Notices about a study itself: defaults, and results whose weights were not audited.

Findings of the audit are in its own table.
"""

from collections.abc import Iterator

from ebbtide.checkpoints.hub.lock import read_lock
from ebbtide.checkpoints.hub.notices import hub_notices
from ebbtide.grid import Checkpoint, Model
from ebbtide.notices import Notice
from ebbtide.study.study import Study


def study_notices(study: Study) -> list[Notice]:
    """Return what readers should know about a study before they see any result."""
    found = [notice for model in study.models.values() for notice in _of_model(model)]
    if study.config["scoring"]["dtype"] == "checkpoint":
        found += _of_precision(list(study.checkpoints()))
    if study.imported:
        detail = "Nobody has audited the weights behind imported results."
        found.append(Notice("note", "not_audited", detail, count=len(study.imported)))
    return [*found, *hub_notices(study.hub, read_lock(study.lock_file))] if study.hub else found


def _of_model(model: Model) -> Iterator[Notice]:
    if not model.checkpoints:
        detail = "The audit drops every checkpoint of the model."
        yield Notice("warning", "dropped", detail, "See checkpoint_audit.tsv.", model=model.name)
    unknown = [c for c in model.checkpoints if c.step and not c.tokens]
    if unknown:
        whole = len(unknown) == len(model.checkpoints)
        which, points = ("all", "no") if whole else (len(unknown), "fewer")
        yield Notice(
            "warning",
            "defaulted",
            f"The training tokens of {which} checkpoints are unknown, so the model has {points} points in "
            "figures and regressions over tokens.",
            "Set tokens_per_step in its row of models (batch size × sequence length).",
            model=model.name,
            count=len(unknown),
        )


def _of_precision(checkpoints: list[Checkpoint]) -> Iterator[Notice]:
    """Say in which precision checkpoints are scored where the study names none."""
    by_dtype: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        by_dtype.setdefault(checkpoint.dtype, []).append(checkpoint)
    several = len(by_dtype) > 1
    for dtype, group in by_dtype.items():
        if several or dtype != "float32":
            first = group[0]
            yield Notice(
                "warning" if several else "note",
                "defaulted",
                f"{len(group)} of {len(checkpoints)} checkpoints are scored in {dtype}, the precision of "
                f"their files ({first.model}/{first.name}).",
                "Set scoring.dtype to score all in one precision." if several else "",
                count=len(group),
            )
