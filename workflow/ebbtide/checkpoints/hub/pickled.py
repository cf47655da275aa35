"""Convert PyTorch's pickled weights (`pytorch_model*.bin`) to safetensors without running pickled code.

`torch.load(weights_only=True)` loads only tensors and containers. Only dicts of plain tensors are accepted.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.hub.lock import INDICES, weight_map
from ebbtide.errors import CheckpointError, StorageError, first_line
from ebbtide.files import atomic, read_json, write_text

if TYPE_CHECKING:
    from torch import Tensor

_SOURCE = "source"  # metadata key of a converted file: the digest of its pickled file
_ZIP = b"PK\x03\x04"
_NAMED = re.compile(r"GLOBAL ([\w.]+)")  # in the unpickler's message: the function it would have called


def safetensors_name(name: str) -> str:
    """File name after conversion: `pytorch_model-….bin` → `model-….safetensors`."""
    return name.removeprefix("pytorch_").removesuffix(".bin") + ".safetensors"


def convert(path: Path, digest: str) -> Path:
    """Replace a pickled file with a safetensors file of bit-identical tensors, and return its path.

    The new file records `digest`, that of the pickled file (see `converted_from`).

    Raises `CheckpointError` for a damaged file or one with more than tensors, `StorageError` for a full disk.
    """
    target = path.with_name(safetensors_name(path.name))
    _write(load_tensors(path), target, digest)
    path.unlink()
    return target


def convert_index(directory: str | Path) -> None:
    """Replace the index of pickled files, if there is one, with the index of the safetensors files."""
    path = Path(directory) / INDICES["bin"]
    if not path.exists():
        return
    files = {tensor: safetensors_name(name) for tensor, name in weight_map(path).items()}
    index = {**read_json(path, CheckpointError), "weight_map": files}
    write_text(json.dumps(index, indent=1) + "\n", path.with_name(INDICES["safetensors"]))
    path.unlink()


def converted_from(path: str | Path) -> str | None:
    """Digest of the pickled file from which `convert` made this file; None for any other file."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:  # compares the header with the file's length
            return (file.metadata() or {}).get(_SOURCE)
    except Exception:  # SafetensorError derives from Exception alone
        return None


def load_tensors(path: Path) -> "dict[str, Tensor]":
    """Load the tensors of a pickled file by name, without shared memory between them.

    Raises `CheckpointError` for a damaged file or one with more than tensors.
    """
    import torch

    with path.open("rb") as file:
        mapped = file.read(len(_ZIP)) == _ZIP  # files of PyTorch before 1.6 cannot be memory-mapped
    try:
        loaded: Any = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except pickle.UnpicklingError as error:
        named = _NAMED.search(str(error))
        what = f" (it refers to {named[1]})" if named else ""
        raise CheckpointError(
            f"{path} contains more than tensors{what} and was not loaded; use the safetensors format."
        ) from None
    except (RuntimeError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is not a complete PyTorch file ({first_line(error)}); fetch it again."
        ) from None
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{path} contains a value of type {_kind(loaded)}; expected a dict of tensors.")
    nested = [name for name, value in loaded.items() if isinstance(value, Mapping)]
    if nested:
        raise CheckpointError(
            f"{path} has nested values at {nested[0]!r}, like a training state; expected a dict of tensors."
        )
    for name, value in loaded.items():
        if not isinstance(name, str) or not _is_plain(value):
            raise CheckpointError(
                f"{path} has a value of type {_kind(value)} under {name!r}; expected a dict of tensors."
            )
    tensors: dict[str, Tensor] = {}
    addresses: set[int] = set()
    for name, value in loaded.items():
        tensor = value.detach().contiguous()
        address = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if address in addresses else tensor
        addresses.add(address)
    return tensors


def _is_plain(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized


def _write(tensors: "dict[str, Tensor]", target: Path, source: str) -> None:
    from safetensors.torch import save_file

    try:
        with atomic(target) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt", _SOURCE: source})
    except (OSError, StorageError):
        raise
    except Exception as error:  # SafetensorError derives from Exception alone
        raise CheckpointError(f"{target} cannot be written: {first_line(error)}.") from error


def _kind(value: object) -> str:
    return type(value).__name__
