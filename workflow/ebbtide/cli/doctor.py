"""The verb that checks a machine: `doctor`."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.errors import EbbtideError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cli.options import Verbs
    from ebbtide.jobs.doctor import Finding

PLUGIN = "snakemake_executor_plugin_slurm"


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    doctor = verbs.add_parser(
        "doctor",
        description="Check this machine: packages, GPUs and leases, file systems, clock, disk, hub, Slurm.",
    )
    doctor.add_argument(
        "study",
        nargs="*",
        metavar="STUDY",
        help="configuration files of the study whose store is checked (default: config.yaml, if it exists)",
    )
    doctor.set_defaults(verb=_doctor, network=True)


def _doctor(options: argparse.Namespace) -> None:
    from ebbtide.jobs.doctor import PROBLEM, summary

    findings = []
    for finding in _findings(options.study or [f for f in ("config.yaml",) if Path(f).exists()]):
        print(finding, flush=True)
        findings.append(finding)
    print(summary(findings))
    if any(finding.level == PROBLEM for finding in findings):
        sys.exit(2)


def _findings(study: list[str]) -> "Iterator[Finding]":
    import importlib.metadata
    import importlib.util

    from ebbtide.environment import requirements
    from ebbtide.jobs import doctor
    from ebbtide.jobs.devices import visible_devices
    from ebbtide.sources import hub_endpoint

    python, needed = requirements()
    yield doctor.python_version(python)
    yield from doctor.packages(needed, importlib.metadata.version)
    visible = visible_devices()
    if importlib.util.find_spec("torch"):
        import torch

        build = torch.version.cuda or torch.version.hip
        yield doctor.torch_build(torch.__version__, build, torch.cuda.device_count(), visible)
    yield from doctor.devices(visible)
    yield doctor.gpu_locks()
    store = "cells"
    if study:
        from ebbtide.study.load import read_study

        try:
            store = read_study(*study, uses_results=False).config["scoring"]["store"]
            yield doctor.Finding(doctor.OK, "study", ", ".join(study))
        except EbbtideError as error:
            yield doctor.Finding(doctor.PROBLEM, "study", str(error).rstrip("."))
    yield from doctor.file_system("store", Path(store))
    yield from doctor.file_system("results", Path("results"))
    yield doctor.hub(hub_endpoint(), _head)
    has_plugin = importlib.util.find_spec(PLUGIN) is not None
    yield doctor.slurm(shutil.which, has_plugin=has_plugin)


def _head(url: str, seconds: float) -> int:
    """Send a HEAD request; return the status."""
    from ebbtide.transport import client

    return client().head(url, timeout=seconds).status_code
