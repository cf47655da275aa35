"""Audit: is every checkpoint what it claims to be? From the lock alone, before any weights are fetched.

Published suites have branches that carry the final weights, share a shard with another step, or are missing
(EleutherAI/pythia#205, #206, #202, allenai/OLMo#915). Digests show it. Whatever is found is a row with a
severity and a remedy; the study says for each class whether it stops the run, drops the checkpoints from the
grid, or is a warning.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ebbtide.checkpoints.hub.catalogue import Allowance, HubModel
from ebbtide.checkpoints.hub.findings import ALLOWED, CLASSES, DROP, WARN, Finding, findings_of
from ebbtide.checkpoints.hub.lock import Lock

MOST = 20  # findings shown on a terminal
COLUMNS = ("severity", "action", "finding", "model", "format", "steps", "detail", "remedy", "reason")


def audit(
    models: Sequence[HubModel], lock: Lock, actions: Mapping[str, str], allow: Sequence[Allowance] = ()
) -> list[Finding]:
    """Everything that is wrong or strange about the checkpoints that a study asks for, worst first.

    `actions` says for each class `stop`, `drop` or `warn`; `allow` are the study's own allowances beside
    those of the series. Findings about the format that the study does not take are notes.
    """
    found = [
        _judged(part, model, actions, allow)
        for model in models
        for finding in findings_of(model, lock)
        for part in _split(finding, (*model.allowances, *allow))
    ]
    order = {"error": 0, "warning": 1, "note": 2, ALLOWED: 3}
    return sorted(found, key=lambda f: (order[f.severity], f.model, f.finding, f.steps))


def told(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The findings as lines for a terminal: a count, then the worst."""
    counts = Counter(row["severity"] for row in rows)
    lines = [f"Audit: {', '.join(f'{n} {severity}' for severity, n in counts.items()) or 'nothing found'}."]
    for row in rows[:MOST]:
        steps = row["steps"] if len(row["steps"]) <= 40 else f"{row['steps'][:40].rsplit(' ', 1)[0]} …"
        format = f" ({row['format']})" if row["format"] else ""
        lines.append(
            f"{row['severity']:8} {row['action']:8} {row['finding']:18} {row['model']} step {steps}{format}: "
            f"{row['detail']}"
        )
    return lines + ([f"… and {len(rows) - MOST} more."] if len(rows) > MOST else [])


def dropped(findings: Sequence[Finding]) -> set[tuple[str, str]]:
    """(model, checkpoint) that the findings take out of the grid."""
    return {(f.model, checkpoint) for f in findings if f.action == DROP for checkpoint in f.checkpoints}


def allowed_duplicates(findings: Sequence[Finding]) -> list[list[str]]:
    """[model, checkpoint] of equal weights that are known and harmless."""
    allowed = [f for f in findings if f.finding == "duplicate" and f.action == ALLOWED]
    return [[f.model, checkpoint] for f in allowed for checkpoint in f.checkpoints]


def _split(finding: Finding, allow: Sequence[Allowance]) -> list[Finding]:
    """A finding in two, if some of its steps are allowed; equal weights are a matter of all their steps."""
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
