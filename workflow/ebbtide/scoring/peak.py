"""The most memory that was in use. A lean module: torch is imported only for a GPU, where it is already."""

import contextlib
import resource
from pathlib import Path


def reset_peak(device: str) -> None:
    """Begin to measure `peak_memory` anew."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):  # not on every system: the peak is then that of the process
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: str) -> int:
    """The most bytes in use on the device since `reset_peak`; on a CPU, of the whole process."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
