"""The head: the plain definition over all logits at once, however the vocabulary is sliced."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ebbtide.scoring import head
from ebbtide.scoring.head import Slices, score_targets, vocabulary_slices

WIDTH = 3


@dataclass(frozen=True)
class Case:
    """Hidden states (k, d) before an output matrix (V, d), and how large its slices are."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    cap: float | None
    smallest: int
    elements: int

    @property
    def logits(self) -> Tensor:
        """(k, V) float64, before the cap."""
        logits = (self.hidden @ self.weight.T).double()
        return logits if self.bias is None else logits + self.bias

    @property
    def capped(self) -> Tensor:
        """(k, V) float64."""
        return self.logits if self.cap is None else self.cap * torch.tanh(self.logits / self.cap)

    @contextmanager
    def slices(self) -> Iterator[Slices]:
        """The logits in the slices of this case."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(head, "SMALLEST_SLICE", self.smallest)
            patch.setitem(head.SLICE_ELEMENTS, "cpu", self.elements)
            yield lambda hidden: vocabulary_slices(hidden, self.weight, self.bias, self.cap)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small whole numbers: products are exact in every precision, and many are equal."""
    rows, vocabulary = draw(st.integers(1, 5)), draw(st.integers(1, 25))
    dtype = draw(st.sampled_from([torch.float64, torch.float32]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))

    def integers(*shape: int) -> Tensor:
        return torch.randint(-2, 3, shape, generator=generator).to(dtype)

    return Case(
        hidden=integers(rows, WIDTH),
        weight=integers(vocabulary, WIDTH),
        bias=integers(vocabulary) if draw(st.booleans()) else None,
        cap=draw(st.sampled_from([None, 5.0, 30.0])),
        smallest=draw(st.integers(1, 7)),
        elements=draw(st.integers(1, 60)),
    )


def pairs(rows: int, vocabulary: int, seed: int) -> tuple[Tensor, Tensor]:
    """Every row with every token as its target, in any order."""
    order = torch.randperm(rows * vocabulary, generator=torch.Generator().manual_seed(seed))
    return order // vocabulary, order % vocabulary


def sliced(logits: Tensor, size: int) -> Slices:
    """Logits that are known beforehand, in slices of `size` tokens."""

    def slices(_: Tensor) -> Iterator[tuple[int, Tensor]]:
        for first in range(0, logits.shape[1], size):
            yield first, logits[:, first : first + size]

    return slices


def exact(logits: Tensor, row: Tensor, target: Tensor) -> list[float]:
    """The definition: log-softmax in float64 over all logits (k, V)."""
    values: list[float] = torch.log_softmax(logits.double(), dim=1)[row, target].tolist()
    return values


def tolerance(case: Case) -> float:
    return 1e-12 if case.hidden.dtype == torch.float64 else 1e-5


@settings(deadline=None, max_examples=80)
@given(case=cases())
def test_slices_are_the_logits_in_order(case: Case) -> None:
    with case.slices() as slices:
        found = list(slices(case.hidden))
    # As many rows of the matrix as the budget of logits allows.
    size = max(case.smallest, case.elements // len(case.hidden))
    assert [first for first, _ in found] == list(range(0, len(case.weight), size))
    whole = torch.cat([part for _, part in found], dim=1)
    assert whole.dtype == case.hidden.dtype
    assert whole.flatten().tolist() == pytest.approx(case.capped.flatten().tolist(), abs=tolerance(case))


def test_slices_are_aligned_on_a_gpu() -> None:
    """A slice of odd length takes a kernel that is several times slower."""
    weight, hidden = torch.zeros(7000, 1, device="meta"), torch.zeros(101, 1, device="meta")
    _, second, *_ = [first for first, _ in vocabulary_slices(hidden, weight, None, None)]
    assert second >= head.SLICE_ELEMENTS["cpu"] // 101 > second - head.ALIGNED
    assert second % head.ALIGNED == 0


@settings(deadline=None, max_examples=80)
@given(case=cases(), seed=st.integers(0, 999))
def test_every_target_is_scored_as_over_all_logits(case: Case, seed: int) -> None:
    row, target = pairs(len(case.hidden), len(case.weight), seed)
    with case.slices() as slices:
        found = score_targets(case.hidden, row, target, slices, ranks=True)
    assert found.loglikelihood.dtype == torch.float64
    assert found.loglikelihood.tolist() == pytest.approx(exact(case.capped, row, target), abs=tolerance(case))
    # A cap changes neither the order nor ties; of equal logits the first token is the argmax.
    logits = case.logits.tolist()
    asked = list(zip(row.tolist(), target.tolist(), strict=True))
    assert found.greedy.tolist() == [logits[r].index(max(logits[r])) == t for r, t in asked]
    assert found.rank is not None
    assert found.rank.tolist() == [1 + sum(value > logits[r][t] for value in logits[r]) for r, t in asked]


@pytest.mark.parametrize("target", [0, 2, 3, 4, 5, 9], ids=lambda t: f"token {t}")
def test_a_target_may_lie_in_any_slice(target: int) -> None:
    """Alone, so that the other slices (of 0 to 2, 3 to 5, 6 to 8, and 9) hold none."""
    logits = torch.tensor([[0.0] * 10, [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]], dtype=torch.float64)
    asked = torch.tensor([1]), torch.tensor([target])
    found = score_targets(torch.zeros(2, 1), *asked, sliced(logits, 3), ranks=True)
    assert found.loglikelihood.tolist() == pytest.approx(exact(logits, *asked), abs=1e-12)
    assert found.greedy.tolist() == [target == 5]
    assert found.rank is not None
    assert found.rank.tolist() == [1 + int((logits[1] > logits[1, target]).sum())]


def test_ranks_are_counted_only_when_asked() -> None:
    passes = []

    def counted(hidden: Tensor) -> Iterator[tuple[int, Tensor]]:
        passes.append(len(hidden))
        yield 0, torch.zeros(1, 4)

    for ranks in (False, True):
        found = score_targets(torch.zeros(1, 1), torch.tensor([0]), torch.tensor([2]), counted, ranks=ranks)
        assert (found.rank is not None) == ranks
    assert len(passes) == 3


def test_many_slices_of_float32_lose_nothing() -> None:
    """Far from zero, where a float32 sum that is carried from slice to slice is off by 3e-5."""
    generator = torch.Generator().manual_seed(0)
    logits = 500 + 4 * torch.randn(3, 20_000, generator=generator)
    row, target = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 9_999, 19_999, 5])
    found = score_targets(torch.zeros(3, 1), row, target, sliced(logits, 100), ranks=False)
    assert found.loglikelihood.tolist() == pytest.approx(exact(logits, row, target), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_widened_before_they_are_summed(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4, 16, generator=generator).to(dtype)
    weight = torch.randn(3_000, 16, generator=generator).to(dtype)
    row, target = torch.arange(4).repeat_interleave(50), torch.arange(200) * 14
    found = score_targets(hidden, row, target, lambda x: vocabulary_slices(x, weight, None, None), ranks=True)
    logits = hidden @ weight.T  # each is rounded to 16 bits; the sum of their exponentials is not
    assert found.loglikelihood.tolist() == pytest.approx(exact(logits, row, target), abs=1e-5)
    assert found.rank is not None
    assert found.rank.tolist() == (1 + (logits[row] > logits[row, target][:, None]).sum(dim=1)).tolist()
