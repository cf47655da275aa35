"""A fingerprint of large weight files that reads a bounded sample of their bytes. A lean module.

Planning must tell checkpoints apart without reading them: a hundred checkpoints of 14 GB are 1.4 TB. The
fingerprint covers names, sizes and headers of the files, and bytes of *every* tensor: the whole tensor where
it is small, else its beginning, its end and blocks spread evenly between them. Training moves all values of
a tensor, so other weights are seen. A change of a few values in a large tensor can fall between two blocks;
the scoring job, which reads everything, finds it (`ebbtide.checkpoints.full_digest`).
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ebbtide.checkpoints.header import Header, read_header
from ebbtide.files import canonical_json

WHOLE_BYTES = 50_000_000  # weights of at most this size are hashed in full instead
SAMPLED_BYTES = 25_000_000  # of the weights of a checkpoint at most, beside the headers
BLOCK = 16_384  # bytes; small enough for several blocks a tensor, large enough for a disk on the network
PIECE = 1 << 20  # bytes read at once, of a tensor that is read whole


def is_read_whole(size: int) -> bool:
    """Whether weights of this many bytes are so small that they are hashed in full."""
    return size <= WHOLE_BYTES


def fingerprint(files: Sequence[Path]) -> str:
    """Digest of the sample of some weight files, in hex; a function of their names and contents alone.

    Raises `CheckpointError` for a file that is not a whole safetensors file.
    """
    headers = [read_header(path) for path in files]
    share = share_of_tensor([t.end - t.begin for header in headers for t in header.tensors], SAMPLED_BYTES)
    state = hashlib.sha256()
    for path, header in zip(files, headers, strict=True):
        state.update(canonical_json([path.name, path.stat().st_size]).encode())
        state.update(header.raw)
        for block in _read(path, _blocks(header, share)):
            state.update(block)
    return state.hexdigest()


def share_of_tensor(sizes: Iterable[int], total: int) -> int:
    """How many bytes of each tensor to read, so that the sum of `min(size, share)` is `total` at most.

    What small tensors leave over goes to the larger ones.
    """
    ascending = sorted(sizes)
    for i, size in enumerate(ascending):
        left = len(ascending) - i
        if size * left > total:
            return total // left
        total -= size
    return max(ascending, default=0)


def blocks_of_tensor(begin: int, end: int, share: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each block to read of a tensor: all of it, or blocks from first to last byte."""
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


def _read(path: Path, blocks: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):  # without it the system reads ahead, up to megabytes a block
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for begin, end in blocks:
            for start in range(begin, end, PIECE):
                yield os.pread(file.fileno(), min(PIECE, end - start), start)
