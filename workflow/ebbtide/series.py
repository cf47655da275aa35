"""The model catalogue: what a series or a directory on disk offers, as checkpoints.

Paths follow one grammar, `resources/checkpoints/{model}/{checkpoint}/`: weights made here, or the record of a
directory elsewhere. For weights made here, the file that says "the weights of this identity are there"
carries the identity in its *name*, so that a changed recipe is a missing file for Snakemake.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.checkpoints import LOCATED, locate
from ebbtide.errors import CheckpointError, ConfigError, nearest
from ebbtide.recipe import check_spec, weights_identity
from ebbtide.validation import check, load_schema, read_yaml, relative

CATALOGUE = Path(__file__).parent.parent / "series"


@dataclass(frozen=True)
class Checkpoint:
    """One point of training of one model."""

    model: str
    name: str  # `step512`: a path component
    step: int
    tokens: int  # training tokens seen; 0 is untrained or unknown
    weights: str  # identity of the weights
    tokenizer: str  # identity of the tokenizer
    ready: str  # the file that exists when the weights can be loaded; `checkpoints.directory_of` knows where
    size_bytes: int  # of the weights; 0 for a laptop ladder
    dtype: str  # their own precision (see `ebbtide.precision`)


@dataclass(frozen=True)
class Model:
    """A row of the grid: checkpoints in the order of training, and the recipe if it is trained here."""

    name: str
    checkpoints: tuple[Checkpoint, ...]
    training: Mapping[str, Any] | None = None  # spec of `ebbtide.training`, without the steps to keep
    world: Mapping[str, Any] | None = None  # of the toy language it learns


def from_series(row: Mapping[str, Any], where: str) -> list[Model]:
    """Models of a series file: all of them and all their steps, or those that the row names.

    Raises `ConfigError` for an unknown series, size or step, or an invalid series file.
    """
    path = _series_file(row["series"], where)
    series = check(read_yaml(path), load_schema("series"), str(path))
    names = list(series["models"]) if row["sizes"] == "all" else row["sizes"]
    kept = sorted(series["checkpoints"])
    steps = kept if row["steps"] == "all" else sorted(row["steps"])
    for name in names:
        if name not in series["models"]:
            raise ConfigError(
                f"{where}.sizes: found {name!r}; allowed: {', '.join(series['models'])} "
                f"({path}){nearest(name, list(series['models'])) or '.'}"
            )
    for step in steps:
        if step not in kept:
            near = sorted(sorted(kept, key=lambda k: abs(k - step))[:2])
            raise ConfigError(
                f"{where}.steps: found {step}, which {path} does not keep; "
                f"nearest: {' and '.join(map(str, near))}; all: {', '.join(map(str, kept))}."
            )
    models = []
    for name in names:
        training = {"corpus": series["corpus"], "recipe": series["recipe"], "model": series["models"][name]}
        spec = check_spec({**training, "checkpoints": kept}, f"{path}: models.{name}")
        checkpoints = []
        for step in steps:
            weights = weights_identity({**training, "checkpoints": kept}, step)
            checkpoints.append(
                Checkpoint(
                    model=name,
                    name=f"step{step}",
                    step=step,
                    tokens=spec.tokens(step),
                    weights=f"trained:{weights}",
                    tokenizer="toy",
                    ready=f"resources/checkpoints/{name}/step{step}/trained-{weights}.json",
                    size_bytes=0,
                    dtype="float32",
                )
            )
        models.append(Model(name, tuple(checkpoints), training, series["corpus"]["world"]))
    return models


def on_disk(row: Mapping[str, Any], where: str) -> Model:
    """A model whose checkpoints are Hugging Face directories on disk.

    Raises `ConfigError` when a directory is missing or incomplete.
    """
    pattern, steps = row["path"], row.get("steps")
    if "{step}" in pattern and steps is None:
        raise ConfigError(
            f"{where}.steps: missing; path {pattern!r} has {{step}}, so the steps must be listed."
        )
    if "{step}" not in pattern and steps is not None and len(steps) > 1:
        raise ConfigError(
            f"{where}.path: found {pattern!r} for {len(steps)} steps; it must contain {{step}}."
        )
    checkpoints = []
    for step in sorted(steps or [0]):
        directory = Path(pattern.replace("{step}", str(step))).expanduser()
        name = f"step{step}" if steps else "main"
        ready = f"resources/checkpoints/{row['name']}/{name}/{LOCATED}"
        try:
            located = locate(directory, ready)
        except CheckpointError as error:
            raise ConfigError(f"{where}.path: {error.args[0]}") from error
        checkpoints.append(
            Checkpoint(
                model=row["name"],
                name=name,
                step=step,
                tokens=step * row["tokens_per_step"],
                weights=located.weights,
                tokenizer=located.tokenizer,
                ready=ready,
                size_bytes=located.size_bytes,
                dtype=located.dtype,
            )
        )
    return Model(row["name"], tuple(checkpoints))


def _series_file(name: str, where: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        if not Path(name).exists():
            raise ConfigError(f"{where}.series: {name} does not exist.")
        return Path(name)
    known = sorted(p.stem for p in CATALOGUE.glob("*.yaml"))
    if name not in known:
        raise ConfigError(
            f"{where}.series: found {name!r}; allowed: {', '.join(known)}, or the path of a YAML file"
            f"{nearest(name, known) or '.'}"
        )
    return relative(CATALOGUE / f"{name}.yaml")
