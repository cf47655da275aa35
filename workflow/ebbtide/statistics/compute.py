"""Training compute by the usual approximation, C = 6ND."""

from typing import Any

FLOPS_PER_PARAMETER_AND_TOKEN = 6.0  # two forward and four backward (Kaplan et al. 2020)


def compute(N: Any, D: Any) -> Any:
    """Training compute in FLOPs of N parameters and D training tokens: numbers, arrays or columns."""
    return FLOPS_PER_PARAMETER_AND_TOKEN * N * D
