"""Free memory, and detection of out-of-memory errors."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch

from ebbtide.errors import ScoringError
from ebbtide.scoring.placement import fits, gigabytes, too_large, weight_bytes

CHUNK_FRACTION = 0.5  # of free memory for a chunk; the rest is a margin for errors of the estimate

# Messages of out-of-memory errors that are plain RuntimeErrors.
OUT_OF_MEMORY = ("DefaultCPUAllocator", "out of memory", "STATUS_ALLOC_FAILED")


def chunk_size(preferred: int, bytes_per_token: int, device: torch.device) -> int:
    """Initial tokens per forward pass: the preferred number or what fits in free memory, at least 1."""
    free = free_memory(device)
    if free is None:
        return preferred
    return max(1, min(preferred, int(CHUNK_FRACTION * free) // bytes_per_token))


def fits_one_device(files: Sequence[Path], dtype: str, device: str) -> bool:
    """Whether these weight files fit on the device in this precision; always True for a CPU."""
    if device == "cpu":
        return True
    free = free_memory(torch.device(device))
    return free is None or fits(weight_bytes(files, dtype), [free])


def check_all_devices(what: str, files: Sequence[Path], dtype: str) -> None:
    """Raise `ScoringError` if these weight files do not fit in the free memory of all visible GPUs."""
    infos = [torch.cuda.mem_get_info(index) for index in range(torch.cuda.device_count())]
    free, total = [int(info[0]) for info in infos], [int(info[1]) for info in infos]
    weights = weight_bytes(files, dtype)
    if fits(weights, free):
        return
    if not fits(weights, total):
        raise too_large(what, weights, dtype, total, "the visible GPUs")
    raise ScoringError(
        f"{what}: the weights take {gigabytes(weights)} in {dtype}, but only {gigabytes(sum(free))} of the "
        f"{gigabytes(sum(total))} of the visible GPUs are free: another program uses them. End it, or choose "
        "other GPUs (CUDA_VISIBLE_DEVICES).",
        recurs=False,
    )


def free_memory(device: torch.device) -> int | None:
    """Free bytes on the device; None if unknown."""
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
    """Bytes left in the control group (version 2; Slurm jobs, containers); None without a limit."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line for line in groups if line.startswith("0::")).removeprefix("0::")
        group = Path("/sys/fs/cgroup") / own.lstrip("/")
        limit = int((group / "memory.max").read_text())  # ValueError for "max", which means no limit
        return max(0, limit - int((group / "memory.current").read_text()))
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error reports that a device or the CPU has run out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(word in str(error) for word in OUT_OF_MEMORY)


def out_of_memory_message(what: str) -> str:
    """The message for a forward pass that cannot be made smaller."""
    return (
        f"{what} does not fit in memory; use a smaller scoring.max_length, a 16-bit scoring.dtype or a "
        "larger device."
    )


def release() -> None:
    """Release cached device memory, so that it is not fragmented for a smaller chunk."""
    torch.cuda.empty_cache()
