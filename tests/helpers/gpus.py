"""Made-up GPUs, and stand-ins for the programs that list real ones."""

from collections.abc import Iterable
from pathlib import Path

from ebbtide.jobs.devices import MB, Device


def devices(count: int, memory_mb: int = 80_000) -> tuple[Device, ...]:
    """GPU-0, GPU-1, …"""
    return tuple(Device(f"GPU-{i}", f"GPU-{i}", memory_mb * MB) for i in range(count))


def fake_gpus(count: int, memory_mb: int = 80_000) -> str:
    """The value of `EBBTIDE_FAKE_GPUS` for `devices`."""
    return ",".join(f"GPU-{i}:{memory_mb}" for i in range(count))


def nvidia_smi(directory: Path, table: Iterable[str], tree: Iterable[str] = (), status: int = 0) -> str:
    """Write a program `nvidia-smi` that prints these lines; return the PATH that finds it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, lines in (("table", table), ("tree", tree)):
        (directory / name).write_text("".join(f"{line}\n" for line in lines))
    program = directory / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in -L) cat {directory}/tree;; *) cat {directory}/table;; esac\nexit {status}\n'
    )
    program.chmod(0o755)
    return f"{directory}:/usr/bin:/bin"
