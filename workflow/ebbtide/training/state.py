"""The state of a training run after one of its steps, as one safetensors file (no pickle)."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ebbtide.files import atomic
from ebbtide.logs import log

_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(
    path: Path, identity: str, step: int, model: torch.nn.Module, optimizer: torch.optim.AdamW
) -> None:
    """Write weights and optimizer moments after `step` (1 or more) updates, atomically.

    `identity` identifies the run; `load_state` ignores the state of another run.
    """
    tensors = {}
    for name, weight in model.named_parameters():
        tensors[f"weight/{name}"] = weight.detach()
        for moment in _MOMENTS:
            tensors[f"{moment}/{name}"] = optimizer.state[weight][moment]
    record = {"identity": identity, "step": str(step), "sha256": _sha256(tensors)}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata=record)


def load_state(
    path: Path, identity: str, latest: int, model: torch.nn.Module, optimizer: torch.optim.AdamW
) -> int:
    """Load a saved state into a new `model` and `optimizer`; return its step, or 0 if it is not used.

    A state that is damaged, belongs to another run, or is past step `latest` is ignored with a log message.
    """
    if not path.is_file():  # opening a named pipe would wait for a writer
        return _ignored(path, "is not a regular file") if path.exists() else 0
    try:
        with safe_open(path, "pt") as file:
            record = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        return _ignored(path, f"cannot be read ({error})")
    if record.get("identity") != identity:
        return _ignored(path, "belongs to another spec")
    if record.get("sha256") != _sha256(tensors):
        return _ignored(path, "is damaged")
    step = int(record["step"])
    if step > latest:
        return _ignored(path, f"is at step {step}, past the first missing checkpoint ({latest})")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(tensors[f"weight/{name}"])
            moments = {moment: tensors[f"{moment}/{name}"] for moment in _MOMENTS}
            optimizer.state[weight] = {"step": torch.tensor(float(step)), **moments}
    log.info("resuming from step %d", step)
    return step


def _ignored(path: Path, reason: str) -> int:
    log.info("%s %s; training starts from scratch", path, reason)
    return 0


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].contiguous().numpy().tobytes())
    return sha.hexdigest()
