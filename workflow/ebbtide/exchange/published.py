"""Models of the catalogue of series (workflow/series): sizes, steps, training tokens, arms, seeds by name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ebbtide.checkpoints.hub.catalogue import PRETRAINING, Stage, series_models
from ebbtide.checkpoints.series import CATALOGUE, read_series
from ebbtide.errors import CheckpointError
from ebbtide.parameters import count


@dataclass(frozen=True)
class Published:
    """A model of the catalogue.

    Attributes
    ----------
    series
        Name of its series.
    repo
        Repository; empty if every step has its own (`repos`).
    parameters
        Counts `total, non_embedding, active, nominal`, as far as they are known.
    arm, seed
        As the series states them; "" and None if it does not.
    """

    name: str
    series: str
    repo: str
    repos: Mapping[int, str]
    parameters: Mapping[str, int]
    stages: tuple[Stage, ...]
    arm: str = ""
    seed: int | None = None

    def at(self, revision: str, repository: str = "") -> tuple[Stage, int] | None:
        """The stage and the step of a revision; None if the series has no such revision."""
        for step, repo in self.repos.items():
            if repo == repository:
                return self.stages[0], step
        steps = ((stage, stage.step_of(revision)) for stage in self.stages)
        return next(((stage, step) for stage, step in steps if step is not None), None)

    @property
    def last(self) -> int | None:
        """The last step of pre-training, if the catalogue lists the steps."""
        steps = self.stages[0].steps
        return max(steps) if steps else None


@cache
def published(model: str) -> Published | None:
    """The model of a repository of the catalogue, or of a name without owner; None for any other, and paths.

    A directory that is called like a published model may contain something else.
    """
    model = model.strip("/")
    short = model.rsplit("/", 1)[-1]
    for file in sorted(CATALOGUE.glob("[!_]*.yaml")):
        if short and short in file.read_text(encoding="utf-8"):
            for one in _models(file):
                names = {one.name, *(repo.rsplit("/", 1)[-1] for repo in (one.repo, *one.repos.values()))}
                if model in (one.repo, *one.repos.values()) or (short == model and short in names):
                    return one
    return None


@cache
def _models(file: Path) -> tuple[Published, ...]:
    return tuple(_read(file))


def _read(file: Path) -> Iterator[Published]:
    series, is_ladder = read_series(file)
    if is_ladder:
        return
    for name, own in series["models"].items():
        later = {**series.get("stages", {}), **own.get("stages", {})}
        row = {
            "stages": [PRETRAINING, *later],
            "steps": "all",
            "format": own.get("formats", series["formats"])[0],
            "remote_code": False,
        }
        [model] = series_models(series, [name], row, str(file), str(file))
        try:
            found = count(model.architecture) if model.architecture else None
        except CheckpointError:
            found = None
        sizes = {"nominal": model.nominal}
        if found:
            sizes |= {
                "total": found.total,
                "non_embedding": found.non_embedding,
                "active": found.active_non_embedding,
            }
        yield Published(
            name, file.stem, model.repo, model.repos or {}, sizes, model.stages, model.arm, model.seed
        )


def size_in_name(name: str) -> int:
    """The size that the name of a model states (70000000 for `my-70m`); 0 for none or several."""
    found = {
        round(float(number) * {"m": 1e6, "b": 1e9}[unit.lower()])
        for number, unit in re.findall(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z0-9])", name)
    }
    return found.pop() if len(found) == 1 else 0
