"""Products with weight matrices: the same values from both kernels, and which of them runs."""

import pytest
import torch
from torch.nn import functional

from ebbtide.scoring import linear
from ebbtide.scoring.linear import SMALLEST_ONEDNN, multiply

needs_onednn = pytest.mark.skipif(not linear._HAS_ONEDNN, reason="torch without oneDNN, or no x86 processor")
INTO, OUT = 96, 160
MANY = SMALLEST_ONEDNN // (INTO * OUT) + 1  # rows


def operands(
    rows: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows (n, in), a matrix (out, in), a bias (out,)."""
    torch.manual_seed(0)
    return tuple(torch.randn(*shape, dtype=dtype) for shape in ((rows, INTO), (OUT, INTO), (OUT,)))  # type: ignore[return-value]


@pytest.fixture
def plain_calls(monkeypatch):
    """Products of `functional.linear`, on a machine where oneDNN is faster."""
    calls = []
    original = functional.linear

    def counted(*operands):
        calls.append(operands)
        return original(*operands)

    monkeypatch.setattr(linear, "onednn_is_faster", lambda: linear._HAS_ONEDNN)
    monkeypatch.setattr(functional, "linear", counted)
    return calls


@needs_onednn
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("stored", ["(out, in)", "(in, out)"])
def test_many_rows_are_multiplied_by_onednn_in_either_layout(stored, biased, plain_calls):
    x, weight, bias = operands(MANY)
    weight = weight if stored == "(out, in)" else weight.t().contiguous().t()
    found = multiply(x, weight, bias if biased else None)
    assert not plain_calls
    expected = x.double() @ weight.double().t() + (bias.double() if biased else 0)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


@needs_onednn
def test_rows_of_a_wider_matrix_need_no_copy(plain_calls):
    wide, weight, bias = torch.randn(MANY, 2 * INTO), *operands(MANY)[1:]
    found = multiply(wide[:, INTO:], weight, bias)
    assert not plain_calls
    torch.testing.assert_close(
        found.double(), wide[:, INTO:].double() @ weight.double().t() + bias, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("case", ["few rows", "other strides", "float64", "bfloat16"])
def test_other_products_are_left_to_torch(case, plain_calls):
    dtype = {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(case, torch.float32)
    x, weight, bias = operands(1 if case == "few rows" else MANY, dtype)
    if case == "other strides":
        weight = weight.repeat_interleave(2, dim=1)[:, ::2]
    found = multiply(x, weight, bias)
    assert len(plain_calls) == 1
    assert torch.equal(found, functional.linear(x, weight, bias))


@pytest.mark.parametrize(
    ("capability", "vendor", "chosen"),
    [
        ("AVX512", "AuthenticAMD", True),
        ("AVX512", "GenuineIntel", False),
        ("AVX2", "AuthenticAMD", False),
    ],
)
def test_the_processor_alone_decides(capability, vendor, chosen, monkeypatch):
    monkeypatch.setattr(linear, "_HAS_ONEDNN", True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(linear, "_vendor", lambda: vendor)
    assert linear.onednn_is_faster.__wrapped__() is chosen


def test_a_torch_without_onednn_is_not_asked_for_it(monkeypatch):
    monkeypatch.setattr(linear, "_HAS_ONEDNN", False)
    assert linear.onednn_is_faster.__wrapped__() is False
