"""The rows of the grid: models and their checkpoints, whatever the origin of the weights.

All paths are `resources/checkpoints/{model}/{checkpoint}/`. They contain trained, averaged or
fetched weights, or the record of a directory elsewhere. The file that marks weights as available has their
identity in its *name*, so for Snakemake another identity is a missing file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHECKPOINTS = "resources/checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of one model."""

    model: str
    name: str  # `step512`: a path component
    step: int
    tokens: int  # training tokens seen; 0 is untrained or unknown
    weights: str  # identity of the weights
    tokenizer: str  # identity of the tokenizer
    marker: str  # what exists when the weights can be loaded; see `checkpoints.directory.directory_of`
    size_bytes: int  # of the weights; 0 for a laptop ladder
    dtype: str  # precision they were saved in (see `ebbtide.checkpoints.precision`)
    peak_disk_bytes: int = 0  # most bytes of a copy while it is fetched or converted; 0 if it is not
    nominal: int = 0  # parameters by the model's name, used by papers as a predictor; 0 is none
    generation: str = ""  # identity of the files that only generation reads; empty without such files
    parents: tuple["Checkpoint", ...] = ()  # of an average: the checkpoints it is made of, oldest first
    shares: tuple[int, ...] = ()  # of an average: the relative weight of each parent


@dataclass(frozen=True)
class Model:
    """A row of the grid: checkpoints in the order of training, and the recipe of a model trained here."""

    name: str
    checkpoints: tuple[Checkpoint, ...]
    training: Mapping[str, Any] | None = None  # spec of `ebbtide.training.train`, without the steps to keep
    arm: str = ""  # models of an arm differ only by size and seed (see `study.arms`); empty is none
    seed: int | None = None  # None is unknown
    parameters: int = 0  # all of them; 0 is unknown before the model is scored
