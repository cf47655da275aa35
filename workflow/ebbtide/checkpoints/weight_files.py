"""The weight files of a checkpoint directory, and what to do about a directory without usable ones."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ebbtide.checkpoints.header import Header, check_content, check_regular, read_header
from ebbtide.checkpoints.hub.lock import INDICES, is_plain, weight_map
from ebbtide.errors import CheckpointError
from ebbtide.files import MOST_JSON_BYTES, read_json
from ebbtide.notices import listed

INDEX = INDICES["safetensors"]
WHOLE = "model.safetensors"  # loaded instead of the shards of an index, as in transformers
ADAPTER = "adapter_config.json"
MOST_TOKENIZER_BYTES = 256 << 20  # of one file; the largest known ones have 35 MB
_MAX_FOUND = 12  # file names in a message

# What trainers write in place of loadable weights: patterns of names → remedy. The first match counts.
_OTHER_FORMATS = (
    (
        ("zero_to_fp32.py", "global_step*", "*_optim_states.pt", "*_model_states.pt"),
        "it has a DeepSpeed state: run `python zero_to_fp32.py . . --safe_serialization` in it",
    ),
    (
        ("*.distcp", ".metadata"),
        "it has a distributed checkpoint, of FSDP or Megatron: set `format: dcp`, and `map:` if its names "
        "are not those of transformers",
    ),
    (
        ("pytorch_model_fsdp*",),
        "it has an FSDP state: set `path:` to it, and `format:` to dcp (a directory) or pt (a file)",
    ),
    (("mp_rank_*",), "it has a Megatron state: save it as torch_dist, or convert it to Hugging Face layout"),
    (
        ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt"),
        "it has pickled weights: set `format: pt`, and `map:` if its names are not those of transformers",
    ),
)


def weight_files(directory: str | Path) -> list[Path]:
    """Return the safetensors files of a checkpoint: `model.safetensors`, or those that its index lists.

    Other files are ignored, as in transformers: pickled weights, states of optimizers and of trainers. Raises
    `CheckpointError` if the directory or a file that loading needs is missing, or if it is a PEFT adapter.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is not a directory; expected a Hugging Face checkpoint.")
    _refuse_adapter(directory)
    files = _listed(directory)
    if not (directory / "config.json").exists():
        raise CheckpointError(f"{directory} has no config.json; it is needed to load the checkpoint.")
    return files


def check_small_files(directory: str | Path) -> None:
    """Raise `CheckpointError` for a configuration or vocabulary that is not a regular file, or is huge.

    For libraries that read whatever they find in a directory.
    """
    for path in sorted(Path(directory).iterdir()):
        if path.suffix in (".json", ".txt", ".model", ".jinja") and path.exists():
            check_regular(path, MOST_TOKENIZER_BYTES)


def has_weight_files(directory: Path) -> bool:
    """Whether a directory has any safetensors file, complete or not. Broken links are none."""
    return any(path.exists() for path in directory.glob("*.safetensors"))


def read_headers(files: Sequence[Path]) -> dict[Path, Header]:
    """The headers of weight files. Raises `CheckpointError` for a damaged file or an empty tensor."""
    headers = {path: read_header(path) for path in files}
    if not any(header.tensors for header in headers.values()):
        raise CheckpointError(f"{files[0]} contains no tensors.", "no_weights")
    for path, header in headers.items():
        for tensor in header.tensors:
            if 0 in tensor.shape:
                raise CheckpointError(
                    f"{path}: tensor {tensor.name} has no values, as ZeRO stage 3 saves it; gather the "
                    "weights when saving (stage3_gather_16bit_weights_on_model_save)."
                )
    return headers


def repeated_tensors(directory: Path, headers: Mapping[Path, Header]) -> list[str]:
    """Describe the tensors that several weight files contain, and which of them the index names.

    Raises `CheckpointError` if the file that the index names for a tensor does not contain it.
    """
    holders: dict[str, list[str]] = {}
    for path, header in headers.items():
        for tensor in header.tensors:
            holders.setdefault(tensor.name, []).append(path.name)
    for name, file in assigned_files(directory).items():
        if file not in holders.get(name, []):
            where = f"it is in {' and '.join(holders[name])}" if name in holders else "no file has it"
            raise CheckpointError(
                f"{directory}: {INDEX} assigns {name} to {file}, which does not contain it ({where}); "
                "copy or save the checkpoint again."
            )
    return sorted(f"{name} ({' and '.join(files)})" for name, files in holders.items() if len(files) > 1)


def assigned_files(directory: str | Path) -> dict[str, str]:
    """The file of each tensor according to the index; empty if there is a single file."""
    directory = Path(directory)
    return {} if (directory / WHOLE).exists() else weight_map(directory / INDEX)


def _refuse_adapter(directory: Path) -> None:
    if (directory / ADAPTER).exists():
        base = read_json(directory / ADAPTER, CheckpointError).get("base_model_name_or_path", "unknown")
        raise CheckpointError(
            f"{directory} is a PEFT adapter ({ADAPTER}) of the model {base}, not a whole model; set "
            "`format: peft` to score it merged, and `base:` to the directory of that model.",
            "no_weights",
        )


def _listed(directory: Path) -> list[Path]:
    whole, index = directory / WHOLE, directory / INDEX
    if whole.exists():
        _refuse_irregular([whole])
        return [whole]
    if not index.exists():
        raise CheckpointError(
            f"{directory} has neither {whole.name} nor {INDEX} ({_found(directory)}).", "no_weights"
        )
    check_content(index, MOST_JSON_BYTES)
    shards = sorted(set(weight_map(index).values()))
    if not shards:
        raise CheckpointError(f"{index} lists no files.", "no_weights")
    if strange := [name for name in shards if not is_plain(name)]:
        raise CheckpointError(f"{index} lists {strange[0]!r}, which is not a plain file name.")
    if missing := [name for name in shards if not (directory / name).exists()]:
        raise CheckpointError(f"{directory} lacks {', '.join(missing)}, which {INDEX} lists.")
    _refuse_irregular(directory / name for name in shards)
    return [directory / name for name in shards]


def _refuse_irregular(files: Iterable[Path]) -> None:
    for path in files:
        if not path.is_file():
            check_regular(path)


def _found(directory: Path) -> str:
    names = sorted(path.name for path in directory.iterdir())
    found = f"found: {listed(names, _MAX_FOUND) or 'nothing'}"
    for path in directory.glob("*.safetensors"):
        if not path.exists():
            return f"{found}; {path.name} is a link to a file that does not exist"
    for patterns, remedy in _OTHER_FORMATS:
        if any(fnmatchcase(name, pattern) for name in names for pattern in patterns):
            return f"{found}; {remedy}"
    return found
