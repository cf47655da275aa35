"""float64 throughout: the reference that everything is graded against.

Loading a model in float64 is not enough: transformers computes norms, softmax and rotary angles in float32
whatever the weights, which alone moves a request by 1e-5 nats. Here every such cast stays at float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ebbtide.checkpoints.load import load_model


def load_exact(directory: str | Path) -> Any:
    """A model of transformers in float64, buffers too. Raises `CheckpointError` (see `load_model`)."""
    return load_model(directory, "float64").double()


@contextmanager
def exactly() -> Iterator[None]:
    """Forwards within compute in float64 wherever their code asks for float32."""
    with torch.inference_mode(), _Double():  # type: ignore[no-untyped-call]
        yield


class _Double(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Wherever an operation is asked for float32, it gives float64."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        def wide(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        return func(*map(wide, args), **{name: wide(value) for name, value in (kwargs or {}).items()})
