"""Notices about a study itself: models without checkpoints, precisions, and results without an audit.

Findings of the audit are in its own table.
"""

from collections.abc import Iterator

from ebbtide.checkpoints.formats.sources import REMARKS
from ebbtide.checkpoints.hub.notices import hub_notices
from ebbtide.grid import Checkpoint
from ebbtide.notices import Notice, listed
from ebbtide.study.study import Study


def study_notices(study: Study) -> list[Notice]:
    """Return what readers should know about a study before they see any result."""
    found = [
        Notice(
            "warning",
            "dropped",
            "The audit drops every checkpoint of the model.",
            "See checkpoint_audit.tsv.",
            model=model.name,
        )
        for model in study.models.values()
        if not model.checkpoints
    ]
    if study.config["scoring"]["dtype"] == "checkpoint":
        found += _of_precision(list(study.checkpoints()))
    if averaged := study.averaged():
        detail = (
            "Averages of checkpoints are made of other rows, so they are in no regression, comparison of "
            f"sizes or runs, resolution or forgetting: {listed(averaged)}."
        )
        found.append(Notice("note", "not_compared", detail, count=len(averaged)))
    found += _of_conversions(study)
    found += _of_followed(study.config["trajectories"]["metrics"])
    if study.imported:
        detail = "Nobody has audited the weights behind imported results."
        found.append(Notice("note", "not_audited", detail, count=len(study.imported)))
    return [*found, *hub_notices(study.hub, study.lock)] if study.hub else found


def _of_conversions(study: Study) -> Iterator[Notice]:
    """Name the models whose checkpoints are scored after a conversion."""
    for model in study.on_disk:
        made = [checkpoint for checkpoint, _ in model.conversions()]
        if model.reading is None or not made:
            continue
        change = REMARKS.get(model.reading.format, "values keep their precision")
        precisions = sorted({checkpoint.dtype for checkpoint in made})
        yield Notice(
            "note",
            "converted",
            f"Checkpoints are converted from {model.reading.format} by the map {model.reading.map} before "
            f"they are scored; {change}; most are in {' and '.join(precisions)}.",
            "logs/convert/ says what was ignored or dropped.",
            model=model.name,
            count=len(made),
        )


def _of_followed(metrics: list[str]) -> Iterator[Notice]:
    """Name the metrics of `trajectories.metrics` that no table of examples has."""
    if metrics == ["accuracy"]:
        return  # the common case: importing the metrics takes a second
    from ebbtide.metrics.of_cell import followed_names
    from ebbtide.tasks.generation.pipelines import without_filter

    followed = followed_names()
    if left := [name for name in metrics if without_filter(name) not in followed]:
        yield Notice(
            "warning",
            "not_compared",
            f"Alarms, trends and forgetting do not follow {listed(left)}, because single examples have no "
            "value of it.",
            f"Followed can be {listed(followed, 20)} (trajectories.metrics).",
            count=len(left),
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
