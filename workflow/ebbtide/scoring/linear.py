"""Products with weight matrices."""

import platform
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# torch multiplies float32 matrices with MKL, whose fastest kernels run on Intel processors only and which
# reorders the weights in every product. oneDNN, which is part of torch too, is faster on AVX2 and AVX-512.
_HAS_ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
SMALLEST_ONEDNN = 1 << 21  # multiplications; MKL does as many during the 10 µs that a call of oneDNN costs


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X Wᵀ + b of rows (n, in) and a matrix (out, in), by the fastest kernel of the device."""
    if (
        _HAS_ONEDNN
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and len(x) * weight.numel() >= SMALLEST_ONEDNN
        and (weight.is_contiguous() or weight.t().is_contiguous())  # oneDNN takes minutes for other strides
    ):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return functional.linear(x, weight, bias)


@dataclass(frozen=True)
class Linear:
    """y = x Wᵀ + b."""

    weight: Tensor  # (out, in)
    bias: Tensor | None = None  # (out,)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to rows (n, in)."""
        return multiply(x, self.weight, self.bias)
