"""Checks of a machine: packages, devices, file systems, clock, hub and Slurm.

Each check is a function that returns findings: what was looked at, what was found, and what to do about it.
"""

import fcntl
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ebbtide.errors import EbbtideError, first_line
from ebbtide.jobs.devices import Visible
from ebbtide.jobs.leases import holder, lock_directory
from ebbtide.scoring.placement import gigabytes

OK, WARNING, PROBLEM = "ok", "warning", "problem"  # a problem makes jobs fail or results wrong

LEAST_FREE, FEW_FREE = 2**30, 10 * 2**30  # bytes of disk: problem, warning
CLOCK_WARNING, CLOCK_PROBLEM = 2.0, 60.0  # seconds
HUB_TIMEOUT = 5.0  # seconds
SLURM = ("sbatch", "squeue", "scancel", "srun")
_OCCUPIED = 0.5  # of the memory of a GPU that nobody leases


@dataclass(frozen=True)
class Finding:
    """The result of a check; `remedy` is empty if there is nothing to do."""

    level: str
    subject: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        end = f". {self.remedy}." if self.remedy else ""
        return f"{self.level:<8} {self.subject}: {self.found}{end}"


def python_version(wanted: str, version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Compare the version of Python with a specifier such as `>=3.11`."""
    from packaging.specifiers import SpecifierSet

    found = ".".join(map(str, version))
    if found in SpecifierSet(wanted):
        return Finding(OK, "Python", found)
    return Finding(PROBLEM, "Python", f"found {found}, needed {wanted}", "Make the environment anew with it")


def packages(requirements: Iterable[str], version_of: Callable[[str], str]) -> list[Finding]:
    """Compare installed packages with requirements. `version_of` is `importlib.metadata.version`."""
    from importlib.metadata import PackageNotFoundError

    from packaging.requirements import Requirement

    wrong, count = [], 0
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        count += 1
        try:
            found = version_of(requirement.name)
        except PackageNotFoundError:
            found = "nothing"
        if found == "nothing" or not requirement.specifier.contains(found, prereleases=True):
            remedy = f"Run `pip install '{requirement}'`"
            what = f"found {found}, needed {requirement.specifier or 'any version'}"
            wrong.append(Finding(PROBLEM, f"package {requirement.name}", what, remedy))
    return wrong or [Finding(OK, "packages", f"{count} as pyproject.toml needs them")]


def torch_build(version: str, cuda: str | None, usable: int, visible: Visible) -> Finding:
    """Compare torch with the visible devices.

    Parameters
    ----------
    cuda
        CUDA or ROCm version of the build; None is a build for CPUs.
    usable
        Number of devices that torch can use.
    """
    build = f"{version}, {f'built for {cuda}' if cuda else 'a build for CPUs'}"
    if usable:
        return Finding(OK, "torch", f"{build}, uses {usable} GPUs")
    if not visible.devices:
        return Finding(OK, "torch", f"{build}, scores on CPUs")
    if not cuda:
        return Finding(
            WARNING,
            "torch",
            f"{build}, so the GPUs stay idle",
            "Install a CUDA build of torch, or set gpus: 0",
        )
    return Finding(
        PROBLEM,
        "torch",
        f"{build}, cannot use the visible GPUs",
        "Install a driver for this CUDA version, or a torch built for an older one",
    )


def devices(visible: Visible) -> list[Finding]:
    """Report free memory and leases of the visible devices."""
    if visible.problem:
        return [Finding(WARNING, "GPUs", visible.problem, "Repair the driver; until then no GPU is leased")]
    if not visible.devices:
        return [Finding(OK, "GPUs", "none visible; jobs score on CPUs")]
    found = []
    for device in visible.devices:
        who, free = holder(device), device.free
        state = "" if free is None else f"{gigabytes(free)} free, "
        if who:
            state += f"leased by {who}"
        elif free is not None and free < _OCCUPIED * device.memory:
            remedy = "Jobs may lease it: end the program, or leave it out of CUDA_VISIBLE_DEVICES"
            found.append(Finding(WARNING, str(device), f"{state}used by a program without a lease", remedy))
            continue
        else:
            state += "not leased"
        found.append(Finding(OK, str(device), state))
    return found


def file_system(name: str, directory: Path, *, clock: Callable[[], float] = time.time) -> list[Finding]:
    """Check locks, renaming, the clock and the free space where a directory is, or will be."""
    subject = f"{name} ({directory})"
    try:
        with _scratch(directory) as scratch:
            return [
                _locks(subject, scratch),
                _renaming(subject, scratch),
                _clock(subject, scratch, clock),
                _space(subject, scratch),
            ]
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        return [Finding(PROBLEM, subject, what, "Give yourself permission, or choose another directory")]


def gpu_locks() -> Finding:
    """Check that leases of GPUs exclude other processes."""
    try:
        directory = lock_directory(create=True)
        with _scratch(directory) as scratch:
            found = _locks(f"GPU locks ({directory})", scratch)
    except (EbbtideError, OSError) as error:
        return Finding(PROBLEM, "GPU locks", first_line(error))
    return found if found.level == OK else replace(found, level=PROBLEM)


def hub(endpoint: str, head: Callable[[str, float], int]) -> Finding:
    """Check that the hub answers. `head` sends a request within some seconds and returns the status."""
    needed = "Only `snakemake lock` and fetches need it"
    try:
        status = head(endpoint, HUB_TIMEOUT)
    except Exception as error:  # of any kind of connection
        return Finding(WARNING, "hub", f"{endpoint} is not reachable ({first_line(error)})", needed)
    level = OK if status < 500 else WARNING
    return Finding(level, "hub", f"{endpoint} answers with status {status}", needed if level != OK else "")


def slurm(which: Callable[[str], str | None], *, has_plugin: bool) -> Finding:
    """Check the commands of Slurm and Snakemake's plugin for it."""
    missing = [command for command in SLURM if not which(command)]
    if len(missing) == len(SLURM):
        return Finding(OK, "Slurm", "not installed; not needed on one machine")
    if missing:
        remedy = "Load the module that has them, or ask your site"
        return Finding(WARNING, "Slurm", f"{', '.join(missing)} not found", remedy)
    if not has_plugin:
        remedy = "For `--profile slurm`, run `pip install -e '.[slurm]'`"
        return Finding(WARNING, "Slurm", "found, but not Snakemake's plugin for it", remedy)
    return Finding(OK, "Slurm", "commands and plugin found")


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A temporary directory on the file system of a directory, which need not exist."""
    existing = next(place for place in (directory, *directory.absolute().parents) if place.is_dir())
    with tempfile.TemporaryDirectory(prefix=".ebbtide-doctor-", dir=existing) as scratch:
        yield Path(scratch)


# Ends with status 1 if the lock of a file is held.
_TRY_LOCK = (
    "import fcntl, sys; file = open(sys.argv[1], 'r+b')\n"
    "try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    "except BlockingIOError: sys.exit(1)"
)


def _locks(subject: str, scratch: Path) -> Finding:
    path = scratch / "lock"
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            what = f"locks (flock) fail: {error.strerror or error}"
            return Finding(PROBLEM, subject, what, "Mount it with locks, or use another file system")
        other = subprocess.run([sys.executable, "-c", _TRY_LOCK, str(path)], capture_output=True, check=False)
    if other.returncode == 0:
        what = "locks (flock) exclude nobody, so two jobs may do the same work"
        return Finding(WARNING, subject, what, "Mount it with locks, or use another file system")
    return Finding(OK, subject, "locks exclude other processes")


def _renaming(subject: str, scratch: Path) -> Finding:
    old, new = scratch / "old", scratch / "new"
    old.write_text("old")
    new.write_text("new")
    try:
        new.replace(old)
        if old.read_text() == "new" and not new.exists():
            return Finding(OK, subject, "a file replaces another in one step")
        what = "a renamed file is not at its new place"
    except OSError as error:
        what = f"a file cannot replace another ({error.strerror or error})"
    return Finding(PROBLEM, subject, what, "Use another file system: every output is written in this way")


def _clock(subject: str, scratch: Path, clock: Callable[[], float]) -> Finding:
    before = clock()
    (scratch / "new").write_text("")
    written, after = (scratch / "new").stat().st_mtime, clock()
    off = max(before - written, written - after, 0.0)
    if off <= CLOCK_WARNING:
        return Finding(OK, subject, "its clock agrees with this machine's")
    level = WARNING if off <= CLOCK_PROBLEM else PROBLEM
    return Finding(
        level,
        subject,
        f"its clock differs from this machine's by {off:.0f} s",
        "Synchronise both (NTP): `recompute: true` and Snakemake compare times of files",
    )


def _space(subject: str, scratch: Path) -> Finding:
    free = shutil.disk_usage(scratch).free
    level = OK if free >= FEW_FREE else WARNING if free >= LEAST_FREE else PROBLEM
    return Finding(level, subject, f"{gigabytes(free)} free", "" if level == OK else "Make room")


def summary(findings: Iterable[Finding]) -> str:
    """Count the findings that need attention."""
    levels = [finding.level for finding in findings]
    counts = [(levels.count(PROBLEM), "problem"), (levels.count(WARNING), "warning")]
    said = [f"{count} {noun}{'s' * (count > 1)}" for count, noun in counts if count]
    return f"{' and '.join(said)} found." if said else "Everything is in order."
