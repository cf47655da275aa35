"""Judge the load proofs of a model's checkpoints: each against its neighbours in training.

**Loss.** A neighbour at the loss l, in nats per token, speaks against a checkpoint whose loss exceeds

    an earlier neighbour     l + RISE, because training lowers the loss
    a later neighbour        l + FALL · (1 + log2 of the ratio of their training tokens, or steps)

Neighbours are the two nearest on each side that have a proof. A checkpoint is suspicious if more of them
speak against it than not. Without neighbours, and in addition: a loss that exceeds a uniform guess over the
vocabulary by `WORSE`, from `TRAINED` steps on; or more than `COARSE` bits per byte of English after
`ENOUGH` tokens, if its tokenizer was made for a language like English (`READABLE` bytes per token).

**Tensors.** For every tensor, neighbours that show the same fault (see `faults`) are counted against those
that the tensor resembles. With one neighbour, either may be the wrong one: if the loss of one
shows that it is, the other is not reported.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from ebbtide.checkpoints.findings import Finding
from ebbtide.notices import counted
from ebbtide.scoring.proof.faults import LEAST, STALE, Comparison, Fault, compare
from ebbtide.scoring.proof.proof_file import Proof
from ebbtide.scoring.proof.sentences import (
    LOSS_REMEDY,
    REMEDIES,
    detail_of_faults,
    detail_of_overflow,
    overflow_remedy,
)
from ebbtide.scoring.proof.sketch import overflows
from ebbtide.scoring.proof.verdicts import ALONE, GOOD, NOT_JUDGED, SUSPICIOUS

LOSS, TENSORS = "load_loss", "load_tensors"  # classes of findings
EACH_SIDE = 2  # neighbours

RISE = 1.0  # nats per token
FALL = 2.0  # nats per token, and per doubling of training
WORSE = 0.5  # nats per token
TRAINED = 100  # steps
COARSE = 2.5  # bits per byte
ENOUGH = 1_000_000_000  # tokens
READABLE = 3.0  # bytes per token
CLEARLY = 0.5  # nats per token above an earlier checkpoint, which the later one of two cannot be


@dataclass(frozen=True, eq=False)
class Step:
    """A checkpoint in the order of training, with its proof.

    `tokens` is 0 if it is untrained, or if its training tokens are unknown.
    """

    name: str
    step: int
    tokens: int
    proof: Proof

    @property
    def loss(self) -> float:
        """Nats per token; NaN without a finite loss."""
        return math.nan if self.proof.losses is None else self.proof.losses.loss

    def is_untrained(self, below: int = 1) -> bool:
        """Whether its name says that it has fewer steps than `below`."""
        return self.name.startswith("step") and self.step < below


@dataclass(frozen=True)
class Verdict:
    """The verdict on a checkpoint.

    Attributes
    ----------
    verdict
        `good`; `suspicious`; `alone`, if no neighbour has a proof and nothing else is wrong; `not judged`.
    neighbours
        Names of the checkpoints it was compared with.
    neighbours_loss
        The median of their losses, in nats per token; NaN without one.
    findings
        What is suspicious: of the classes `LOSS` and `TENSORS`.
    note
        Why it was not judged, or only in part; empty otherwise.
    """

    verdict: str
    neighbours: tuple[str, ...]
    neighbours_loss: float
    findings: tuple[Finding, ...] = ()
    note: str = ""


def judge(model: str, steps: Sequence[Step], own: int) -> Verdict:
    """Judge the checkpoint with the index `own` among those of a model, in the order of training."""
    step = steps[own]
    before, after = steps[max(0, own - EACH_SIDE) : own], steps[own + 1 : own + 1 + EACH_SIDE]
    known = [other.loss for other in (*before, *after) if math.isfinite(other.loss)]
    details = [*_of_loss(step, before, after), *_of_overflow(step), *_of_tensors(step, before, after, steps)]
    findings = tuple(
        Finding(kind, model, (step.name,), (step.step,), f"{model}/{step.name} {detail}", remedy=remedy)
        for kind, detail, remedy in details
    )
    names = tuple(other.name for other in (*before, *after))
    near = median(known) if known else math.nan
    if findings:
        return Verdict(SUSPICIOUS, names, near, findings, step.proof.unread)
    if step.proof.losses is None:
        return Verdict(NOT_JUDGED, names, near, note=step.proof.unread)
    if not names:
        return Verdict(ALONE, names, near, note="no other checkpoint of the model has a proof")
    return Verdict(GOOD, names, near, note=step.proof.unread)


def nearest(order: Sequence[str], own: str, having: Sequence[str]) -> list[str]:
    """The names to compare with: the nearest on each side among those `having` a proof, in order."""
    place = {name: index for index, name in enumerate(order)}
    known = sorted((name for name in having if name != own), key=place.__getitem__)
    before = [name for name in known if place[name] < place[own]]
    after = [name for name in known if place[name] > place[own]]
    return [*before[-EACH_SIDE:], *after[:EACH_SIDE]]


def _of_loss(step: Step, before: Sequence[Step], after: Sequence[Step]) -> Iterator[tuple[str, str, str]]:
    losses = step.proof.losses
    if losses is None:
        return
    found = (
        f"reads {counted(len(losses.tokens), f'{losses.language} text')} at {losses.loss:.2f} nats a token"
    )
    others = [other for other in (*before, *after) if math.isfinite(other.loss)]
    said = ", ".join(f"{other.name} at {other.loss:.2f}" for other in others)
    neighbours = f"; its neighbours: {said}" if said else ""
    if not math.isfinite(losses.loss):
        gone = sum(value is None for value in losses.loglikelihoods)
        what = f"{gone} of {len(losses.tokens)} {losses.language} texts"
        detail = f"gives {what} a log-likelihood that is not finite"
        yield LOSS, f"{detail}{neighbours}", LOSS_REMEDY
        return
    against = sum(losses.loss > _bound(step, other, is_later=other in after) for other in others)
    if 2 * against > len(others):
        yield LOSS, f"{found}{neighbours}", LOSS_REMEDY
    elif losses.loss > losses.guess + WORSE and not step.is_untrained(TRAINED):
        guess = f"worse than a uniform guess over its {losses.vocabulary:,} tokens ({losses.guess:.2f})"
        yield LOSS, f"{found}, {guess}{neighbours}{_or_foreign(losses.language)}", LOSS_REMEDY
    elif losses.bits_per_byte > COARSE and step.tokens >= ENOUGH and _reads_english(step):
        coarse = f"{losses.bits_per_byte:.2f} bits per byte after {step.tokens:,} tokens"
        yield LOSS, f"{found}, {coarse}{neighbours}{_or_foreign(losses.language)}", LOSS_REMEDY


def _or_foreign(language: str) -> str:
    """The other reason for a bad loss in absolute terms."""
    return f"; its weights are wrong, or it was not trained on {language} texts"


def _bound(own: Step, other: Step, *, is_later: bool) -> float:
    """The highest loss of `own` that a neighbour does not speak against."""
    if not is_later:
        return other.loss + RISE
    known = own.tokens > 0 and other.tokens > 0
    mine, theirs = (own.tokens, other.tokens) if known else (own.step, other.step)
    return other.loss + FALL * (1 + math.log2(theirs / mine)) if mine > 0 and theirs > 0 else math.inf


def _reads_english(step: Step) -> bool:
    losses = step.proof.losses
    return losses is not None and losses.language == "English" and _bytes_per_token(step) >= READABLE


def _bytes_per_token(step: Step) -> float:
    losses = step.proof.losses
    return sum(losses.bytes) / sum(losses.tokens) if losses is not None else 0.0


def _of_overflow(step: Step) -> Iterator[tuple[str, str, str]]:
    sketches = step.proof.sketches
    names = [name for name, sketch in (sketches.tensors if sketches else {}).items() if overflows(sketch)]
    if names:
        yield TENSORS, detail_of_overflow(names), overflow_remedy()


def _of_tensors(
    step: Step, before: Sequence[Step], after: Sequence[Step], known: Sequence[Step]
) -> Iterator[tuple[str, str, str]]:
    if step.proof.sketches is None:
        return
    compared = [
        (other, compare(step.proof.sketches, other.proof.sketches, is_later=other not in after))
        for other in (*before, *after)
        if other.proof.sketches is not None
    ]
    counts = Counter(_key(fault) for _, found in compared for fault in found.faults.values())
    groups: dict[str, list[tuple[Fault, Step]]] = {}
    for other, found in compared:
        for fault in found.faults.values():
            if fault.kind == STALE and _is_frozen(fault.tensor, known):
                continue
            if counts.pop(_key(fault), 0) > _against(fault, compared):
                groups.setdefault(fault.kind, []).append((fault, other))
    for kind, members in groups.items():
        other = members[0][1]
        alone = kind != STALE and len(compared) == 1
        if alone and _reads_badly(other, step, is_later=other in before):
            continue
        detail = detail_of_faults([fault for fault, _ in members], other.name)
        if alone and not _reads_badly(step, other, is_later=other in after):
            detail += f"; or {other.name} is the wrong one, as no third checkpoint can be compared"
        if kind == STALE and _with_sketches(known) == 2:
            detail += "; or training does not change them, as no third checkpoint can be compared"
        yield TENSORS, detail, REMEDIES[kind]


def _is_frozen(tensor: str, known: Sequence[Step]) -> bool:
    """Whether a tensor is bit-equal in all checkpoints, three or more: training does not change it."""
    found = [step.proof.sketches.tensors.get(tensor) for step in known if step.proof.sketches is not None]
    bits = [sketch.bits for sketch in found if sketch is not None]
    return len(bits) > 2 and len(set(bits)) == 1


def _with_sketches(known: Sequence[Step]) -> int:
    return sum(step.proof.sketches is not None for step in known)


def _reads_badly(own: Step, other: Step, *, is_later: bool) -> bool:
    """Whether the loss shows that, of two checkpoints, it is `own` that is wrong, not the `other`."""
    if is_later:
        return own.loss > _bound(own, other, is_later=True)
    return own.loss > other.loss + CLEARLY


def _key(fault: Fault) -> tuple[str, str, str]:
    return fault.tensor, fault.kind, fault.source


def _against(fault: Fault, compared: Sequence[tuple[Step, Comparison]]) -> int:
    """Neighbours that the tensor resembles, and that show no fault of it. None speaks for a stale tensor."""
    if fault.kind == STALE:
        return 0
    return sum(
        found.same.get(fault.tensor, 0.0) >= LEAST and fault.tensor not in found.faults
        for _, found in compared
    )
