"""What the audit compares of a checkpoint directory: facts from headers, small files and samples of weights.

They are read once, together with the identities of the directory, and kept in its record.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.fingerprint import blocks_of_tensor, read_blocks
from ebbtide.checkpoints.header import Header, Stored
from ebbtide.checkpoints.weight_files import repeated_tensors
from ebbtide.files import digest
from ebbtide.parameters import is_tied

IRRELEVANT_KEYS = {
    "transformers_version",
    "_name_or_path",
    "use_cache",
    "architectures",
}  # of config.json: they do not change numbers
# Unlike `header.BUFFERS`, it fits the biases of GPT-2's c_attn, as in all records that are compared.
_LEFT_OUT = re.compile(r"(attention|attn)\.(bias|masked_bias)$|rotary_emb\.inv_freq$")
HEADS = ("lm_head.weight", "embed_out.weight")
EMBEDDINGS = ("embed_tokens.weight", "embed_in.weight", "wte.weight", "word_embeddings.weight")
_COMPARED_BYTES = 1 << 20  # most bytes read of each of two tensors that are compared


@dataclass(frozen=True)
class Facts:
    """Facts about one directory.

    Attributes
    ----------
    files
        Digest of each weight file by name, of all its bytes or of a sample.
    config
        Digest of each value of `config.json` that may change numbers, by key.
    shapes
        Digest of the shapes of all tensors but buffers.
    values
        Number of values in these tensors.
    lone_head
        Name of an output matrix that differs from the embedding to which `config.json` ties it; or empty.
    repeated
        Tensors that several weight files contain, with their files.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    shapes: str = ""
    values: int = 0
    lone_head: str = ""
    repeated: tuple[str, ...] = ()

    @property
    def weights(self) -> str:
        """Digest of the weights alone; without the configuration, unlike their identity."""
        return digest(dict(self.files))


def read_facts(
    directory: Path, headers: Mapping[Path, Header], config: Mapping[str, Any], files: Mapping[str, str]
) -> Facts:
    """Return the facts about a directory; `files` are the digests of its weight files by name.

    Raises `CheckpointError` if the index assigns a tensor to a file that does not contain it.
    """
    tied = is_tied(config)
    shapes = sorted(
        tensor.shape
        for header in headers.values()
        for tensor in header.tensors
        if not _LEFT_OUT.search(tensor.name) and not (tied and tensor.name.endswith(HEADS))
    )
    return Facts(
        files=files,
        config={k: digest(repr(v)) for k, v in config.items() if k not in IRRELEVANT_KEYS},
        shapes=digest(shapes),
        values=sum(map(_values, shapes)),
        lone_head=_lone_head(headers) if tied else "",
        repeated=tuple(repeated_tensors(directory, headers)),
    )


def _values(shape: tuple[int, ...]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


def _lone_head(headers: Mapping[Path, Header]) -> str:
    head, embedding = _last_of(headers, HEADS), _last_of(headers, EMBEDDINGS)
    if head is None or embedding is None or _sample(*head) == _sample(*embedding):
        return ""
    return head[1].name


def _last_of(headers: Mapping[Path, Header], endings: tuple[str, ...]) -> tuple[Path, Stored] | None:
    found = [
        (path, tensor)
        for path, header in headers.items()
        for tensor in header.tensors
        if tensor.name.endswith(endings)
    ]
    return found[-1] if found else None


def _sample(path: Path, tensor: Stored) -> tuple[str, tuple[int, ...], bytes]:
    blocks = blocks_of_tensor(tensor.begin, tensor.end, _COMPARED_BYTES)
    return tensor.dtype, tensor.shape, b"".join(read_blocks(path, blocks))
