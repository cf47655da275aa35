"""Which GPUs a job may use: what the driver lists, as CUDA_VISIBLE_DEVICES restricts it."""

import subprocess
import sys
from pathlib import Path

import pytest

from ebbtide.errors import ConfigError
from ebbtide.jobs.devices import MB, visible_devices
from gpus import nvidia_smi

TABLE = ["0, GPU-aaaa-1, NVIDIA H100, 81559, 81000", "1, GPU-aabb-2, NVIDIA H100, 81559, 100"]
TREE = ["GPU 0: NVIDIA H100 (UUID: GPU-aaaa-1)", "GPU 1: NVIDIA H100 (UUID: GPU-aabb-2)"]
SLICED = [
    "GPU 0: NVIDIA H100 (UUID: GPU-aaaa-1)",
    "  MIG 1g.10gb     Device  0: (UUID: MIG-c7384736-a75d)",
    "  MIG 3g.40gb     Device  1: (UUID: MIG-d2f12944-09fd)",
    "GPU 1: NVIDIA H100 (UUID: GPU-aabb-2)",
]


def seen(visible: str | None, fake: str = "GPU-aaaa:80000,GPU-aabb:40000,GPU-b:80000") -> list[list[str]]:
    """UUID and name of the visible devices among made-up ones."""
    environment = {"EBBTIDE_FAKE_GPUS": fake}
    environment |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return [[device.uuid, device.name] for device in visible_devices(environment).devices]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [["GPU-aaaa", "GPU-aaaa"], ["GPU-aabb", "GPU-aabb"], ["GPU-b", "GPU-b"]]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2, 0", [["GPU-b", "2"], ["GPU-aaaa", "0"]]),
        ("GPU-b,GPU-aab", [["GPU-b", "GPU-b"], ["GPU-aabb", "GPU-aab"]]),
        ("1,7,0", [["GPU-aabb", "1"]]),  # as CUDA does, what follows an unknown device is not visible
        ("GPU-aa", []),  # of two devices
        ("1,GPU-aabb,0", [["GPU-aabb", "1"]]),  # twice the same
        ("01," + "1" * 5000, [["GPU-aabb", "01"]]),
    ],
)
def test_the_variable_of_cuda_restricts_and_names_the_devices(
    visible: str | None, expected: list[list[str]]
) -> None:
    assert seen(visible) == expected


def test_the_driver_s_list_is_read(tmp_path: Path) -> None:
    found = visible_devices({"PATH": nvidia_smi(tmp_path, TABLE, TREE)})
    assert found.problem == ""
    assert [(d.uuid, d.name, d.memory, d.free, d.is_slice) for d in found.devices] == [
        ("GPU-aaaa-1", "GPU-aaaa-1", 81559 * MB, 81000 * MB, False),
        ("GPU-aabb-2", "GPU-aabb-2", 81559 * MB, 100 * MB, False),
    ]
    assert str(found.devices[0]) == "GPU-aaaa-1 (NVIDIA H100, 79.6 GiB)"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["MIG-c7384736-a75d", "MIG-d2f12944-09fd", "GPU-aabb-2"]),
        ("MIG-d2f12944-09fd", ["MIG-d2f12944-09fd"]),
        ("0", ["MIG-c7384736-a75d"]),  # CUDA takes the first slice
        ("1", ["GPU-aabb-2"]),
    ],
)
def test_slices_take_the_place_of_their_gpu(visible: str | None, expected: list[str], tmp_path: Path) -> None:
    environment = {"PATH": nvidia_smi(tmp_path, TABLE, SLICED)}
    environment |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = visible_devices(environment).devices
    assert [device.uuid for device in found] == expected
    assert {d.uuid: d.memory for d in found if d.is_slice}.items() <= {
        "MIG-c7384736-a75d": 10 * 2**30,
        "MIG-d2f12944-09fd": 40 * 2**30,
    }.items()


@pytest.mark.parametrize(
    ("table", "status", "problem"),
    [
        (["Failed to initialize NVML: Driver/library version mismatch"], 18, "Failed to initialize NVML: "),
        (["No devices were found"], 0, "No devices were found"),
    ],
)
def test_a_driver_that_fails_is_a_problem_and_no_device(
    table: list[str], status: int, problem: str, tmp_path: Path
) -> None:
    found = visible_devices({"PATH": nvidia_smi(tmp_path, table, status=status)})
    assert found.devices == ()
    assert found.problem.startswith(f"nvidia-smi failed: {problem}")


def test_without_a_driver_there_are_no_devices_and_no_problem(tmp_path: Path) -> None:
    assert visible_devices({"PATH": str(tmp_path)}) == visible_devices({"EBBTIDE_FAKE_GPUS": "", "PATH": ""})
    assert visible_devices({"PATH": str(tmp_path)}).problem == ""


@pytest.mark.parametrize("text", ["GPU-a", "GPU-a:80000,", "GPU-a:x", "a:1", "GPU-a:1,GPU-a:2"])
def test_made_up_devices_are_checked(text: str) -> None:
    with pytest.raises(ConfigError, match=r"EBBTIDE_FAKE_GPUS: found .*, allowed: distinct devices"):
        seen(None, text)


def test_devices_are_found_without_torch() -> None:
    program = "import sys, ebbtide.jobs.gpu_plan, ebbtide.jobs.gpu_jobs; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
