"""What `ebbtide doctor` finds on machines that are broken in one way each."""

import errno
import fcntl
import time
from collections import namedtuple
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from ebbtide import cli
from ebbtide.environment import requirements
from ebbtide.jobs import doctor
from ebbtide.jobs.devices import Device, Visible
from ebbtide.jobs.doctor import Finding
from ebbtide.jobs.leases import lease

GB = 2**30
ONE = Device("GPU-a", "GPU-a", 80 * GB, "NVIDIA H100", 79 * GB)


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EBBTIDE_GPU_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def of_level(level: str, findings: list[Finding]) -> list[str]:
    return [str(finding) for finding in findings if finding.level == level]


def test_python_is_compared_with_the_project() -> None:
    assert str(doctor.python_version(">=3.11", (3, 12, 1))) == "ok       Python: 3.12.1"
    old = doctor.python_version(">=3.11", (3, 10, 2))
    assert str(old) == "problem  Python: found 3.10.2, needed >=3.11. Make the environment anew with it."


def test_an_old_and_a_missing_package_are_named_with_a_command() -> None:
    installed = {"torch": "2.12.1", "pyarrow": "24.0"}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    needed = ["torch>=2.13", "pyarrow>=21", "jinja2>=3.1", 'tomli>=2; python_version < "3"']
    assert list(map(str, doctor.packages(needed, version))) == [
        "problem  package torch: found 2.12.1, needed >=2.13. Run `pip install 'torch>=2.13'`.",
        "problem  package jinja2: found nothing, needed >=3.1. Run `pip install 'jinja2>=3.1'`.",
    ]
    assert list(map(str, doctor.packages(needed[1:2], version))) == [
        "ok       packages: 1 as pyproject.toml needs them"
    ]


def test_the_requirements_are_those_of_this_checkout() -> None:
    python, needed = requirements()
    assert python.startswith(">=3.")
    assert any(text.startswith("torch>=") for text in needed)
    assert not any(text.startswith("pytest") for text in needed)


@pytest.mark.parametrize(
    ("cuda", "usable", "visible", "level", "found"),
    [
        ("13.0", 8, Visible((ONE,)), "ok", "2.13.0, built for 13.0, uses 8 GPUs"),
        (None, 0, Visible(), "ok", "2.13.0, a build for CPUs, scores on CPUs"),
        (None, 0, Visible((ONE,)), "warning", "2.13.0, a build for CPUs, so the GPUs stay idle"),
        ("13.0", 0, Visible((ONE,)), "problem", "2.13.0, built for 13.0, cannot use the visible GPUs"),
    ],
)
def test_torch_is_compared_with_the_gpus(
    cuda: str | None, usable: int, visible: Visible, level: str, found: str
) -> None:
    finding = doctor.torch_build("2.13.0", cuda, usable, visible)
    assert (finding.level, finding.found) == (level, found)
    assert bool(finding.remedy) == (level != "ok")


def test_gpus_are_listed_with_free_memory_and_holders() -> None:
    busy = Device("GPU-b", "GPU-b", 80 * GB, "NVIDIA H100", 2 * GB)
    name = "GPU-a (NVIDIA H100, 80 GiB)"
    with lease([(ONE,)], "m/c/t", lambda _: None):
        [held, used] = doctor.devices(Visible((ONE, busy)))
    assert str(held).startswith(f"ok       {name}: 79 GiB free, leased by process ")
    assert str(held).endswith(" for m/c/t")
    assert used.level == "warning"
    assert used.found == "2 GiB free, used by a program without a lease"
    assert str(doctor.devices(Visible((ONE,)))[0]) == f"ok       {name}: 79 GiB free, not leased"
    assert of_level("warning", doctor.devices(Visible(problem="nvidia-smi failed: x"))) == [
        "warning  GPUs: nvidia-smi failed: x. Repair the driver; until then no GPU is leased."
    ]
    assert doctor.devices(Visible())[0].level == "ok"


def test_a_good_file_system_is_in_order_and_left_as_it_was(tmp_path: Path) -> None:
    found = doctor.file_system("store", tmp_path / "not/yet/there")
    assert [finding.level for finding in found[:3]] == ["ok"] * 3
    assert {finding.subject for finding in found} == {f"store ({tmp_path / 'not/yet/there'})"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flock", "level", "found"),
    [
        (OSError(errno.ENOLCK, "No locks available"), "problem", "locks (flock) fail: No locks available"),
        (None, "warning", "locks (flock) exclude nobody, so two jobs may do the same work"),
    ],
)
def test_a_file_system_without_locks(
    flock: OSError | None, level: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where locking fails, and where it succeeds without effect, which only a second process sees."""

    def no_lock(*_: Any) -> None:
        if flock:
            raise flock

    monkeypatch.setattr(fcntl, "flock", no_lock)
    locks = doctor.file_system("store", tmp_path)[0]
    assert (locks.level, locks.found) == (level, found)
    assert doctor.gpu_locks().level == "problem"  # two jobs would share a GPU


@pytest.mark.parametrize(
    ("seconds", "level"), [(0, "ok"), (30, "warning"), (600, "problem"), (-30, "warning"), (-600, "problem")]
)
def test_a_clock_that_differs(seconds: int, level: str, tmp_path: Path) -> None:
    found = doctor.file_system("store", tmp_path, clock=lambda: time.time() + seconds)[2]
    assert found.level == level
    if seconds:
        assert f"differs from this machine's by {abs(seconds)} s" in found.found


def test_a_file_system_that_cannot_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", no)
    found = doctor.file_system("store", tmp_path)[1]
    assert found.level == "problem"
    assert found.found == "a file cannot replace another (Operation not permitted)"


@pytest.mark.parametrize(("free", "level"), [(20 * GB, "ok"), (5 * GB, "warning"), (GB // 2, "problem")])
def test_little_space(free: int, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(100 * GB, 0, free))
    assert doctor.file_system("store", tmp_path)[3].level == level


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    [found] = doctor.file_system("store", Path("/proc/nothing"))
    assert found.level == "problem"
    assert found.found.startswith("cannot be written (")


def test_the_hub_may_be_out_of_reach() -> None:
    def offline(url: str, seconds: float) -> int:
        raise ConnectionError("Name or service not known.")

    assert str(doctor.hub("https://hub", offline)) == (
        "warning  hub: https://hub is not reachable (Name or service not known). "
        "Only `snakemake lock` and fetches need it."
    )
    assert doctor.hub("https://hub", lambda *_: 200).level == "ok"
    assert doctor.hub("https://hub", lambda *_: 503).level == "warning"


@pytest.mark.parametrize(
    ("commands", "plugin", "level"),
    [
        ((), False, "ok"),
        (doctor.SLURM, True, "ok"),
        (doctor.SLURM, False, "warning"),
        (("srun",), True, "warning"),
    ],
)
def test_slurm(commands: tuple[str, ...], plugin: bool, level: str) -> None:
    which: Callable[[str], str | None] = {command: "/usr/bin" for command in commands}.get
    assert doctor.slurm(which, has_plugin=plugin).level == level


@pytest.mark.parametrize(("broken", "status"), [(False, None), (True, 2)])
def test_the_verb_prints_a_line_per_check_and_ends_with_2_for_a_problem(
    broken: bool, status: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EBBTIDE_FAKE_GPUS", "GPU-a:8000")
    monkeypatch.setattr("ebbtide.cli.doctor._head", lambda *_: 200)
    monkeypatch.setattr(doctor, "LEAST_FREE", 0)
    (tmp_path / "study.yaml").write_text("study: [" if broken else "study: x\n")
    arguments = ["doctor", "study.yaml"] if broken else ["doctor"]
    if status is None:
        assert cli.main(arguments) == 0
    else:
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == status
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "warning", "problem") for line in lines[:-1])
    subjects = " ".join(line[9:] for line in lines)
    for subject in ("Python", "packages", "torch", "GPU-a", "GPU locks", "store (cells)", "results", "hub"):
        assert subject in subjects
    assert ("problem  study: ConfigError: study.yaml" in "\n".join(lines)) == broken
    assert lines[-1].startswith("1 problem") if broken else "problem" not in lines[-1]
