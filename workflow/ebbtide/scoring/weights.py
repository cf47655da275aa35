"""The tensors of a checkpoint directory, read directly from its safetensors files."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from ebbtide.checkpoints.header import BUFFERS
from ebbtide.checkpoints.weight_files import assigned_files, weight_files
from ebbtide.errors import CheckpointError


class Weights:
    """Memory-mapped tensors by name; records which of them are used.

    Names are looked up with and without the prefix of the model's body, because checkpoints have either.
    """

    def __init__(self, directory: str | Path, dtype: torch.dtype, device: str) -> None:
        self.directory = directory
        self._dtype, self._device = dtype, device
        self._files: dict[str, Any] = {}  # full name → open file
        self._stack = ExitStack()
        self._used: set[str] = set()
        self._missing: list[str] = []
        self._mismatched: list[str] = []
        self.total = 0  # parameters used, each counted once
        self.embedding = 0  # those of embeddings and the head
        self.prefixes: tuple[str, ...] = ("",)

    def __enter__(self) -> "Weights":
        from safetensors import safe_open

        try:
            files, assigned = weight_files(self.directory), assigned_files(self.directory)
            for path in files:
                file = self._stack.enter_context(safe_open(path, framework="pt", device=self._device))
                own = (name for name in file.keys() if assigned.get(name, path.name) == path.name)  # noqa: SIM118
                self._files |= dict.fromkeys(own, file)
        except OSError as error:
            raise CheckpointError(f"{self.directory} cannot be read: {error}.") from error
        except Exception as error:  # SafetensorError derives from Exception alone
            if type(error).__module__.startswith("safetensors"):
                raise CheckpointError(f"{self.directory} cannot be loaded: {error}.") from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def has(self, name: str) -> bool:
        """Whether the checkpoint contains this tensor."""
        return self._find(name) is not None

    def take(self, name: str, shape: Sequence[int], *, embedding: bool = False) -> Tensor:
        """A tensor of this shape in the precision of the model. `finish` reports missing or wrong ones."""
        found = self._find(name)
        wanted = torch.Size(shape)
        if found is None:
            self._missing.append(name)
            return torch.empty(wanted, dtype=self._dtype, device="meta")
        tensor: Tensor = self._files[found].get_tensor(found)
        if tensor.shape != wanted:
            self._mismatched.append(found)
            return torch.empty(wanted, dtype=self._dtype, device="meta")
        if found not in self._used:
            self._used.add(found)
            self.total += tensor.numel()
            self.embedding += tensor.numel() if embedding else 0
            _check_finite(tensor, found, self.directory)
        return tensor.to(self._dtype)

    def finish(self) -> None:
        """Raise `CheckpointError` for tensors that are missing, have another shape, or were not used."""
        left = {name for name in self._files if name not in self._used and not BUFFERS.search(name)}
        left -= set(self._mismatched)
        for what, names in [
            ("missing", self._missing),
            ("unexpected", left),
            ("mismatched", self._mismatched),
        ]:
            if names:
                raise CheckpointError(
                    f"{self.directory}: {what} keys in the weights: {', '.join(sorted(names)[:5])}."
                )

    def _find(self, name: str) -> str | None:
        return next((full for p in self.prefixes if (full := p + name) in self._files), None)


def _check_finite(tensor: Tensor, name: str, directory: str | Path) -> None:
    # The sum needs a single pass; it is finite unless a value is not or the sum overflows.
    if not bool(torch.isfinite(tensor.sum(dtype=torch.float32))) and not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{directory}: tensor {name} has non-finite values.")
