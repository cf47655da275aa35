"""Faults of a checkpoint's tensors, found by comparing its sketch with that of another step of its model.

The tensors of two steps resemble each other: r, the correlation of the values at the same places, is high.
A fault has an explanation that fits better than "the same tensor, a little later":

    exchanged     the values of another tensor of that step (head and embedding, layers, any two of one shape)
    transposed    of a square matrix
    shifted       rows of one step are those of the other, one row further
    reordered     rows of a head in the order of interleaved rotary pairs instead of halves, or the reverse
    unrelated     no explanation: r is near 0, while the other tensors resemble theirs
    stale         bit-equal to the other step, while tensors of the same kind have moved

An explanation with correlation r' replaces "the same" with r if atanh r' - atanh r exceeds `SIGMAS` standard
errors, and r' exceeds `LEAST`. In a sound checkpoint "the same" has the highest correlation that training
left, so a false alarm needs a chance of that many standard errors. Where two steps are so far apart that no
correlation is left, nothing is found.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from ebbtide.scoring.proof.sketch import ROWS, SIDE, Sketch, Sketches

SIGMAS = 6.0
LEAST = 0.3  # correlation
FEWEST = 48  # values: smaller tensors are not compared
ALIKE, UNLIKE = 0.6, 0.15  # of `unrelated`: the median correlation of all tensors, and most of the one
MOVED = 0.5  # of `stale`: at most this share of the values of other tensors is equal

EXCHANGED, TRANSPOSED, SHIFTED = "exchanged", "transposed", "shifted"
REORDERED, UNRELATED, STALE = "reordered", "unrelated", "stale"
_NUMBER = re.compile(r"\d+")

Vector = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Fault:
    """What is wrong with a tensor, compared with another step.

    Attributes
    ----------
    tensor
        Its name.
    kind
        One of the kinds of this module.
    source
        Name of the tensor whose values it has, of `exchanged`; else empty.
    explained, same
        Correlations of the explanation, and of the tensor with itself.
    """

    tensor: str
    kind: str
    source: str = ""
    explained: float = 0.0
    same: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """Two steps compared: the faults of one, at most one for each tensor, and the correlations by tensor."""

    faults: Mapping[str, Fault]
    same: Mapping[str, float]


def compare(own: Sketches, other: Sketches, *, is_later: bool) -> Comparison:
    """Find the faults of `own` on the assumption that `other` is sound.

    Only tensors that both have in one shape are compared. Of two steps with equal tensors, the later one is
    stale (`is_later`).
    """
    pairs = {
        name: (sketch, other.tensors[name])
        for name, sketch in own.tensors.items()
        if name in other.tensors and other.tensors[name].shape == sketch.shape
    }
    matrices = {name: pair for name, pair in pairs.items() if _is_compared(*pair)}
    same = {name: _correlation(mine.values, theirs.values) for name, (mine, theirs) in matrices.items()}
    found = {fault.tensor: fault for fault in (_stale(pairs, set(matrices)) if is_later else ())}
    explained = [*_exchanged(matrices, same), *_rearranged(matrices, own.head)]
    for fault in sorted(explained, key=lambda fault: -fault.explained):
        found.setdefault(fault.tensor, fault)
    known = [r for r in same.values() if np.isfinite(r)]
    if known and np.median(known) > ALIKE:
        for name, r in same.items():
            if r < UNLIKE:
                found.setdefault(name, Fault(name, UNRELATED, same=r))
    return Comparison({name: found[name] for name in own.tensors if name in found}, same)


def _is_compared(mine: Sketch, theirs: Sketch) -> bool:
    """Whether two matrices have enough values that vary."""
    values = mine.values, theirs.values
    return mine.block.size > 0 and len(values[0]) >= FEWEST and all(np.ptp(v) > 0 for v in values)


def _exchanged(matrices: Mapping[str, tuple[Sketch, Sketch]], same: Mapping[str, float]) -> Iterator[Fault]:
    """Compare every tensor with all tensors of its shape."""
    by_shape = sorted(matrices, key=lambda name: matrices[name][0].shape)
    for _, group in groupby(by_shape, key=lambda name: matrices[name][0].shape):
        names = list(group)
        mine, theirs = (np.stack([_standard(matrices[name][i].values) for name in names]) for i in (0, 1))
        table = mine @ theirs.T / mine.shape[1]
        for row, name in enumerate(names):
            best = int(np.argmax(np.nan_to_num(table[row], nan=-1.0)))
            if names[best] != name and _is_better(float(table[row, best]), same[name], mine.shape[1]):
                yield Fault(name, EXCHANGED, names[best], float(table[row, best]), same[name])


def _rearranged(matrices: Mapping[str, tuple[Sketch, Sketch]], head: int) -> Iterator[Fault]:
    """Compare every tensor with itself transposed, shifted, and with heads in another order."""
    for name, (mine, theirs) in matrices.items():
        if mine.block.shape == (SIDE, SIDE) and _is_square(mine):
            yield from _fault(name, TRANSPOSED, mine.block.T, theirs.block, mine.block)
        rows = len(mine.strip)
        if rows * mine.strip.shape[1] < FEWEST:
            continue
        for ours, their in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            yield from _fault(name, SHIFTED, mine.strip[ours], theirs.strip[their], mine.strip[their])
        for to, origin in _rotary_orders(rows, head):
            if len(to) * mine.strip.shape[1] >= FEWEST:
                yield from _fault(name, REORDERED, mine.strip[to], theirs.strip[origin], mine.strip[origin])


def _fault(name: str, kind: str, explained: Vector, theirs: Vector, unexplained: Vector) -> Iterator[Fault]:
    """Yield a fault if `explained` resembles `theirs` more than `unexplained` does."""
    better, same = _correlation(explained, theirs), _correlation(unexplained, theirs)
    if _is_better(better, same, theirs.size):
        yield Fault(name, kind, "", better, same)


def _rotary_orders(rows: int, head: int) -> Iterator[tuple[Vector, Vector]]:
    """Pairs of row indices: where a row is, and where it was in the other order of rotary pairs.

    In halves, the pair i of a head has the rows i and i + head/2; interleaved, it has 2i and 2i + 1. Both are
    only compared as far as the strip reaches, which is the whole first head or half of it.
    """
    if head < 4 or head % 2 or head > 2 * ROWS:
        return
    inside = np.arange(head)
    halves = np.where(inside % 2 == 0, inside // 2, inside // 2 + head // 2)  # of each interleaved row
    first = np.arange(max(rows // head, 1))[:, None] * head
    one, other = (first + inside).ravel(), (first + halves).ravel()
    reached = (one < rows) & (other < rows) & (one != other)
    yield one[reached], other[reached]
    yield other[reached], one[reached]


def _is_square(sketch: Sketch) -> bool:
    return len(sketch.shape) == 2 and sketch.shape[0] == sketch.shape[1]


def _stale(pairs: Mapping[str, tuple[Sketch, Sketch]], matrices: set[str]) -> Iterator[Fault]:
    """Tensors that did not move while those of the same kind did; with them, others that did not move."""
    equal = {name for name, (mine, theirs) in pairs.items() if mine.bits == theirs.bits}
    moved = matrices - equal
    kinds = {_NUMBER.sub("#", name) for name in moved}
    if not any(_NUMBER.sub("#", name) in kinds for name in equal & matrices):
        return
    shares = [np.mean(pairs[name][0].values == pairs[name][1].values) for name in moved]
    if np.median(shares) <= MOVED:
        for name in sorted(equal):
            yield Fault(name, STALE, explained=1.0, same=1.0)


def _is_better(explained: float, same: float, values: int) -> bool:
    if not np.isfinite([explained, same]).all() or explained < LEAST:
        return False
    gain = np.arctanh(min(explained, 0.9999)) - np.arctanh(np.clip(same, -0.9999, 0.9999))
    return bool(gain > SIGMAS * np.sqrt(2 / max(values - 3, 1)))


def _correlation(one: Vector, other: Vector) -> float:
    return float(np.mean(_standard(one) * _standard(other)))


def _standard(values: Vector) -> Vector:
    """The values as a vector of mean 0 and variance 1; NaN if they are constant or not finite."""
    flat = values.ravel().astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        standard: Vector = (flat - flat.mean()) / flat.std()
    return standard
