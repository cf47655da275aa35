"""The GPUs of one scoring job: how many it needs, and the lease of them. A lean module: no torch."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ebbtide.checkpoints.directory import directory_of
from ebbtide.checkpoints.precision import own_dtype
from ebbtide.checkpoints.weight_files import weight_files
from ebbtide.errors import CheckpointError, ScoringError
from ebbtide.jobs.devices import Device, are_fake, visible_devices, visible_only
from ebbtide.jobs.leases import Lease, Window, lease
from ebbtide.scoring.placement import WEIGHTS_FRACTION, fits, gigabytes, too_large, weight_bytes
from ebbtide.scoring.scorer import AUTO, FAKE, VLLM


def uses_gpus(backend: str) -> bool:
    """Whether a back end uses GPUs. The fake one does if they are made up too, to try their scheduling."""
    return backend != FAKE or are_fake()


def windows(
    devices: Sequence[Device], weights: int, most: int | None = None, *, offload: bool = False
) -> list[Window]:
    """Return the alternatives of adjacent devices that hold weights of so many bytes, by preference.

    They have the fewest devices that suffice, at most `most` (None is all). A MIG slice is alone, because a
    process can use one only. Without such devices: with `offload` as many as possible, else nothing.
    """
    most = min(len(devices), len(devices) if most is None else most)
    found: list[Window] = []
    for count in range(1, most + 1):
        possible = _windows_of(devices, count)
        if suitable := [w for w in possible if fits(weights, [d.memory for d in w])]:
            return suitable
        found = possible or found
    return found if offload else []


def _windows_of(devices: Sequence[Device], count: int) -> list[Window]:
    """Return the windows of so many devices that a process can use, by preference."""
    starts = sorted(range(len(devices) - count + 1), key=lambda start: start % count != 0)
    adjacent = [tuple(devices[start : start + count]) for start in starts]
    return [window for window in adjacent if count == 1 or not any(d.is_slice for d in window)]


def most_gpus(backend: str, most: int | None) -> int | None:
    """Most GPUs for one model, of `most` that may be used (None is all): one with vLLM."""
    return 1 if backend == VLLM and most != 0 else most


def no_window(
    what: str,
    weights: int,
    dtype: str,
    devices: Sequence[Device],
    most: int | None,
    *,
    backend: str = AUTO,
) -> ScoringError:
    """Return the error for weights for which `windows` finds no alternative."""
    if backend == VLLM:
        largest = max(device.memory for device in devices)
        return ScoringError(
            f"{what}: the weights take {gigabytes(weights)} in {dtype}, more than {WEIGHTS_FRACTION:.0%} of "
            f"the largest visible GPU ({gigabytes(largest)}), of which vLLM uses one. Use a narrower "
            "scoring.dtype, or set scoring.generation_backend to same."
        )
    most = len(devices) if most is None else min(most, len(devices))
    possible = (window for count in range(1, most + 1) for window in _windows_of(devices, count))
    usable = max(possible, key=lambda window: sum(device.memory for device in window))
    if usable[0].is_slice:
        largest = usable[0].memory
        return ScoringError(
            f"{what}: the weights take {gigabytes(weights)} in {dtype}, more than {WEIGHTS_FRACTION:.0%} of "
            f"the largest visible MIG slice ({gigabytes(largest)}), and a process can use only one. Make a "
            "larger slice, use a narrower scoring.dtype, or set scoring.offload: true, which is slow."
        )
    where = "the visible GPUs" if most == len(devices) else "the GPUs that scoring.gpus allows"
    return too_large(what, weights, dtype, [device.memory for device in usable], where)


@contextmanager
def leased(
    checkpoint: str,
    dtype: str | None,
    backend: str,
    purpose: str,
    say: Callable[[str], None],
    *,
    most: int | None = None,
    offload: bool = False,
) -> Iterator[Lease]:
    """Hold the GPUs that scoring a checkpoint needs; wait until they are free.

    Without visible GPUs, with `most` 0 and with a back end that uses none, nothing is taken.

    Parameters
    ----------
    checkpoint
        See `checkpoints.directory.directory_of`.
    dtype
        Precision to score in; None or `checkpoint` is that of the saved weights.
    purpose, say
        See `leases.lease`.
    most, offload
        `gpus` and `offload` of a study, under `scoring`.

    Raises
    ------
    ScoringError
        The weights need more GPUs than there are, or the locks cannot be used.
    """
    visible = visible_devices() if uses_gpus(backend) and most != 0 else None
    if visible is None or not visible.devices:
        if visible and visible.problem:
            say(f"no GPU is leased: {visible.problem}")
        yield Lease(environment=visible_only(()) if most == 0 else {})
        return
    directory = directory_of(checkpoint)
    weights, dtype = _weights(directory, dtype)
    alternatives = windows(visible.devices, weights, most_gpus(backend, most), offload=offload)
    if not alternatives:
        raise no_window(str(directory), weights, dtype, visible.devices, most, backend=backend)
    with lease(alternatives, purpose, say) as held:
        yield held


def say_on_stderr(text: str) -> None:
    """Print a sentence with the time, as in a log."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _weights(directory: Path, dtype: str | None) -> tuple[int, str]:
    """Bytes of the weights in memory, and their precision; 0 if the files cannot be read: loading says so."""
    with suppress(CheckpointError, OSError):
        files = weight_files(directory)
        if dtype in (None, "checkpoint"):
            dtype = own_dtype(directory, files)
        return weight_bytes(files, str(dtype)), str(dtype)
    return 0, str(dtype)
