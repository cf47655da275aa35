"""Scoring in float64 throughout, as the reference for all other precisions.

Loading a model in float64 is not enough: transformers computes norms, softmax and rotary angles in float32
for any weights, which alone changes a log-likelihood by 1e-5 nats. Here all these casts are to float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ebbtide.checkpoints.load import load_model


def load_exact(directory: str | Path) -> Any:
    """Load a transformers model with weights and buffers in float64. Raises the errors of `load_model`."""
    return load_model(directory, "float64").double()


@contextmanager
def in_float64() -> Iterator[None]:
    """Inside this block, forward passes use float64 wherever their code specifies float32."""
    with torch.inference_mode(), _Double():  # type: ignore[no-untyped-call]
        yield


class _Double(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Replaces float32 with float64 in the arguments of every operation."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        def wide(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        return func(*map(wide, args), **{name: wide(value) for name, value in (kwargs or {}).items()})
