"""Locks made by hand: models of the hub, and what a lock says of them."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ebbtide.checkpoints.hub.catalogue import PRETRAINING, HubModel, Stage
from ebbtide.checkpoints.hub.lock import Lock, Locked, LockedFile, LockedModel

CONFIG = {"model_type": "gpt_neox", "hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 64}


def sha(content: str) -> str:
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def git(content: str) -> str:
    return f"git:{hashlib.sha1(content.encode()).hexdigest()}"


def files(
    *shards: str, format: str = "safetensors", date: str = "2023-05-01", **more: str
) -> dict[str, LockedFile]:
    """Files of a revision whose weights have these contents; `more`: tokenizer, config, code."""
    stem = {"safetensors": "model", "bin": "pytorch_model"}[format]
    many = len(shards) > 1
    found = {
        f"{stem}-{n:05}-of-{len(shards):05}.{format}" if many else f"{stem}.{format}": LockedFile(
            sha(shard), 1000, date
        )
        for n, shard in enumerate(shards, start=1)
    }
    if many:
        index = "model.safetensors.index.json" if format == "safetensors" else "pytorch_model.bin.index.json"
        found[index] = LockedFile(git("index"), 30, date)
    found["config.json"] = LockedFile(git(more.get("config", "config")), 100, date)
    found["tokenizer.json"] = LockedFile(git(more.get("tokenizer", "words")), 50, date)
    if "code" in more:
        found["modeling.py"] = LockedFile(git(more["code"]), 10, date)
    return found


def model(steps: Sequence[int], schedule: Any = "all", **changes: Any) -> HubModel:
    settings: dict[str, Any] = {
        "name": "tiny",
        "repo": "lab/tiny",
        "stages": (Stage(PRETRAINING, ("step{step}",), tuple(steps), tokens_per_step=100),),
        "schedule": schedule,
        "format": "safetensors",
        "where": "study.yaml: models[0]",
        "source": "tiny.yaml",
    }
    return HubModel(**{**settings, **changes})


def lock(
    revisions: Mapping[int | str, Mapping[str, LockedFile]],
    *,
    name: str = "tiny",
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    moved: Mapping[int, str] | None = None,
) -> Lock:
    """A lock of one model: step (or `main`) → files."""
    checkpoints = {}
    for step, content in revisions.items():
        key = step if isinstance(step, str) else f"step{step}"
        commit = hashlib.sha1(key.encode()).hexdigest()
        number = None if isinstance(step, str) else step
        checkpoints[key] = Locked("lab/tiny", key, commit, number, content, (moved or {}).get(number or -1))
    offered = tuple(sorted(step for step in revisions if isinstance(step, int)))
    known = {git("config"): CONFIG} if configs is None else configs
    return Lock({name: LockedModel({PRETRAINING: offered}, checkpoints)}, known)
