"""GGUF files of llama.cpp as a source of tensors.

Tensors in float32, float16 and bfloat16 are read as they are stored, quantised ones as the float32 values
that they stand for. The package `gguf` knows the types of quantisation; it is needed for planning too.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.formats.gguf_config import configuration_of
from ebbtide.checkpoints.formats.gguf_header import Stored, read_gguf_header, read_texts
from ebbtide.checkpoints.formats.source import not_converted
from ebbtide.checkpoints.weight_files import MOST_TOKENIZER_BYTES
from ebbtide.errors import CheckpointError
from ebbtide.files import read_json

if TYPE_CHECKING:
    from torch import Tensor

_PLAIN = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ORDINARY = 1  # type of a token that is not special, added, unused or a byte
_NUMBERS = ("I8", "I16", "I32", "I64")  # not weights


class GgufFile:
    """The tensors of one GGUF file, in llama.cpp's names.

    Attributes
    ----------
    shapes
        Shape of each tensor by name, with the axes in the order of PyTorch.
    dtypes
        Precision of what `read` returns by name; float32 for quantised tensors.
    files
        The file.
    """

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises `CheckpointError` for a file that is not GGUF, truncated, or not a whole model.
        """
        self._path = path
        header = read_gguf_header(path)
        _check_whole_model(header.metadata, path)
        self._metadata, self._vocabulary = header.metadata, header.texts.get("tokenizer.ggml.tokens")
        self._tensors = {tensor.name: tensor for tensor in header.tensors}
        self._types = _types(header.tensors, path)
        self.files: Sequence[Path] = (path,)
        self.shapes: Mapping[str, tuple[int, ...]] = {name: one.shape for name, one in self._tensors.items()}
        self.dtypes: Mapping[str, str] = {name: _dtype(kind) for name, kind in self._types.items()}

    @property
    def config(self) -> dict[str, Any]:
        """A Hugging Face configuration. Raises `CheckpointError` if the metadata do not determine one."""
        factors = self.read("rope_freqs.weight").tolist() if "rope_freqs.weight" in self.shapes else None
        return configuration_of(self._metadata, self.shapes, factors, str(self._path))

    @property
    def remark(self) -> str:
        """What was dequantised, in words."""
        counts = Counter(kind for kind in self._types.values() if kind not in _PLAIN)
        kinds = ", ".join(f"{count} of {kind}" for kind, count in sorted(counts.items()))
        return f"dequantised tensors: {kinds}" if kinds else ""

    def check_tokenizer(self, directory: Path) -> None:
        """Raise `CheckpointError` if the vocabulary of a tokenizer differs from that in the file.

        Compared are the ordinary tokens, whose texts are those of the original tokenizer. Files of other
        writers may have no vocabulary.
        """
        kinds = self._metadata.get("tokenizer.ggml.token_type")
        if self._vocabulary is None or not isinstance(kinds, tuple):
            return
        tokens, own = read_texts(self._path, self._vocabulary), _vocabulary_of(directory / "tokenizer.json")
        ordinary = [number for number, kind in enumerate(kinds[: len(tokens)]) if kind == _ORDINARY]
        differ = [number for number in ordinary if own.get(number, "").encode() != tokens[number]]
        if differ:
            first = differ[0]
            raise not_converted(
                f"{self._path}: its token {first} is {tokens[first].decode(errors='replace')!r}, but "
                f"{own.get(first)!r} in {directory} ({len(differ):,} of {len(ordinary):,} tokens differ); "
                "set `tokenizer:` to the tokenizer of the model."
            )

    def read(self, name: str) -> "Tensor":
        """Return a tensor on the CPU."""
        import numpy as np
        import torch
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        stored, kind = self._tensors[name], self._types[name]
        raw = np.fromfile(self._path, np.uint8, _size(stored, kind), offset=stored.begin)
        if kind == "BF16":
            return torch.from_numpy(raw.view(np.int16)).view(torch.bfloat16).reshape(stored.shape)
        if kind in _PLAIN:
            return torch.from_numpy(raw.view(_PLAIN[kind])).reshape(stored.shape)
        rows = raw.reshape(*stored.shape[:-1], -1)
        values: np.ndarray = dequantize(rows, GGMLQuantizationType[kind])
        return torch.from_numpy(values).reshape(stored.shape)


def _vocabulary_of(tokenizer: Path) -> dict[int, str]:
    """The token of each id, without added ones."""
    model = read_json(tokenizer, CheckpointError, most=MOST_TOKENIZER_BYTES).get("model", {})
    found = model.get("vocab", {}) if isinstance(model, Mapping) else {}
    if isinstance(found, Mapping):
        return {number: token for token, number in found.items()}
    return {number: str(entry[0]) for number, entry in enumerate(found)}  # of Unigram, with scores


def _check_whole_model(metadata: Mapping[str, Any], path: Path) -> None:
    kind, parts = metadata.get("general.type", "model"), metadata.get("split.count", 1)
    if kind != "model":
        raise CheckpointError(
            f"{path}: general.type is {kind!r}; expected a model. Merge an adapter into its model first.",
            "no_weights",
        )
    if parts not in (0, 1):
        raise CheckpointError(
            f"{path} is one of {parts} parts of a model; join them with `llama-gguf-split --merge`."
        )


def _types(tensors: Sequence[Stored], path: Path) -> dict[str, str]:
    """The type of each tensor by name, once its bytes are in the file."""
    try:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError:
        raise CheckpointError(
            f"{path}: reading GGUF files needs the package gguf; pip install gguf."
        ) from None
    names = {int(kind): kind.name for kind in GGMLQuantizationType}
    size, found = path.stat().st_size, {}
    for tensor in tensors:
        kind = names.get(tensor.type)
        if kind is None or not _is_readable(kind):
            raise CheckpointError(
                f"{path}: tensor {tensor.name} has the type {kind or tensor.type}, which the package gguf "
                f"{version('gguf')} cannot dequantise; install a newer one, or quantise to another type."
            )
        block = GGML_QUANT_SIZES[GGMLQuantizationType[kind]][0]
        if not tensor.shape or 0 in tensor.shape or tensor.shape[-1] % block:
            raise CheckpointError(
                f"{path}: tensor {tensor.name} of the type {kind} has the shape {tensor.shape}; expected "
                f"rows of a multiple of {block} values. Copy the file again."
            )
        if (end := tensor.begin + _size(tensor, kind)) > size:
            raise CheckpointError(
                f"{path} has {size:,} bytes, but its tensor {tensor.name} ends at {end:,}; copy the file "
                "again."
            )
        found[tensor.name] = kind
    return found


@cache
def _is_readable(kind: str) -> bool:
    """Whether the package can dequantise a type, which a block of zeros shows."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    if kind in _PLAIN or kind in _NUMBERS:
        return True
    of = GGMLQuantizationType[kind]
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[of][1]), np.uint8), of)
    except NotImplementedError:
        return False
    return True


def _size(tensor: Stored, kind: str) -> int:
    """Bytes of a tensor."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return math.prod(tensor.shape) // block * size


def _dtype(kind: str) -> str:
    return _PLAIN.get(kind, kind if kind in _NUMBERS else "float32")
