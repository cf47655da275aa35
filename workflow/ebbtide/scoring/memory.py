"""Memory: how much is free, and when it ran out."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch

from ebbtide.checkpoints.precision import count_values

WEIGHTS_FRACTION = 0.9  # of what is free that weights may take
CHUNK_FRACTION = 0.5  # of what is free that a chunk may take; the rest is for what an estimate misses
PREFERRED_TOKENS = {"cpu": 512, "cuda": 8192}  # tokens in a forward when memory is no limit

# How a lack of memory reads where it is a plain RuntimeError.
OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory", "STATUS_ALLOC_FAILED")


def chunk_size(bytes_per_token: int, device: torch.device) -> int:
    """Tokens in a forward to begin with: the preferred number, or what fits into free memory, at least 1."""
    free = free_memory(device)
    preferred = PREFERRED_TOKENS.get(device.type, PREFERRED_TOKENS["cpu"])
    if free is None:
        return preferred
    return max(1, min(preferred, int(CHUNK_FRACTION * free) // bytes_per_token))


def fits_one_device(files: Sequence[Path], dtype: str, device: str) -> bool:
    """Whether weights of these files fit on the device in this precision; a CPU is taken to suffice."""
    if device == "cpu":
        return True
    needed = count_values(files).total() * int(getattr(torch, dtype).itemsize)
    free = free_memory(torch.device(device))
    return free is None or needed < WEIGHTS_FRACTION * free


def free_memory(device: torch.device) -> int | None:
    """Free bytes on the device; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [limit for limit in (_available_memory(), _free_in_control_group()) if limit is not None]
    return min(found, default=None)


def _available_memory() -> int | None:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(available.split()[1]) * 1024
    return None


def _free_in_control_group() -> int | None:
    """What a control group (version 2; a Slurm job, a container) still allows; None without a limit."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line for line in groups if line.startswith("0::")).removeprefix("0::")
        place = Path("/sys/fs/cgroup") / own.lstrip("/")
        limit = int((place / "memory.max").read_text())  # "max" is no number: no limit
        return max(0, limit - int((place / "memory.current").read_text()))
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, a library on it, or the CPU's allocator has run out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(word in str(error) for word in OUT_OF_MEMORY)


def out_of_memory_message(what: str) -> str:
    """The sentence for a forward that cannot be made smaller."""
    return (
        f"{what} does not fit into memory; a smaller scoring.max_length, a 16-bit scoring.dtype or a larger "
        "device would help."
    )


def release() -> None:
    """Give cached device memory back, so that a smaller chunk finds it in one piece."""
    torch.cuda.empty_cache()
