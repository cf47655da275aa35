"""Audit the checkpoints in a lock before any weights are fetched (see `checkpoints.findings`)."""

from collections.abc import Mapping, Sequence

from ebbtide.checkpoints.findings import Allowance, Finding, judged, worst_first
from ebbtide.checkpoints.hub.catalogue import HubModel
from ebbtide.checkpoints.hub.findings import findings_of
from ebbtide.checkpoints.hub.lock import Lock


def audit(
    models: Sequence[HubModel], lock: Lock, actions: Mapping[str, str], allow: Sequence[Allowance] = ()
) -> list[Finding]:
    """All findings about the requested checkpoints, most severe first.

    `actions` maps each class of findings to `stop`, `drop` or `warn`. `allow` are the study's allowances, in
    addition to those of the series. Findings about a format that the study does not use become notes.
    """
    return worst_first(
        finding
        for model in models
        for finding in judged(findings_of(model, lock), actions, (*model.allowances, *allow), model.format)
    )
