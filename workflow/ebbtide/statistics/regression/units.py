"""What the regressions count as independent: models, or sizes where models differ only by seed."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ebbtide.statistics.replicates import Place, replicates

MIN_UNITS = 3  # leaves one degree of freedom


class Units(NamedTuple):
    """The units of models that have replicates among them.

    Attributes
    ----------
    size_of
        Model → label of its size; models of unknown size have their own.
    of
        Model → its unit: its size, or itself if there are too few sizes to see how they differ.
    runs, sizes
        Number of models that have a slope, and of their sizes.
    note
        Empty if units are sizes.
    """

    size_of: dict[str, str]
    of: dict[str, str]
    runs: int
    sizes: int
    note: str = ""

    @property
    def by(self) -> str:
        """`size` or `run`."""
        return "run" if self.note else "size"


def units_of(checkpoints: Mapping[str, int], places: Mapping[str, Place]) -> Units | None:
    """Return the units of models, or None if no two of them are replicates: each is a unit then.

    Runs of one size share what is peculiar to that size, also when their arms differ.

    Parameters
    ----------
    checkpoints
        Model → number of its checkpoints with different tokens. Models with one have no slope.
    places
        Model → its arm and size, of `replicates.places_of_study`.
    """
    placed = {model: places[model] for model in checkpoints if model in places}
    if not replicates(placed):
        return None
    size_of = {m: placed[m].size if m in placed and placed[m].parameters else m for m in checkpoints}
    with_slope = [model for model, count in checkpoints.items() if count > 1]
    runs, sizes = len(with_slope), len({size_of[model] for model in with_slope})
    if sizes >= MIN_UNITS:
        return Units(size_of, size_of, runs, sizes)
    note = f"{sizes} sizes only: runs are compared, and p says nothing about other sizes"
    return Units(size_of, {model: model for model in checkpoints}, runs, sizes, note)


def units_of_cells(models: Iterable[str], tokens: np.ndarray, places: Mapping[str, Place]) -> Units | None:
    """Return the units of models from the `models` and `tokens` of their cells; see `units_of`."""
    if not places:
        return None
    distinct: dict[str, set[float]] = {}
    for model, of in zip(models, tokens, strict=True):
        distinct.setdefault(model, set()).add(float(of))
    return units_of({model: len(of) for model, of in distinct.items()}, places)
