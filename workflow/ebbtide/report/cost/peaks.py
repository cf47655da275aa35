"""Peak rates of GPUs for dense matrix products, by the makers' data sheets.

A device is known by its exact name, so that a slice of a GPU, which has a smaller peak, is unknown.
"""

from typing import NamedTuple


class Peak(NamedTuple):
    """TFLOP/s of one GPU. None: the device does not support the type, or its sheet does not say."""

    bfloat16: float | None
    float16: float | None
    float32: float | None  # without TensorFloat-32, which scoring does not use


_H100_SXM = Peak(989.4, 989.4, 66.9)
_A100 = Peak(312.0, 312.0, 19.5)
PEAKS = {
    "NVIDIA H200": _H100_SXM,
    "NVIDIA GH200 480GB": _H100_SXM,
    "NVIDIA H100 80GB HBM3": _H100_SXM,
    "NVIDIA H100 PCIe": Peak(756.5, 756.5, 51.2),
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    "NVIDIA A40": Peak(149.7, 149.7, 37.4),
    "NVIDIA L40S": Peak(362.1, 362.1, 91.6),
    "NVIDIA L4": Peak(121.0, 121.0, 30.3),
    "Tesla V100-SXM2-16GB": Peak(None, 125.0, 15.7),
    "Tesla V100-SXM2-32GB": Peak(None, 125.0, 15.7),
    "Tesla T4": Peak(None, 65.0, 8.1),
}


def peak_tflops(device: str, dtype: str) -> float | None:
    """Return the peak of a device for a type of numbers in TFLOP/s; None if it is unknown."""
    peak = PEAKS.get(device)
    return getattr(peak, dtype, None) if peak else None
