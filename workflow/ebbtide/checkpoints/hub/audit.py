"""Audit the checkpoints in a lock before any weights are fetched.

Published suites have branches that contain the final weights, share a shard with another step, or are missing
(EleutherAI/pythia#205, #206, #202, allenai/OLMo#915). Digests reveal this. Each finding is a row with a
severity and a remedy. The study sets for each class of findings whether it stops the run, drops the
checkpoints from the grid, or only warns.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ebbtide.checkpoints.hub.catalogue import Allowance, HubModel
from ebbtide.checkpoints.hub.findings import ALLOWED, CLASSES, DROP, WARN, Finding, findings_of
from ebbtide.checkpoints.hub.lock import Lock

MAX_LINES = 20  # findings printed on a terminal
COLUMNS = ("severity", "action", "finding", "model", "format", "steps", "detail", "remedy", "reason")


def audit(
    models: Sequence[HubModel], lock: Lock, actions: Mapping[str, str], allow: Sequence[Allowance] = ()
) -> list[Finding]:
    """All findings about the requested checkpoints, most severe first.

    `actions` maps each class of findings to `stop`, `drop` or `warn`. `allow` are the study's allowances, in
    addition to those of the series. Findings about a format that the study does not use become notes.
    """
    found = [
        _judged(part, model, actions, allow)
        for model in models
        for finding in findings_of(model, lock)
        for part in _split(finding, (*model.allowances, *allow))
    ]
    order = {"error": 0, "warning": 1, "note": 2, ALLOWED: 3}
    return sorted(found, key=lambda f: (order[f.severity], f.model, f.finding, f.steps))


def audit_lines(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The findings as lines for a terminal: counts by severity, then the most severe findings."""
    counts = Counter(row["severity"] for row in rows)
    lines = [f"Audit: {', '.join(f'{n} {severity}' for severity, n in counts.items()) or 'nothing found'}."]
    for row in rows[:MAX_LINES]:
        steps = row["steps"] if len(row["steps"]) <= 40 else f"{row['steps'][:40].rsplit(' ', 1)[0]} …"
        format = f" ({row['format']})" if row["format"] else ""
        lines.append(
            f"{row['severity']:8} {row['action']:8} {row['finding']:18} {row['model']} step {steps}{format}: "
            f"{row['detail']}"
        )
    return lines + ([f"… and {len(rows) - MAX_LINES} more."] if len(rows) > MAX_LINES else [])


def dropped(findings: Sequence[Finding]) -> set[tuple[str, str]]:
    """(model, checkpoint) pairs that the findings drop from the grid."""
    return {(f.model, checkpoint) for f in findings if f.action == DROP for checkpoint in f.checkpoints}


def allowed_duplicates(findings: Sequence[Finding]) -> list[list[str]]:
    """[model, checkpoint] pairs with equal weights that are known to be harmless."""
    allowed = [f for f in findings if f.finding == "duplicate" and f.action == ALLOWED]
    return [[f.model, checkpoint] for f in allowed for checkpoint in f.checkpoints]


def _split(finding: Finding, allow: Sequence[Allowance]) -> list[Finding]:
    """Split a finding of which only some steps are allowed. A duplicate always concerns all its steps."""
    if finding.finding == "duplicate":
        return [finding]
    inside = [any(a.covers(finding.finding, finding.model, [s]) for a in allow) for s in finding.steps]
    if all(inside) or not any(inside):
        return [finding]
    return [
        replace(
            finding,
            checkpoints=tuple(c for c, i in zip(finding.checkpoints, inside, strict=True) if i is which),
            steps=tuple(s for s, i in zip(finding.steps, inside, strict=True) if i is which),
        )
        for which in (True, False)
    ]


def _judged(
    finding: Finding, model: HubModel, actions: Mapping[str, str], allow: Sequence[Allowance]
) -> Finding:
    for allowance in (*model.allowances, *allow):
        if allowance.covers(finding.finding, finding.model, finding.steps):
            return replace(finding, severity=ALLOWED, action=ALLOWED, reason=allowance.reason)
    if finding.format and finding.format != model.format:
        return replace(finding, severity="note", action=WARN)
    severity = finding.severity or CLASSES[finding.finding].severity
    action = finding.action if finding.severity else actions[finding.finding]
    return replace(finding, severity=severity, action=action)
