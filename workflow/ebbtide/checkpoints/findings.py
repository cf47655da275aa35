"""Findings about checkpoints: their classes, and what the audits of the hub and of directories share.

Published suites have branches that contain the final weights, share a shard with another step, or are missing
(EleutherAI/pythia#205, #206, #202, allenai/OLMo#915). Runs on disk have interrupted copies and steps that
were saved twice. Digests reveal this. Each finding is a row with a severity and a remedy. The study sets for
each class of findings whether it stops the run, drops the checkpoints from the grid, or only warns.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

STOP, DROP, WARN, ALLOWED = "stop", "drop", "warn", "allowed"
MAX_LINES = 20  # findings printed on a terminal
COLUMNS = ("severity", "action", "finding", "model", "format", "steps", "detail", "remedy", "reason")


@dataclass(frozen=True)
class Class:
    """A class of findings, with its severity and a remedy."""

    severity: str  # error: wrong or no results; warning: needs attention; note: information
    remedy: str
    is_fatal: bool = False  # the checkpoints cannot be scored: only `stop` and `drop` are allowed


CLASSES: Mapping[str, Class] = {
    "duplicate": Class("error", "leave these steps out, or take the other format if it is clean"),
    "equal_to_main": Class("error", "leave these steps out, or take the other format if it is clean"),
    "mixed_shards": Class("error", "leave these steps out, or take the other format if it is clean"),
    "missing": Class(
        "warning", "choose other steps, or continue without these (missing: drop)", is_fatal=True
    ),
    "no_weights": Class("error", "choose another format, or leave these steps out", is_fatal=True),
    "incomplete": Class("error", "leave these steps out, and inform the authors", is_fatal=True),
    "not_converted": Class(
        "error", "correct map or config of the row, or leave these steps out", is_fatal=True
    ),
    "index_disagrees": Class("warning", "compare the index with the files; loading follows the index"),
    "no_tokenizer": Class(
        "error", "leave these steps out, or use directories on disk with a tokenizer.json", is_fatal=True
    ),
    "tokenizer_changed": Class("warning", "compare the files; token counts are not comparable"),
    "config_changed": Class("warning", "compare the config.json files"),
    "formats_disagree": Class("note", "compare both formats at one step before using either"),
    "shape": Class(
        "error", "the repository and the catalogue describe different models; correct one of them"
    ),
    "remote_code": Class(
        "warning", "read the code at this commit; to run it, set remote_code: true in the row", is_fatal=True
    ),
    "moved": Class("warning", "check what changed; to use the new commit, ebbtide lock --follow"),
    "defect": Class("warning", "read the linked thread"),
    "duplicate_models": Class("warning", "check the paths, repositories and revisions of both models"),
    "repeated_tensor": Class("error", "save the checkpoint again; if this is allowed, the index decides"),
    "lone_head": Class("warning", "check which matrix was trained; the one in the file is used as the head"),
    "gone": Class("note", "restore the weights to score more tasks"),
    "tokenizer_of_parent": Class("note", "set `tokenizer:` in the row if it is another"),
    # Of load proofs (`scoring.proof`), found when the weights are loaded.
    "load_loss": Class("warning", "compare the loss that training logged at this step"),
    "load_tensors": Class("error", "convert or copy the checkpoint again"),
}


@dataclass(frozen=True)
class Finding:
    """One row of the audit.

    Attributes
    ----------
    action
        `stop`, `drop`, `warn`, or `allowed` if a reason is known.
    checkpoints, steps
        The checkpoints concerned, in order of training; `main` has no step.
    reason
        Why the finding is allowed, or the thread that reports the defect.
    remedy
        What to do; empty is the remedy of its class.
    where
        File and key of the row of `models:`; empty for the hub, whose checkpoints are in the lock.
    """

    finding: str
    model: str
    checkpoints: tuple[str, ...]
    steps: tuple[int, ...]
    detail: str
    format: str = ""
    severity: str = ""
    action: str = WARN
    reason: str = ""
    remedy: str = ""
    where: str = ""

    def row(self) -> dict[str, str]:
        """The row as text, in the order of the table's columns."""
        return {
            "severity": self.severity,
            "action": self.action,
            "finding": self.finding,
            "model": self.model,
            "format": self.format,
            "steps": " ".join(map(str, self.steps)),
            "detail": self.detail,
            "remedy": "none needed" if self.action == ALLOWED else self.how_to_fix(),
            "reason": self.reason,
        }

    def how_to_fix(self) -> str:
        """The remedy: its own, or that of its class."""
        return self.remedy or CLASSES[self.finding].remedy


@dataclass(frozen=True)
class Allowance:
    """A finding of the audit that is known to be harmless, with the reason."""

    finding: str
    models: tuple[str, ...]
    steps: frozenset[int] | None  # None is all
    reason: str

    def covers(self, finding: str, model: str, steps: Sequence[int]) -> bool:
        """Whether a finding about these steps of a model is allowed."""
        named = any(fnmatchcase(model, pattern) for pattern in self.models)
        return finding == self.finding and named and (self.steps is None or self.steps.issuperset(steps))


def allowances(entries: Sequence[Mapping[str, Any]]) -> tuple[Allowance, ...]:
    """Convert checked entries of `allow:` from a series or a study."""
    return tuple(
        Allowance(
            entry["finding"],
            tuple(entry["models"]),
            frozenset(entry["steps"]) if "steps" in entry else None,
            entry["reason"] + (f" ({entry['thread']})" if "thread" in entry else ""),
        )
        for entry in entries
    )


def audit_lines(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The findings as lines for a terminal: counts by severity, then the most severe findings."""
    counts = Counter(row["severity"] for row in rows)
    lines = [f"Audit: {', '.join(f'{n} {severity}' for severity, n in counts.items()) or 'nothing found'}."]
    for row in rows[:MAX_LINES]:
        steps = row["steps"] if len(row["steps"]) <= 40 else f"{row['steps'][:40].rsplit(' ', 1)[0]} …"
        format = f" ({row['format']})" if row["format"] else ""
        lines.append(
            f"{row['severity']:8} {row['action']:8} {row['finding']:19} {row['model']} step {steps}{format}: "
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


def judged(
    findings: Iterable[Finding], actions: Mapping[str, str], allow: Sequence[Allowance], format: str = ""
) -> Iterator[Finding]:
    """Yield findings with their severity and action.

    Parameters
    ----------
    actions
        Class of findings → `stop`, `drop` or `warn`.
    allow
        Findings that they cover are allowed. One of which only some steps are covered is split.
    format
        Format of the weights that the study uses; findings about another one become notes.
    """
    for finding in findings:
        for part in _split(finding, allow):
            yield _judged(part, actions, allow, format)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings by severity, then by model and class."""
    order = {"error": 0, "warning": 1, "note": 2, ALLOWED: 3}
    return sorted(findings, key=lambda f: (order[f.severity], f.model, f.finding, f.steps))


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


def _judged(finding: Finding, actions: Mapping[str, str], allow: Sequence[Allowance], format: str) -> Finding:
    for allowance in allow:
        if allowance.covers(finding.finding, finding.model, finding.steps):
            return replace(finding, severity=ALLOWED, action=ALLOWED, reason=allowance.reason)
    if finding.format and finding.format != format:
        return replace(finding, severity="note", action=WARN)
    severity = finding.severity or CLASSES[finding.finding].severity
    action = finding.action if finding.severity else actions[finding.finding]
    return replace(finding, severity=severity, action=action)
