"""The device that scores, by name. A lean module: torch is imported only for a GPU, where it is loaded."""

from functools import cache
from pathlib import Path


@cache
def device_name(device: str) -> str | None:
    """Return the product name of the GPU or the processor; None if the system does not say it."""
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not on every system
        return None
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, None)
