"""Products with weight matrices."""

import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

_HAS_ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
SMALLEST_ONEDNN = 1 << 21  # multiplications; MKL does as many during the 10 µs that a call of oneDNN costs
INTEL = "GenuineIntel"


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
    """Whether oneDNN multiplies float32 matrices about twice as fast as MKL, which torch uses otherwise.

    Both are part of torch. MKL has AVX-512 kernels for Intel processors only. With AVX2 the two are about as
    fast, and MKL rounds less. The choice depends on the processor alone: a measured one could change the
    last digits of scores from run to run.
    """
    return _HAS_ONEDNN and torch.backends.cpu.get_cpu_capability() == "AVX512" and _vendor() != INTEL


def _vendor() -> str:
    """The vendor of the processor; Intel where the system does not tell."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("vendor_id")).split()[-1]
    return INTEL


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


@dataclass(frozen=True)
class Linear:
    """y = x Wᵀ + b."""

    weight: Tensor  # (out, in)
    bias: Tensor | None = None  # (out,)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to rows (n, in)."""
        return multiply(x, self.weight, self.bias)
