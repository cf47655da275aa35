"""Checkpoints on disk: Hugging Face directories, their digests, and how they are loaded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.errors import CheckpointError
from ebbtide.files import digest, file_sha256, write_text

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = ("*.safetensors", "model.safetensors.index.json", "config.json")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
DIGESTS = Path("resources/digests.json")


def weight_files(directory: str | Path) -> list[Path]:
    """The safetensors files of a checkpoint directory, sorted.

    Raises `CheckpointError` if the directory or one of the files that loading needs is missing.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is not a directory; expected a Hugging Face checkpoint there.")
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        found = ", ".join(sorted(p.name for p in directory.iterdir())) or "nothing"
        raise CheckpointError(f"{directory} holds no *.safetensors file (found: {found}).")
    for name in ("config.json", "tokenizer.json"):
        if not (directory / name).exists():
            raise CheckpointError(f"{directory} has no {name}; it is needed to load the checkpoint.")
    index = directory / "model.safetensors.index.json"
    if index.exists():
        try:
            listed = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError):
            raise CheckpointError(f"{index} is not an index of weights (JSON with a weight_map).") from None
        if missing := sorted(listed - {p.name for p in weights}):
            raise CheckpointError(f"{directory} lacks {', '.join(missing)}, which {index.name} lists.")
    return weights


def identities(directory: str | Path, cache: Path | None = DIGESTS) -> tuple[str, str]:
    """Digests of the weights (with the architecture) and of the tokenizer of a directory.

    Files are hashed once: the digest is remembered in `cache` under path, size and modification time,
    because every start of Snakemake asks again and a large checkpoint takes seconds. None: no cache.
    """
    weight_files(directory)
    known: dict[str, str] = {}
    if cache is not None and cache.exists():
        try:
            known = json.loads(cache.read_text())
        except ValueError:  # a damaged cache only costs time
            known = {}
    size = len(known)
    weights = {p.name: _remembered(p, known) for p in _matching(directory, WEIGHTS)}
    tokenizer = {p.name: _remembered(p, known) for p in _matching(directory, TOKENIZER)}
    if cache is not None and len(known) != size:
        write_text(json.dumps(known, indent=0, sort_keys=True), cache)
    return f"files:{digest(weights)}", f"files:{digest(tokenizer)}"


def size_bytes(directory: str | Path) -> int:
    """Bytes of the weight files."""
    return sum(p.stat().st_size for p in weight_files(directory))


def load_model(directory: str | Path, dtype: str) -> "nn.Module":
    """Load a causal language model from a directory: safetensors only, no network, no remote code.

    Parameters
    ----------
    dtype
        `float32`, `float64`, `bfloat16` or `float16`: the precision to score in.

    Raises
    ------
    CheckpointError
        Missing files, missing or unexpected tensors, unknown architecture, non-finite weights.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    weight_files(directory)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(directory),
            dtype=getattr(torch, dtype),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are named below
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises many kinds for an unreadable directory
        raise CheckpointError(f"{directory} cannot be loaded: {_first_line(error)}.") from error
    model, info = loaded
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[what]:
            names = ", ".join(sorted(str(k) for k in info[what])[:5])
            raise CheckpointError(f"{directory}: {what.replace('_', ' ')} in the weights: {names}.")
    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{directory}: tensor {name} holds non-finite values.")
    return model.eval()  # type: ignore[no-any-return]


def load_tokenizer(directory: str | Path) -> Any:
    """The fast tokenizer of a checkpoint directory, from local files only."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # as above
        raise CheckpointError(
            f"{directory}: the tokenizer cannot be loaded: {_first_line(error)}."
        ) from error


def count_parameters(model: "nn.Module") -> tuple[int, int]:
    """Total and non-embedding parameters; a tied matrix counts once.

    Embeddings are every `nn.Embedding` (tokens, learned positions) and the output matrix.
    """
    from torch import nn

    total = sum(p.numel() for p in model.parameters())
    embeddings = {
        id(p): p.numel() for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()
    }
    head = model.get_output_embeddings()  # type: ignore[operator]
    if head is not None:
        embeddings |= {id(p): p.numel() for p in head.parameters()}
    return total, total - sum(embeddings.values())


def _matching(directory: str | Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(Path(directory).glob(pattern))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _remembered(path: Path, known: dict[str, str]) -> str:
    status = path.stat()
    name = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    if name not in known:
        known[name] = file_sha256(path)
    return known[name]
