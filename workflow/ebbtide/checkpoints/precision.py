"""The precision of a checkpoint: what its files say, and what a study scores in. A lean module."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.header import read_header
from ebbtide.errors import CheckpointError
from ebbtide.files import read_json

DTYPES = ("float32", "float64", "bfloat16", "float16")

_SAFETENSORS = {"F32": "float32", "F64": "float64", "BF16": "bfloat16", "F16": "float16"}


def own_dtype(directory: str | Path, weights: Iterable[Path]) -> str:
    """The precision that a checkpoint directory says it has: one of `DTYPES`, or what else stands there.

    `config.json` has the word (`dtype`, or `torch_dtype` of older files); without it, the type of most values
    in the safetensors files `weights`.

    Raises `CheckpointError` for a `config.json` or a header that cannot be read.
    """
    file = Path(directory) / "config.json"
    if named := dtype_of(read_json(file, CheckpointError)):
        return named
    values = count_values(weights)
    [(most, _)] = values.most_common(1) or [("unknown", 0)]
    return _SAFETENSORS.get(most, most)


def dtype_of(config: Mapping[str, Any]) -> str | None:
    """The precision that a `config.json` names (`dtype`, or `torch_dtype` of older files), or None."""
    for key in ("dtype", "torch_dtype"):
        if isinstance(config.get(key), str):
            return str(config[key]).removeprefix("torch.")
    return None


def count_values(weights: Iterable[Path]) -> Counter[str]:
    """How many values of each type safetensors files hold. Raises `CheckpointError` for other files."""
    return sum(map(_values, weights), Counter[str]())


def _values(path: Path) -> Counter[str]:
    """How many values of each type a safetensors file holds, by its header."""
    values: Counter[str] = Counter()
    for tensor in read_header(path).tensors:
        values[tensor.dtype] += math.prod(tensor.shape)
    return values
