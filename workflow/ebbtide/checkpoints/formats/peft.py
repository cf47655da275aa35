"""PEFT adapters as a source of whole checkpoints: the tensors of the base, with the adapter merged in.

An adapter is a directory with `adapter_config.json` and `adapter_model.safetensors` (or `.bin`). A tensor is
merged when it is read, in float32 (float64 if the base has it), as PEFT's `merge_and_unload` does. One case
differs from it on purpose: if the adapter changes the embedding or the output matrix of a base that has one
matrix for both, the merged checkpoint has two. That is the model that was trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.configuration import configuration
from ebbtide.checkpoints.formats.lora import Lora, merged, read_lora
from ebbtide.checkpoints.formats.peft_plan import Edit, Pair, plan
from ebbtide.checkpoints.header import BUFFERS, Stored, check_content, read_header
from ebbtide.checkpoints.hub.pickled import load_tensors
from ebbtide.checkpoints.precision import NAMED_IN_CONFIG
from ebbtide.checkpoints.weight_files import ADAPTER, INDEX, assigned_files, read_headers, weight_files
from ebbtide.errors import CheckpointError
from ebbtide.files import MOST_JSON_BYTES, read_json
from ebbtide.notices import counted

if TYPE_CHECKING:
    from torch import Tensor

_SAFETENSORS, _PICKLED = "adapter_model.safetensors", "adapter_model.bin"  # the first is read if both exist
# Precision in the base → precision here. Whole tensors of the adapter have that of the base's.
_WIDENED = {"F64": "float64", "F32": "float32", "BF16": "float32", "F16": "float32"}
_FACTORS = ("a", "b", "magnitude")


class PeftSource:
    """The merged checkpoint of an adapter and its base.

    Attributes
    ----------
    base
        The directory of the base.
    shapes
        Shape of each merged tensor, by its name in the base.
    dtypes
        Precision of each: float32, or float64 if the base has it.
    files
        The files of the adapter and of the base that determine the tensors.
    config
        The configuration of the base, with what the adapter changes in it.
    """

    def __init__(self, adapter: Path, base: Path) -> None:
        """Read the settings and headers of both; no weights, but for a pickled adapter.

        Raises `CheckpointError` for an adapter that cannot be merged, or does not belong to the base.
        """
        self.base = base
        self._lora, self._adapter = _settings(adapter), _Adapter(_weights_of(adapter))
        self._files = _files_of_tensors(base)
        config = configuration(base)
        if config.get("quantization_config"):
            raise CheckpointError(
                f"{base}/config.json: found quantization_config; an adapter can be merged into the weights "
                "before quantisation only. Set `base:` to them."
            )
        stored = {name: tensor.shape for name, (_, tensor) in self._files.items()}
        where = str(self._adapter.path)
        self._plan = plan(Pair(self._lora, self._adapter.shapes, stored, config, where))
        weights = weight_files(base)
        index = [base / INDEX] if len(weights) > 1 else []
        self.files: Sequence[Path] = (
            *(adapter / ADAPTER, self._adapter.path),
            *(base / "config.json", *index, *weights),
        )
        self.shapes: Mapping[str, tuple[int, ...]] = self._plan.shapes
        sources = {
            name: self._plan.edits[name].base if name in self._plan.edits else name for name in self.shapes
        }
        self.dtypes: Mapping[str, str] = {
            name: _WIDENED.get(self._files[base][1].dtype, self._files[base][1].dtype)
            for name, base in sources.items()
        }

    @property
    def config(self) -> dict[str, Any]:
        """A Hugging Face configuration of the merged checkpoint."""
        config = {key: value for key, value in self._plan.config.items() if key not in NAMED_IN_CONFIG}
        return config | {"dtype": max(self.dtypes.values(), default="float32")}  # float64 if any has it

    @property
    def remark(self) -> str:
        """What was merged, in words."""
        untied = len(self.shapes) > len(self._files)
        words = f"{counted(self._plan.edits, 'tensor')} changed by the adapter of {self.base}"
        return words + (", the output matrix is a tensor of its own" if untied else "")

    def read(self, name: str) -> "Tensor":
        """A merged tensor, on the CPU. Raises `CheckpointError` for non-finite values."""
        import torch

        edit = self._plan.edits.get(name, Edit(name, "", transposed=False))
        replaced, copy = edit.keys.get("replaced"), edit.keys.get("copy")
        if replaced and copy and not torch.equal(self._adapter.read(replaced), self._adapter.read(copy)):
            raise CheckpointError(
                f"{self._adapter.path}: {replaced} and {copy} differ; save the adapter again."
            )
        value = _widened(self._stored(edit.base) if replaced is None else self._adapter.read(replaced))
        if edit.keys.keys() & _FACTORS:
            value = _merged(value, edit, self._adapter, self._lora)
        if "added" in edit.keys:
            value = value + self._adapter.read(edit.keys["added"]).float() * self._lora.scale_of(edit.module)
        if "rows" in edit.keys:
            rows = self._adapter.read(edit.keys["rows"]).to(value.dtype)
            value = value.index_copy(0, torch.tensor(self._lora.rows_of(edit.module)), rows)
        if edit.keys and not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{self._adapter.path}: tensor {name} has non-finite values once it is merged."
            )
        return value.contiguous()

    def _stored(self, name: str) -> "Tensor":
        """A tensor of the base in its precision."""
        return _read_safetensors(self._files[name][0], name)


class _Adapter:
    """The tensors of an adapter file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded = None if path.name == _SAFETENSORS else load_tensors(path)
        if self._loaded is None:
            found = {tensor.name: tensor.shape for tensor in read_header(path).tensors}
        else:
            found = {name: tuple(tensor.shape) for name, tensor in self._loaded.items()}
        self.shapes: Mapping[str, tuple[int, ...]] = found
        if not found:
            raise CheckpointError(f"{path} contains no tensors; save the adapter again.", "no_weights")

    def read(self, key: str) -> "Tensor":
        return _read_safetensors(self.path, key) if self._loaded is None else self._loaded[key]


def _settings(adapter: Path) -> Lora:
    path = adapter / ADAPTER
    if not path.exists():
        raise CheckpointError(f"{adapter} has no {ADAPTER}; expected a PEFT adapter.", "no_weights")
    check_content(path, MOST_JSON_BYTES)
    return read_lora(read_json(path, CheckpointError), path)


def _weights_of(adapter: Path) -> Path:
    for name in (_SAFETENSORS, _PICKLED):
        if (adapter / name).exists():
            check_content(adapter / name)
            return adapter / name
    raise CheckpointError(f"{adapter} has neither {_SAFETENSORS} nor {_PICKLED}.", "no_weights")


def base_of(adapter: Path, given: str | None, where: str) -> Path:
    """The directory of the base: `given`, which is the key `where`, or the one that the adapter names.

    Raises `CheckpointError` if neither is a directory: no base is fetched, because its name says no revision.
    """
    named = read_json(adapter / ADAPTER, CheckpointError).get("base_model_name_or_path")
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_dir():
            raise CheckpointError(f"{where}: found {given!r}, which is not a directory.", "no_weights")
        return path
    if isinstance(named, str) and named and Path(named).is_dir():
        return Path(named)
    raise CheckpointError(
        f"{where}: missing, and {adapter / ADAPTER} names the base {named!r}, which is not a directory here. "
        "Set it to the directory of the model that was adapted.",
        "no_weights",
    )


def _files_of_tensors(base: Path) -> dict[str, tuple[Path, Stored]]:
    """The file of each tensor of the base, and its place there; buffers such as masks are left out."""
    assigned = assigned_files(base)
    return {
        tensor.name: (path, tensor)
        for path, header in read_headers(weight_files(base)).items()
        for tensor in header.tensors
        if assigned.get(tensor.name, path.name) == path.name and not BUFFERS.search(tensor.name)
    }


def _read_safetensors(path: Path, name: str) -> "Tensor":
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensor: Tensor = file.get_tensor(name)
    return tensor


def _widened(tensor: "Tensor") -> "Tensor":
    """A tensor of numbers in float32, or in float64 if it is saved in it; others as they are."""
    import torch

    return tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


def _merged(value: "Tensor", edit: Edit, adapter: _Adapter, lora: Lora) -> "Tensor":
    parts = {kind: adapter.read(edit.keys[kind]).float() for kind in _FACTORS if kind in edit.keys}
    return merged(
        value,
        parts["a"],
        parts["b"],
        lora.scale_of(edit.module),
        transposed=edit.transposed,
        magnitude=parts.get("magnitude"),
    )
