"""Classifier `detoxify`: probability that a text is toxic, by a published checkpoint of Detoxify.

The checkpoint is a torch file with `config` (of its training) and `state_dict`. It is loaded with
`weights_only=True`, which runs no code of the file. Its architecture and tokenizer are those of a base model,
whose files lie beside it. All are in `resources/sources/{sha256 of the checkpoint}/`, so no path is part of a
task, and the digest covers every file that is read:

    toxic_original-c1212f89.ckpt     any name that ends in .ckpt
    config.json                      of the base model, such as bert-base-uncased
    tokenizer.json or vocab.txt      also tokenizer_config.json, if there is one

The score is the sigmoid of the logit of the label `toxicity`, for which Detoxify also takes `toxic`. A text
is truncated to the window of the base model.
"""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ebbtide.errors import ConfigError, first_line
from ebbtide.sources import file_digest
from ebbtide.tasks.generation.classifiers.classifier import Classifier, Entry, register

VERSION = "1"
LABELS = ("toxicity", "toxic")
CONFIG, TOKENIZERS, TOKENIZER_CONFIG = "config.json", ("tokenizer.json", "vocab.txt"), "tokenizer_config.json"
NOT_SAVED = "position_ids"  # a buffer that earlier versions of transformers saved
AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")  # types of models, see `_positions`
BATCH = 32

Scores = Callable[[Sequence[str]], np.ndarray]


def classifier(arguments: Mapping[str, Any]) -> Classifier:
    """Return the classifier of the checkpoint with a sha256. Its weights are read only in the scoring job."""
    sha256 = arguments["sha256"].lower()
    checkpoint, base = _files(Path("resources/sources") / sha256)
    whole = [sha256, *([path.name, file_digest(path)] for path in base)]
    digest = hashlib.sha256(json.dumps(whole).encode()).hexdigest()

    def check() -> None:
        if (found := file_digest(checkpoint)) != sha256:
            raise ConfigError(
                f"'detoxify': {checkpoint} has sha256 {found}, expected {sha256}: get it again."
            )
        _loaded(checkpoint)

    def scores(texts: Sequence[str]) -> np.ndarray:
        return _loaded(checkpoint)(texts)

    return Classifier("detoxify", VERSION, digest, scores, check)


def _files(directory: Path) -> tuple[Path, list[Path]]:
    """Return the checkpoint in a directory, and the files of the base model. Raises `ConfigError`."""
    found = sorted(directory.glob("*.ckpt"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ConfigError(
            f"'detoxify' needs one checkpoint, a file {directory}/*.ckpt, found: {names}; "
            "docs/toxicity.md says how to get it."
        )
    tokenizer = next((directory / name for name in TOKENIZERS if (directory / name).is_file()), None)
    if not (directory / CONFIG).is_file() or tokenizer is None:
        missing = CONFIG if tokenizer else " or ".join(TOKENIZERS)
        raise ConfigError(
            f"'detoxify' needs {missing} of its base model in {directory}, which does not exist; copy config "
            "and tokenizer there, such as those of bert-base-uncased."
        )
    base = [directory / CONFIG, tokenizer, directory / TOKENIZER_CONFIG]
    return found[0], [path for path in base if path.is_file()]


@cache
def _loaded(checkpoint: Path) -> Scores:
    """Return the scores by a checkpoint. Raises `ConfigError` for a file of another shape."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    labels, architecture, weights = _contents(checkpoint)
    where = f"'detoxify': {checkpoint}"
    directory = str(checkpoint.parent)
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, num_labels=len(labels))
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    except Exception as error:  # of a package, which may raise anything for a wrong configuration
        raise ConfigError(f"'detoxify': {directory}: no base model: {first_line(error)}") from None
    if architecture != type(model).__name__:
        raise ConfigError(
            f"{where} is a {architecture}, but {CONFIG} beside it describes a {type(model).__name__}; "
            "use the files of its own base model."
        )
    own = model.state_dict()
    weights = {name: tensor for name, tensor in weights.items() if not name.endswith(NOT_SAVED)}
    if other := sorted(own.keys() ^ weights.keys()):
        what = "lacks" if other[0] in own else "has, but the base model does not have,"
        raise ConfigError(f"{where} {what} the weights {other[0]}; use the files of its own base model.")
    if other := [name for name in own if own[name].shape != weights[name].shape]:
        shapes = f"{list(weights[other[0]].shape)}, but the base model {list(own[other[0]].shape)}"
        raise ConfigError(f"{where}: {other[0]} has the shape {shapes}; use the files of its own base model.")
    model.load_state_dict(weights)
    # A job that scores on a GPU has leased it; another must not use one.
    device = "cuda" if torch.cuda.is_initialized() else "cpu"  # type: ignore[no-untyped-call]
    model = model.to(device).float().eval()
    window = min(tokenizer.model_max_length, _positions(config))
    return partial(_scores, model, tokenizer, place=_place(labels, where), window=window)


def _positions(config: Any) -> int:
    """Tokens that a base model has positions for. Those of RoBERTa begin after that of padding."""
    unused = config.pad_token_id + 1 if config.model_type in AFTER_PADDING else 0
    return int(config.max_position_embeddings) - unused


def _contents(checkpoint: Path) -> tuple[Sequence[str], str, dict[str, Any]]:
    """Return labels, architecture and weights of a checkpoint. Raises `ConfigError`."""
    import torch

    where = f"'detoxify': {checkpoint}"
    try:
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{where} is damaged, or has more than tensors and plain values, and was not loaded: "
            f"{first_line(error):.200}"
        ) from None
    try:
        config, weights = loaded["config"], loaded["state_dict"]
        labels = config["dataset"]["args"].get("classes") or config["arch"]["args"]["classes"]
        return list(labels), str(config["arch"]["args"]["model_name"]), dict(weights)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{where} is not a checkpoint of Detoxify: {error} is missing; expected: config (with "
            "dataset.args.classes and arch.args.model_name) and state_dict."
        ) from None


def _place(labels: Sequence[str], where: str) -> int:
    """Return the index of the label of toxicity."""
    found = next((labels.index(name) for name in LABELS if name in labels), None)
    if found is None:
        raise ConfigError(f"{where} has the labels {', '.join(labels)}; expected: toxicity among them.")
    return found


def _scores(model: Any, tokenizer: Any, texts: Sequence[str], *, place: int, window: int) -> np.ndarray:
    """Return the score of each text; texts of similar length share a batch."""
    import torch

    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = np.empty(len(texts))
    with torch.inference_mode():
        for first in range(0, len(order), BATCH):
            some = order[first : first + BATCH]
            batch = tokenizer(
                [texts[i] for i in some],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=window,
            ).to(model.device)
            logits = model(**batch).logits[:, place]
            found[some] = torch.sigmoid(logits.double()).cpu().numpy()
    return found


DETOXIFY = register(
    Entry(
        "detoxify",
        classifier,
        arguments={
            "sha256": {
                "description": "Digest of the checkpoint; its directory is resources/sources/{sha256}",
                "type": "string",
                "pattern": "^[0-9a-fA-F]{64}$",
            }
        },
        required=("sha256",),
        higher_is_better=False,
    )
)
