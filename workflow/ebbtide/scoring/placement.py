"""How many GPUs the weights of a model need. A lean module: no torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ebbtide.checkpoints.precision import count_values
from ebbtide.errors import ScoringError

WEIGHTS_FRACTION = 0.9  # of the memory of devices for weights, at most; the rest is for activations

VALUE_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}


def weight_bytes(files: Iterable[Path], dtype: str) -> int:
    """Bytes of the weights in these safetensors files, loaded in a precision."""
    return count_values(files).total() * VALUE_BYTES.get(dtype, VALUE_BYTES["float32"])


def fits(weights: int, memory: Sequence[int]) -> bool:
    """Whether weights fit on devices with these bytes of memory together. 0 is unknown: they may fit."""
    return 0 in memory or weights <= WEIGHTS_FRACTION * sum(memory)


def too_large(what: str, weights: int, dtype: str, memory: Sequence[int], where: str) -> ScoringError:
    """Return the error for weights that do not fit on the GPUs `where`, which have these bytes of memory."""
    size, count = max(memory), len(memory)
    sizes = f" ({', '.join(map(gigabytes, memory))})" if len(set(memory)) > 1 else ""
    needed = -(-weights // int(WEIGHTS_FRACTION * size))
    return ScoringError(
        f"{what}: the weights take {gigabytes(weights)} in {dtype}, more than {WEIGHTS_FRACTION:.0%} of the "
        f"{gigabytes(sum(memory))} of {where}; found {count} GPU{'s' * (count != 1)}{sizes}, needed: "
        f"{needed} of {gigabytes(size)}. Provide them, use a narrower scoring.dtype, or set "
        "scoring.offload: true to keep the rest in CPU memory, which is slow."
    )


def gigabytes(size: int) -> str:
    """Return a number of bytes for a message, as GiB, or as MiB below one."""
    unit, name = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
    return f"{f'{size / unit:.1f}'.removesuffix('.0')} {name}"
