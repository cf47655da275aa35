"""Products with weight matrices."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

_HAS_ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
SMALLEST_ONEDNN = 1 << 21  # multiplications; MKL does as many during the 10 µs that a call of oneDNN costs
WORTHWHILE = 1.5  # times faster: a sum of oneDNN has about twice the rounding error


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X Wᵀ + b of rows (n, in) and a matrix (out, in), by the fastest kernel of the device."""
    if (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and len(x) * weight.numel() >= SMALLEST_ONEDNN
        and (weight.is_contiguous() or weight.t().is_contiguous())  # oneDNN takes seconds for other strides
        and onednn_is_faster()
    ):
        return _by_onednn(x, weight, bias)
    return functional.linear(x, weight, bias)


@cache
def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 matrices much faster than MKL, which torch uses; measured once.

    Both are part of torch. MKL has AVX-512 kernels for Intel processors only.
    """
    return _HAS_ONEDNN and WORTHWHILE * _seconds(_by_onednn) < _seconds(functional.linear)


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _seconds(product: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Shortest CPU time (s) of a product of 67 million multiplications."""
    x, weight = torch.ones(128, 512), torch.ones(1024, 512)
    times = []
    for _ in range(4):  # the first is slow
        started = time.thread_time()
        product(x, weight)
        times.append(time.thread_time() - started)
    return min(times)


@dataclass(frozen=True)
class Linear:
    """y = x Wᵀ + b."""

    weight: Tensor  # (out, in)
    bias: Tensor | None = None  # (out,)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to rows (n, in)."""
        return multiply(x, self.weight, self.bias)
