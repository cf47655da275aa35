"""How many GPUs a scoring job needs, and when it takes none."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from ebbtide.errors import ScoringError
from ebbtide.jobs.devices import Device
from ebbtide.jobs.gpu_jobs import leased, no_window, windows
from ebbtide.jobs.leases import Lease
from ebbtide.scoring.scorer import backend_of
from gpus import devices, fake_gpus, nvidia_smi

GB = 2**30


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EBBTIDE_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "locks"


def places(found: list[tuple[Device, ...]]) -> list[str]:
    return ["".join(device.uuid.removeprefix("GPU-") for device in window) for window in found]


@pytest.mark.parametrize(
    ("weights", "most", "expected"),
    [
        (0, None, ["0", "1", "2", "3"]),
        (9, None, ["0", "1", "2", "3"]),  # of 10 GiB
        (10, None, ["01", "23", "12"]),  # pairs that leave a pair come first
        (19, None, ["012", "123"]),
        (36, None, ["0123"]),
        (37, None, []),
        (10, 1, []),
        (9, 1, ["0", "1", "2", "3"]),
        (9, 0, []),
    ],
)
def test_the_fewest_adjacent_devices_that_hold_the_weights(
    weights: int, most: int | None, expected: list[str]
) -> None:
    assert places(windows(devices(4, 10 * 1024), weights * GB, most)) == expected


def test_devices_that_are_too_small_are_left_out() -> None:
    small, large = devices(2, 10 * 1024)
    large = replace(large, memory=80 * GB)
    assert windows([small, large], 20 * GB) == [(large,)]
    assert windows([small, replace(large, memory=0)], 20 * GB) == [(replace(large, memory=0),)]  # unknown


def test_slices_are_never_joined() -> None:
    first, second = (Device(f"MIG-{i}", f"MIG-{i}", 10 * GB) for i in range(2))
    assert windows([first, second], 10 * GB) == []
    assert windows([first, second], 9 * GB) == [(first,), (second,)]
    assert windows([first, second], 10 * GB, offload=True) == [(first,), (second,)]


@pytest.mark.parametrize(
    ("sizes", "weights", "most", "sentence"),
    [
        ([10, 80], 75, 1, "80 GiB of the GPUs that scoring.gpus allows; found 1 GPU, needed: 2 of 80 GiB"),
        ([10, 80], 85, 2, "90 GiB of the visible GPUs; found 2 GPUs (10 GiB, 80 GiB), needed: 2 of 80 GiB"),
        ([40, 10, 80, 80], 154, 3, "found 3 GPUs (10 GiB, 80 GiB, 80 GiB), needed: 3 of 80 GiB"),
        ([24, 24], 60, None, "48 GiB of the visible GPUs; found 2 GPUs, needed: 3 of 24 GiB"),
    ],
)
def test_the_message_counts_the_largest_gpus_that_a_model_may_take(
    sizes: list[int], weights: int, most: int | None, sentence: str
) -> None:
    found = [replace(d, memory=n * GB) for d, n in zip(devices(len(sizes)), sizes, strict=True)]
    assert not windows(found, weights * GB, most)
    assert sentence in str(no_window("m/c", weights * GB, "float32", found, most))


def test_the_message_names_a_slice_only_where_it_is_the_largest() -> None:
    a_slice, gpu = Device("MIG-0", "MIG-0", 10 * GB), devices(1, 40 * 1024)[0]
    assert "40 GiB of the visible GPUs; found 1 GPU, needed" in str(
        no_window("m/c", 50 * GB, "float32", [a_slice, gpu], None)
    )
    assert "the largest visible MIG slice (10 GiB)" in str(
        no_window("m/c", 50 * GB, "float32", [a_slice, replace(gpu, memory=5 * GB)], None)
    )


def test_with_offload_a_large_model_takes_all_that_it_may() -> None:
    assert places(windows(devices(4, 10 * 1024), 99 * GB, offload=True)) == ["0123"]
    assert places(windows(devices(4, 10 * 1024), 99 * GB, 2, offload=True)) == ["01", "23", "12"]


def take(
    checkpoint: Path, identity: Mapping[str, Any] | None = None, **limits: Any
) -> tuple[Lease, list[str]]:
    said: list[str] = []
    of = identity or tiny.identity()
    place = str(checkpoint / "config.json")
    with leased(place, of["dtype"], backend_of(of), "m/c/t", said.append, **limits) as found:
        return found, said


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny.hollow_checkpoint(tmp_path / "checkpoint")


def test_a_job_leases_the_gpus_that_its_weights_need(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ebbtide.jobs import gpu_jobs

    monkeypatch.setenv("EBBTIDE_FAKE_GPUS", fake_gpus(4, 1024))
    assert [d.uuid for d in take(checkpoint)[0].devices] == ["GPU-0"]
    monkeypatch.setattr(
        gpu_jobs, "weight_bytes", lambda files, dtype: {"float32": 2, "float64": 4}[dtype] * GB
    )
    found, said = take(checkpoint, tiny.identity(dtype="float32"))
    assert found.environment["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1,GPU-2"
    assert said == [f"leased {' and '.join(f'GPU-{i} (made up, 1 GiB)' for i in range(3))}"]

    with pytest.raises(
        ScoringError,
        match=r"checkpoint: the weights take 4 GiB in float64, more than 90% of the 4 GiB of the visible "
        r"GPUs; found 4 GPUs, needed: 5 of 1 GiB\. .* or set scoring\.offload: true",
    ):
        take(checkpoint, tiny.identity(dtype="float64"))
    with pytest.raises(ScoringError, match=r"of the GPUs that scoring\.gpus allows; found 2 GPUs, needed: 3"):
        take(checkpoint, most=2)
    assert len(take(checkpoint, most=2, offload=True)[0].devices) == 2

    monkeypatch.setenv("EBBTIDE_FAKE_GPUS", "MIG-a:1024,MIG-b:2048")
    with pytest.raises(
        ScoringError, match=r"largest visible MIG slice \(2 GiB\), and a process can use only one"
    ):
        take(checkpoint, tiny.identity(dtype="float64"))


def test_weights_that_cannot_be_read_take_one_gpu_and_fail_in_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EBBTIDE_FAKE_GPUS", fake_gpus(2))
    assert len(take(tmp_path / "nothing")[0].devices) == 1


def test_work_on_cpus_takes_no_lease(
    checkpoint: Path, tmp_path: Path, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ["0, GPU-a, NVIDIA H100, 81559, 81000"]
    monkeypatch.setenv("PATH", nvidia_smi(tmp_path / "bin", table, ["GPU 0: NVIDIA H100 (UUID: GPU-a)"]))
    assert take(checkpoint, tiny.identity(backend="fake")) == (Lease(), [])
    hidden, said = take(checkpoint, most=0)
    assert (hidden.environment["CUDA_VISIBLE_DEVICES"], hidden.devices, said) == ("", (), [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert take(checkpoint) == (Lease(), [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert not locks.exists()
    assert take(checkpoint)[0].environment["CUDA_VISIBLE_DEVICES"] == "GPU-a"


def test_a_driver_that_fails_is_said(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Unable to determine the device handle"
    monkeypatch.setenv("PATH", nvidia_smi(tmp_path / "bin", [said], status=9))
    assert take(checkpoint) == (Lease(), [f"no GPU is leased: nvidia-smi failed: {said}"])
