"""Peak memory use. A lean module: torch is imported only for a GPU, where it is already loaded."""

import contextlib
import resource
from pathlib import Path


def reset_peak(device: str) -> None:
    """Restart the measurement of `peak_memory`."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(
            OSError
        ):  # not on every system; the peak then counts from the start of the process
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: str) -> int:
    """Peak bytes on the device since `reset_peak`; on a CPU, those of the whole process."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
