"""The precision (dtype) of the weights of a checkpoint. A lean module."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.configuration import configuration
from ebbtide.checkpoints.header import read_header

DTYPES = ("float32", "float64", "bfloat16", "float16")

NAMED_IN_CONFIG = ("dtype", "torch_dtype")  # keys of config.json; the second is the older
_SAFETENSORS = {"F32": "float32", "F64": "float64", "BF16": "bfloat16", "F16": "float16"}


def own_dtype(directory: str | Path, weights: Iterable[Path]) -> str:
    """The precision that a checkpoint directory declares: one of `DTYPES`, or any other value found there.

    It is read from `config.json` (`dtype`, in older files `torch_dtype`). If that has neither key, it is the
    type of most values in the safetensors files `weights`.

    Raises `CheckpointError` if `config.json` or a header cannot be read.
    """
    if named := dtype_of(configuration(directory)):
        return named
    values = count_values(weights)
    [(most, _)] = values.most_common(1) or [("unknown", 0)]
    return _SAFETENSORS.get(most, most)


def dtype_of(config: Mapping[str, Any]) -> str | None:
    """The precision that a `config.json` declares (`dtype`, in older files `torch_dtype`), or None."""
    for key in NAMED_IN_CONFIG:
        if isinstance(config.get(key), str):
            return str(config[key]).removeprefix("torch.")
    return None


def count_values(weights: Iterable[Path]) -> Counter[str]:
    """Count the values of each type in safetensors files. Raises `CheckpointError` for other files."""
    return sum(map(_values, weights), Counter[str]())


def _values(path: Path) -> Counter[str]:
    """Count the values of each type in a safetensors file from its header."""
    values: Counter[str] = Counter()
    for tensor in read_header(path).tensors:
        values[tensor.dtype] += math.prod(tensor.shape)
    return values
