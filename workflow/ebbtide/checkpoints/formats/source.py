"""What every format offers: names, shapes and precisions of its tensors, its files, and single tensors."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ebbtide.checkpoints.fingerprint import (
    SAMPLED_BYTES,
    blocks_of_tensor,
    is_read_whole,
    read_blocks,
    share_of_tensor,
)
from ebbtide.errors import CheckpointError
from ebbtide.files import digest, file_sha256

if TYPE_CHECKING:
    from torch import Tensor

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}  # of a value; precisions that are converted


class Source(Protocol):
    """The tensors of one checkpoint in one format.

    Making one reads no values of tensors where the format allows it, and raises `CheckpointError` for files
    that are missing, truncated or of another format.
    """

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each tensor by its name in the source, also of those that no model needs."""
        ...

    @property
    def dtypes(self) -> Mapping[str, str]:
        """Precision of what `read` returns, by name: a key of `BYTES`, or another that is not converted."""
        ...

    @property
    def files(self) -> Sequence[Path]:
        """All files that determine the tensors: the identity of the checkpoint follows from them."""
        ...

    @property
    def config(self) -> Mapping[str, Any] | None:
        """A Hugging Face configuration that was found in the source; None if there is none."""
        ...

    @property
    def remark(self) -> str:
        """What reading changes, in words, for the log; empty if values are as they are stored."""
        ...

    def read(self, name: str) -> "Tensor":
        """Return a tensor on the CPU, in its stored precision, or dequantised to float32."""
        ...


@dataclass(frozen=True)
class Stored:
    """Shape and precision of a tensor in a source."""

    shape: tuple[int, ...]
    dtype: str


def not_converted(sentence: str) -> CheckpointError:
    """Return the error for tensors that do not fit a map or a configuration."""
    return CheckpointError(sentence, "not_converted")


def files_digest(files: Sequence[Path], root: Path) -> str:
    """Return a digest of the names and contents of files, with paths relative to `root` where they are below.

    Files elsewhere, such as the base of an adapter, count by their names: moving them changes nothing.

    Small files are read as a whole, of larger ones a bounded sample, see `checkpoints.fingerprint`.
    """
    sizes = [path.stat().st_size for path in files]
    whole, share = is_read_whole(sum(sizes)), share_of_tensor(sizes, SAMPLED_BYTES)
    found: list[tuple[str, int, str]] = []
    for path, size in zip(files, sizes, strict=True):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        content = file_sha256(path) if whole else _sample(path, size, share)
        found.append((name, size, content))
    return digest(sorted(found))


def _sample(path: Path, size: int, share: int) -> str:
    sample = hashlib.sha256()
    for block in read_blocks(path, blocks_of_tensor(0, size, share)):
        sample.update(block)
    return sample.hexdigest()
