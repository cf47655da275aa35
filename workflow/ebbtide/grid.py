"""The rows of the grid: models and their checkpoints, wherever the weights come from.

Paths follow one grammar, `resources/checkpoints/{model}/{checkpoint}/`: weights made here, weights brought
here, or the record of a directory elsewhere. What stands for "the weights of this identity are there" carries
the identity in its *name*, so that another identity is a missing file for Snakemake.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHECKPOINTS = "resources/checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """One point of training of one model."""

    model: str
    name: str  # `step512`: a path component
    step: int
    tokens: int  # training tokens seen; 0 is untrained or unknown
    weights: str  # identity of the weights
    tokenizer: str  # identity of the tokenizer
    marker: str  # what exists when the weights can be loaded; see `checkpoints.directory.directory_of`
    size_bytes: int  # of the weights; 0 for a laptop ladder
    dtype: str  # their own precision (see `ebbtide.checkpoints.precision`)
    peak_disk_bytes: int = 0  # that it takes on disk at most, while it is fetched; 0 if it is not
    nominal: int = 0  # parameters by the model's name, which papers regress on; 0 is none


@dataclass(frozen=True)
class Model:
    """A row of the grid: checkpoints in the order of training, and the recipe if it is trained here."""

    name: str
    checkpoints: tuple[Checkpoint, ...]
    training: Mapping[str, Any] | None = None  # spec of `ebbtide.training.train`, without the steps to keep
