"""Checkpoints on disk: Hugging Face directories, their digests, and how they are loaded."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.hub.fetched import is_fetched, runs_code, verify_fetched
from ebbtide.checkpoints.hub.lock import TOKENIZER
from ebbtide.checkpoints.precision import own_dtype
from ebbtide.errors import CheckpointError
from ebbtide.files import digest, file_sha256, write_text

if TYPE_CHECKING:
    from torch import nn

INDEX = "model.safetensors.index.json"
WINDOW_KEYS = ("n_positions", "max_position_embeddings", "n_ctx", "seq_length")
WINDOW = 2048  # tokens, for a model without positions whose configuration names no limit
LOCATED = "located.json"  # name of the record of a directory on disk


def weight_files(directory: str | Path) -> list[Path]:
    """The safetensors files that hold a checkpoint's weights: `model.safetensors`, or those its index lists.

    Other files beside them are not looked at, as transformers does not. Raises `CheckpointError` if the
    directory or one of the files that loading needs is missing.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is not a directory; expected a Hugging Face checkpoint there.")
    files = _listed(directory)
    for name in ("config.json", "tokenizer.json"):
        if not (directory / name).exists():
            raise CheckpointError(f"{directory} has no {name}; it is needed to load the checkpoint.")
    return files


def _listed(directory: Path) -> list[Path]:
    whole, index = directory / "model.safetensors", directory / INDEX
    if whole.exists():
        return [whole]
    if not index.exists():
        found = ", ".join(sorted(p.name for p in directory.iterdir())) or "nothing"
        raise CheckpointError(f"{directory} holds neither {whole.name} nor {INDEX} (found: {found}).")
    try:
        listed = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index} is not an index of weights (JSON with a weight_map).") from None
    if missing := [name for name in listed if not (directory / name).exists()]:
        raise CheckpointError(f"{directory} lacks {', '.join(missing)}, which {INDEX} lists.")
    return [directory / name for name in listed]


@dataclass(frozen=True)
class Located:
    """A checkpoint directory and what its files were when they were last hashed."""

    directory: str
    weights: str  # digest of the weight files and the architecture
    tokenizer: str
    size_bytes: int  # of the weights
    dtype: str  # their own precision, see `ebbtide.checkpoints.precision`


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
        remembered = {name: known.get(name, "unknown") for name in ("weights", "tokenizer", "dtype")}
        return Located(str(directory), **remembered, size_bytes=known["size_bytes"])
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


def check_weights(checkpoint: str | Path, weights: str) -> None:
    """Check, before loading, that the weights are still those that the run was planned with.

    Raises `CheckpointError` when the files have changed since, or are gone.
    """
    directory = directory_of(checkpoint)
    if Path(checkpoint).name == LOCATED:
        weight_files(directory)
        found = locate(directory, checkpoint).weights
    elif is_fetched(directory):
        verify_fetched(directory, weights)
        return
    else:
        trained = _read_record(directory / "checkpoint.json").get("weights")
        found = f"trained:{trained}" if trained else identities(directory)[0]
    if found != weights:
        raise CheckpointError(
            f"{directory} holds weights {found}, the run was planned with {weights}; run snakemake again."
        )


def _hash(directory: Path, known: Mapping[str, Any]) -> tuple[Located, dict[str, Any]]:
    """Identity of a directory; hashes only files that differ from `known` in size or time."""
    weights = weight_files(directory)
    files: dict[str, Any] = {}
    names = [path.name for path in weights]
    names += ["config.json"] if names == ["model.safetensors"] else ["config.json", INDEX]
    words = [name for name in TOKENIZER if (directory / name).exists()]
    for path in map(directory.joinpath, [*names, *words]):
        status = path.stat()
        seen = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        old = known.get(path.name, {})
        same = {k: old.get(k) for k in seen} == seen
        files[path.name] = {**seen, "sha256": old["sha256"] if same else file_sha256(path)}

    def identity(of: list[str]) -> str:
        return f"files:{digest({name: files[name]['sha256'] for name in of})}"

    found = Located(
        directory=str(directory),
        weights=identity(names),
        tokenizer=identity(words),
        size_bytes=sum(files[path.name]["size"] for path in weights),
        dtype=own_dtype(directory, weights),
    )
    return found, files


def _read_record(path: Path) -> dict[str, Any]:
    """A record as it was written, or nothing when it is missing or damaged: it only saves time."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "weights" in record else {}


def configuration(directory: str | Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint directory. Raises `CheckpointError` when it is none."""
    path = Path(directory) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}).") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not the configuration of a model.")
    return config


def context_window(config: Mapping[str, Any]) -> int:
    """Tokens that a model can read, by its configuration (of its text, where it reads images too)."""
    config = config.get("text_config") or config
    return next((int(config[key]) for key in WINDOW_KEYS if config.get(key)), WINDOW)


def load_model(directory: str | Path, dtype: str, *, device_map: str | None = None) -> "nn.Module":
    """Load a causal language model by transformers: safetensors only, no network.

    A directory's own code runs only if it was fetched with that permission (see `hub.fetched`).

    Parameters
    ----------
    dtype
        `float32`, `float64`, `bfloat16` or `float16`: the precision to score in.
    device_map
        `auto` spreads a model over all devices and, where they are too small, the CPU's memory (by
        accelerate).

    Raises
    ------
    CheckpointError
        Missing files, missing or unexpected tensors, unknown architecture, non-finite weights, no accelerate.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    weight_files(directory)
    if device_map and not find_spec("accelerate"):
        raise CheckpointError(
            f"{directory} does not fit on one device; to spread it over several: pip install accelerate."
        )
    trusted = runs_code(directory)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(directory),
            dtype=getattr(torch, dtype),
            device_map=device_map,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=trusted,
            ignore_mismatched_sizes=True,  # they are named below
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises many kinds for an unreadable directory
        if "auto_map" in configuration(directory) and not trusted:
            raise CheckpointError(
                f"{directory} needs code of its own (auto_map in its config.json), which runs only for a "
                "model from a hub with remote_code: true."
            ) from error
        raise CheckpointError(f"{directory} cannot be loaded: {_first_line(error)}.") from error
    model, info = loaded
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[what]:
            names = ", ".join(sorted(str(k) for k in info[what])[:5])
            raise CheckpointError(f"{directory}: {what.replace('_', ' ')} in the weights: {names}.")
    for name, tensor in model.named_parameters():
        if not tensor.is_meta and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{directory}: tensor {name} holds non-finite values.")
    return model.eval()  # type: ignore[no-any-return]


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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
