"""A fingerprint of large weight files from a bounded sample of their bytes. A lean module.

Planning must distinguish checkpoints without reading them in full: a hundred checkpoints of 14 GB are 1.4 TB.
The fingerprint covers names, sizes and headers of the files, and bytes of *every* tensor. Small tensors are
read whole. Of large ones, it reads the beginning, the end, and evenly spaced blocks between them.

Training changes all values of a tensor, so the sample detects other weights. A change of a few values in a
large tensor can fall between two blocks. The scoring job reads all bytes and detects it
(`ebbtide.checkpoints.verification`).
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ebbtide.checkpoints.header import Header
from ebbtide.files import canonical_json

WHOLE_BYTES = 50_000_000  # weights up to this size are hashed in full instead
SAMPLED_BYTES = 25_000_000  # most bytes sampled per checkpoint, without the headers
BLOCK = 16_384  # bytes; allows several blocks per tensor, and is large enough for network file systems
PIECE = 1 << 20  # bytes per read of a tensor that is read whole


def is_read_whole(size: int) -> bool:
    """Whether weights of this many bytes are small enough to be hashed in full."""
    return size <= WHOLE_BYTES


@dataclass(frozen=True)
class Fingerprint:
    """Hex digests of a sample of weight files: of all together, and of each by name."""

    whole: str
    files: Mapping[str, str]


def fingerprint(headers: Mapping[Path, Header]) -> Fingerprint:
    """Sample weight files, given their headers. The digests depend only on names and contents."""
    share = share_of_tensor(
        [t.end - t.begin for header in headers.values() for t in header.tensors], SAMPLED_BYTES
    )
    whole, files = hashlib.sha256(), {}
    for path, header in headers.items():
        whole.update(canonical_json([path.name, path.stat().st_size]).encode())
        own = hashlib.sha256()
        for block in chain([header.raw], read_blocks(path, _blocks(header, share))):
            whole.update(block)
            own.update(block)
        files[path.name] = own.hexdigest()
    return Fingerprint(whole.hexdigest(), files)


def share_of_tensor(sizes: Iterable[int], total: int) -> int:
    """The largest number of bytes per tensor for which the sum of `min(size, share)` is at most `total`.

    Bytes that small tensors do not use go to the larger ones.
    """
    ascending = sorted(sizes)
    for i, size in enumerate(ascending):
        left = len(ascending) - i
        if size * left > total:
            return total // left
        total -= size
    return max(ascending, default=0)


def blocks_of_tensor(begin: int, end: int, share: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of the blocks of a tensor to read: the whole tensor, or evenly spaced blocks."""
    size = end - begin
    if size <= share:
        yield begin, end
        return
    block = max(1, min(BLOCK, share // 2))
    count = max(2, share // block)
    for i in range(count):
        offset = begin + i * (size - block) // (count - 1)
        yield offset, offset + block


def _blocks(header: Header, share: int) -> Iterator[tuple[int, int]]:
    for tensor in header.tensors:
        yield from blocks_of_tensor(tensor.begin, tensor.end, share)


def read_blocks(path: Path, blocks: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the bytes of (begin, end) ranges of a file, in pieces."""
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):  # otherwise the system reads ahead, up to megabytes per block
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for begin, end in blocks:
            for start in range(begin, end, PIECE):
                yield os.pread(file.fileno(), min(PIECE, end - start), start)
