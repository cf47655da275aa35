"""What the numbers are measured on: set up once, and described in one line."""

import argparse
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ebbtide.errors import EbbtideError


def prepare() -> None:
    """One thread everywhere, no network, no progress bars. Before transformers is imported."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
    torch.set_num_threads(1)
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def run(work: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Do the work of a benchmark; an error of the user's is one sentence and status 1."""
    try:
        prepare()
        work(options)
    except EbbtideError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def describe(device: str = "cpu") -> str:
    """Processor, cores, vector instructions, threads and versions."""
    packages = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers", "lm_eval"))
    gpu = f"{torch.cuda.get_device_name()}; " if device == "cuda" else ""
    return (
        f"{gpu}{_processor()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} thread; Python {platform.python_version()}, {packages}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
