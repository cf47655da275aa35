"""State dictionaries that torch.save wrote: one file, or the files of one directory.

Nested dictionaries are joined with dots, so nanoGPT's `{"model": {"transformer.wte.weight": …}}` has the name
`model.transformer.wte.weight`. Names and shapes are read without torch (see `pickles`); values are memory-
mapped, and loaded with `weights_only=True`.
"""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.formats.pickles import MOST_BYTES, Described, describe
from ebbtide.checkpoints.formats.source import Stored
from ebbtide.checkpoints.header import check_content
from ebbtide.errors import CheckpointError, type_and_reason
from ebbtide.notices import listed

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
_ALLOWED = ("torch.",)
_DEEPEST = 64  # nested dictionaries
# Of a file, with containers, each as often as it occurs: a few bytes of a pickle can repeat one without end.
_MOST_VALUES = 1 << 22
_REMEDY = "save the dictionary of the model's tensors alone"
_NOT_WEIGHTS = ("optimizer", "optim", "rng_state", "scheduler", "training_args", "scaler")
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


class StateDictionary:
    """The tensors of a file, or of all files of a directory but those of an optimizer; see `source.Source`.

    If two files of a directory have a name in common, as parts of tensor parallelism have, all names begin
    with that of their file without suffix and a slash: `mp_rank_00/word_embeddings.weight`.

    Raises `CheckpointError` for a file that torch.save did not write, or that contains other objects than
    tensors and plain values.
    """

    remark = ""

    def __init__(self, path: Path) -> None:
        self._paths = _files(path)
        self._contents = {one: _described(one) for one in self._paths}
        found = {one: dict(_tensors(content, one)) for one, content in self._contents.items()}
        names = [name for tensors in found.values() for name in tensors]
        with_file = len(set(names)) < len(names)
        self._places = {
            (f"{one.stem}/{name}" if with_file else name): (one, name)
            for one, tensors in found.items()
            for name in tensors
        }
        if not self._places:
            raise CheckpointError(f"{path} contains no tensors.", "no_weights")
        stored = {full: found[one][name] for full, (one, name) in self._places.items()}
        self.shapes = {name: one.shape for name, one in stored.items()}
        self.dtypes = {name: one.dtype for name, one in stored.items()}

    @property
    def files(self) -> Sequence[Path]:
        """The files that were found."""
        return self._paths

    @cached_property
    def config(self) -> Mapping[str, Any] | None:
        """The configuration of a GPT-2, if the file has the `model_args` of nanoGPT."""
        for content in self._contents.values():
            arguments = content.get("model_args") if isinstance(content, dict) else None
            if isinstance(arguments, dict) and _NANOGPT <= arguments.keys() <= _NANOGPT | _NANOGPT_MORE:
                return _gpt2(arguments)
        return None

    def read(self, name: str) -> "Tensor":
        """Return a tensor; its values are read from the file when they are used."""
        path, own = self._places[name]
        return self._loaded[path][own]

    @cached_property
    def _loaded(self) -> dict[Path, dict[str, "Tensor"]]:
        import torch

        found = {}
        for path in self._paths:
            try:
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except Exception as error:  # torch raises many types
                raise CheckpointError(
                    f"{path} cannot be loaded with weights_only=True ({type_and_reason(error)}); save a "
                    "dictionary of tensors and plain values."
                ) from error
            found[path] = {
                name: value.detach()
                for name, value in _flat(content, path)
                if isinstance(value, torch.Tensor)
            }
        return found


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CheckpointError(f"{path} is neither a file nor a directory.", "no_weights")
    found = sorted(
        one
        for one in path.iterdir()
        if one.suffix in SUFFIXES and one.is_file() and not one.name.startswith(_NOT_WEIGHTS)
    )
    if not found:
        names = listed(sorted(one.name for one in path.iterdir()), 12) or "nothing"
        other = "; for a distributed checkpoint, set format: dcp" if (path / ".metadata").exists() else ""
        raise CheckpointError(
            f"{path} has no file with the suffix {', '.join(SUFFIXES)} (found: {names}){other}.", "no_weights"
        )
    return found


def _described(path: Path) -> Any:
    """What the file contains, with descriptions of tensors in their places."""
    check_content(path)
    try:
        with zipfile.ZipFile(path) as archive:
            [name] = [one for one in archive.namelist() if one.count("/") == 1 and one.endswith("/data.pkl")]
            if archive.getinfo(name).file_size > MOST_BYTES:
                raise CheckpointError(f"{path} has a pickle of more than {MOST_BYTES:,} bytes.")
            data = archive.read(name)
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is not a complete file of torch.save ({type_and_reason(error)}); copy it again, or save "
            "it again with torch 1.6 or later."
        ) from error
    return describe(data, path, _ALLOWED)


def _tensors(content: Any, path: Path) -> Iterator[tuple[str, Stored]]:
    for name, value in _flat(content, path):
        if isinstance(value, Described) and (found := _stored(value)) is not None:
            yield name, found


def _flat(content: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested dictionaries and lists with their keys, joined with dots."""
    if not isinstance(content, dict | list | tuple):
        content = {"value": content}
    visited = count(1)

    def below(content: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
        if depth > _DEEPEST:
            raise CheckpointError(f"{path} has values nested more than {_DEEPEST} deep; {_REMEDY}.")
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            if next(visited) > _MOST_VALUES:
                raise CheckpointError(f"{path} has more than {_MOST_VALUES:,} values; {_REMEDY}.")
            if isinstance(value, dict | list | tuple):
                yield from below(value, f"{prefix}{key}.", depth + 1)
            else:
                yield f"{prefix}{key}", value

    yield from below(content, "", 0)


def _stored(value: Described) -> Stored | None:
    """Shape and precision of a described tensor; None for another object."""
    function = value.name.rpartition(".")[2]
    if function in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
        return _stored(value.arguments[0]) if isinstance(value.arguments[0], Described) else None
    if not function.startswith("_rebuild"):
        return None
    try:
        storage, _, size = value.arguments[:3]
        kind = str(storage[1].full).rpartition(".")[2]
        if function == "_rebuild_tensor_v3":  # (…, dtype, metadata): precisions without a class of storages
            kind = str(value.arguments[6].full).rpartition(".")[2]
        return Stored(tuple(map(int, size)), _STORAGES.get(kind, kind))
    except (ValueError, TypeError, AttributeError, IndexError):
        return Stored((), function)  # sparse, quantised or nested: a precision that cannot be converted


_NANOGPT = {"n_layer", "n_head", "n_embd", "block_size", "vocab_size"}
_NANOGPT_MORE = {"bias", "dropout"}  # forks have further arguments, which change the architecture


def _gpt2(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of transformers for the arguments of a nanoGPT model, which has the exact GELU."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu",
        "n_layer": arguments["n_layer"],
        "n_head": arguments["n_head"],
        "n_embd": arguments["n_embd"],
        "n_positions": arguments["block_size"],
        "vocab_size": arguments["vocab_size"],
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    }
