"""The GPUs of this machine that this process may use. A lean module: no torch.

They are those that `nvidia-smi` lists, restricted by `CUDA_VISIBLE_DEVICES` as CUDA does it: indices, UUIDs
or beginnings of UUIDs, of GPUs or of MIG slices. A scheduler such as Slurm sets the variable to the GPUs of
the job. `EBBTIDE_FAKE_GPUS=GPU-a:80000,GPU-b:80000` replaces the list by made-up devices, with their memory
in MB, to try the scheduling of GPUs without any.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from ebbtide.errors import ConfigError
from ebbtide.scoring.placement import gigabytes

VISIBLE = "CUDA_VISIBLE_DEVICES"
FAKE_GPUS = "EBBTIDE_FAKE_GPUS"
MB = 2**20  # bytes, as in nvidia-smi

_TIMEOUT = 60.0  # seconds; a GPU that has failed can block nvidia-smi
_FIELDS = ("index", "uuid", "name", "memory.total", "memory.free")


@dataclass(frozen=True)
class Device:
    """A GPU or a MIG slice of one.

    Attributes
    ----------
    uuid
        Names its lock.
    name
        Names it in `CUDA_VISIBLE_DEVICES`: as given there, else the UUID.
    memory
        Bytes; 0 if unknown.
    free
        Free bytes when it was listed; None if unknown.
    """

    uuid: str
    name: str
    memory: int
    model: str = "made up"
    free: int | None = None

    @property
    def is_slice(self) -> bool:
        """Whether it is a MIG slice. A process can use only one of them."""
        return self.uuid.startswith("MIG-")

    def __str__(self) -> str:
        return f"{self.uuid} ({self.model}, {gigabytes(self.memory)})"


@dataclass(frozen=True)
class Visible:
    """The visible devices, in the order of CUDA, and why there are none although a driver is installed."""

    devices: tuple[Device, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class _Gpu:
    """A GPU, and its slices if it is in MIG mode."""

    device: Device
    slices: tuple[Device, ...] = ()

    @property
    def units(self) -> tuple[Device, ...]:
        return self.slices or (self.device,)


def visible_devices(environment: Mapping[str, str] | None = None) -> Visible:
    """List the devices that this process may use.

    Raises `ConfigError` for made-up devices that are malformed.
    """
    environment = os.environ if environment is None else environment
    if are_fake(environment):
        gpus: tuple[_Gpu, ...] = parse_fake(environment[FAKE_GPUS])
    else:
        try:
            gpus = _installed(environment.get("PATH"))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            return Visible(problem=_reason(error))
    if VISIBLE not in environment:
        return Visible(tuple(unit for gpu in gpus for unit in gpu.units))
    return Visible(_select(gpus, environment[VISIBLE]))


def visible_only(devices: Sequence[Device]) -> dict[str, str]:
    """Return the environment variables of a process that sees these devices only."""
    # Indices in CUDA_VISIBLE_DEVICES mean the order of nvidia-smi, by which they were taken for devices here.
    return {VISIBLE: ",".join(device.name for device in devices), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def are_fake(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the devices are made up."""
    return bool((os.environ if environment is None else environment).get(FAKE_GPUS))


def parse_fake(text: str) -> tuple[_Gpu, ...]:
    """Read the made-up devices, `UUID:MB,UUID:MB`."""
    found = [re.fullmatch(r"((?:GPU|MIG)-[\w-]+):(\d+)", item.strip()) for item in text.split(",")]
    rows = [(match[1], int(match[2])) for match in found if match]
    if len(rows) != len(found) or len({uuid for uuid, _ in rows}) != len(rows):
        raise ConfigError(
            f"{FAKE_GPUS}: found {text!r}, allowed: distinct devices with their memory in MB, such as "
            "GPU-a:80000,GPU-b:80000."
        )
    return tuple(_Gpu(Device(uuid, uuid, memory * MB, free=memory * MB)) for uuid, memory in rows)


def parse_listing(table: str, tree: str) -> tuple[_Gpu, ...]:
    """Read the output of nvidia-smi: the table of GPUs, and the tree (`-L`) that also lists MIG slices.

    Raises `ValueError` for anything else.
    """
    slices: dict[str, list[Device]] = {}
    parent = ""
    for line in tree.splitlines():
        if not (found := re.search(r"\(UUID:\s*([^)\s]+)\)", line)):
            continue
        uuid = found[1]
        if not line.lstrip().startswith("MIG"):
            parent = uuid
            continue
        profile = line.split("Device")[0].strip()  # such as `MIG 1g.10gb`
        size = re.search(r"(\d+)gb", profile)
        memory = int(size[1]) * 2**30 if size else 0
        slices.setdefault(parent, []).append(Device(uuid, uuid, memory, profile))
    gpus = []
    for line in table.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != len(_FIELDS):
            raise ValueError(line)
        _, uuid, model, total, free = fields
        memory = int(total) * MB if total.isdecimal() else 0
        left = int(free) * MB if free.isdecimal() else None
        gpus.append(_Gpu(Device(uuid, uuid, memory, model, left), tuple(slices.get(uuid, []))))
    return tuple(gpus)


def _installed(path: str | None) -> tuple[_Gpu, ...]:
    command = shutil.which("nvidia-smi", path=path)
    return _listed(command) if command else ()


@cache
def _listed(command: str) -> tuple[_Gpu, ...]:
    query = [f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    return parse_listing(_output(command, *query), _output(command, "-L"))


def _output(*command: str) -> str:
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_TIMEOUT
    )
    return done.stdout


def _reason(error: Exception) -> str:
    said = error.stdout if isinstance(error, subprocess.CalledProcessError) else None
    lines = str(said or "").strip().splitlines()
    return f"nvidia-smi failed: {lines[0] if lines else error}".rstrip(".")


def _select(gpus: Sequence[_Gpu], text: str) -> tuple[Device, ...]:
    """The devices that `CUDA_VISIBLE_DEVICES` names, in its order, up to the first that does not exist."""
    chosen: list[Device] = []
    for token in filter(None, (part.strip() for part in text.split(","))):
        device = _named(gpus, token)
        if device is None or device.uuid in {other.uuid for other in chosen}:
            break
        chosen.append(replace(device, name=token))
    return tuple(chosen)


def _named(gpus: Sequence[_Gpu], token: str) -> Device | None:
    """The device of an index or of a beginning of a UUID. A GPU in MIG mode is its first slice."""
    if token.isdecimal():
        places = {str(place): gpu.units[0] for place, gpu in enumerate(gpus)}
        return places.get(token.lstrip("0") or "0")  # as text: int() refuses thousands of digits
    found = [unit for gpu in gpus for unit in gpu.slices if unit.uuid.startswith(token)]
    found += [gpu.units[0] for gpu in gpus if gpu.device.uuid.startswith(token)]
    return found[0] if len(found) == 1 else None
