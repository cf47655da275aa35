"""Checkpoints on disk: Hugging Face directories, their digests, and how they are loaded."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
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
LOCATED = "located.json"  # name of the record of a directory on disk


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


@dataclass(frozen=True)
class Located:
    """A checkpoint directory and what its files were when they were last hashed."""

    directory: str
    weights: str  # digest of the weight files and the architecture
    tokenizer: str
    size_bytes: int  # of the weights


def identities(directory: str | Path) -> tuple[str, str]:
    """Digests of the weights (with the architecture) and of the tokenizer of a directory."""
    found = _hash(Path(directory), {})[0]
    return found.weights, found.tokenizer


def locate(directory: str | Path, record: str | Path) -> Located:
    """The identity of a directory, remembered in the file `record`.

    Files are hashed once: `record` keeps size, modification time and hash of each, because every start of
    Snakemake asks again and a large checkpoint takes seconds. When the directory is gone, the record
    speaks for it, so that what was scored can still be analysed.

    Raises `CheckpointError` for an incomplete directory, or a missing one without a record.
    """
    directory, record = Path(directory), Path(record)
    known = _read_record(record)
    if known and not directory.exists():
        return Located(str(directory), known["weights"], known["tokenizer"], known["size_bytes"])
    found, files = _hash(directory, known.get("files", {}))
    content = {**asdict(found), "directory": str(directory.resolve()), "files": files}
    if content != known:
        write_text(json.dumps(content, indent=1) + "\n", record)
    return found


def directory_of(checkpoint: str | Path) -> Path:
    """The directory that a name of a checkpoint stands for: itself, a file in it, or a record of `locate`."""
    path = Path(checkpoint)
    if not path.is_file():
        return path
    if path.name == LOCATED:
        return Path(_read_record(path).get("directory", path.parent))
    return path.parent


def verify(checkpoint: str | Path, weights: str) -> None:
    """Check, before loading, that the weights are still those that the run was planned with.

    Raises `CheckpointError` when the files have changed since, or are gone.
    """
    directory = directory_of(checkpoint)
    if Path(checkpoint).name == LOCATED:
        weight_files(directory)
        found = locate(directory, checkpoint).weights
    else:
        trained = _read_record(directory / "checkpoint.json").get("weights")
        found = f"trained:{trained}" if trained else identities(directory)[0]
    if found != weights:
        raise CheckpointError(
            f"{directory} holds weights {found}, the run was planned with {weights}; run snakemake again."
        )


def _hash(directory: Path, known: Mapping[str, Any]) -> tuple[Located, dict[str, Any]]:
    """Identity of a directory; hashes only files that differ from `known` in size or time."""
    size = sum(path.stat().st_size for path in weight_files(directory))
    files: dict[str, Any] = {}
    for path in _matching(directory, WEIGHTS + TOKENIZER):
        status = path.stat()
        seen = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        old = known.get(path.name, {})
        same = {k: old.get(k) for k in seen} == seen
        files[path.name] = {**seen, "sha256": old["sha256"] if same else file_sha256(path)}

    def identity(patterns: tuple[str, ...]) -> str:
        return f"files:{digest({p.name: files[p.name]['sha256'] for p in _matching(directory, patterns)})}"

    return Located(str(directory), identity(WEIGHTS), identity(TOKENIZER), size), files


def _read_record(path: Path) -> dict[str, Any]:
    """A record as it was written, or nothing when it is missing or damaged: it only saves time."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "weights" in record else {}


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
