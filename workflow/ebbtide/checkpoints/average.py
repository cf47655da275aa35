"""Averages of a model's checkpoints, which are a model of their own beside it: what they are and may be.

Everything here is known before anything runs: the identity of an average is a function of the identities of
its parents. `checkpoints.average_weights` makes the files.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ebbtide.checkpoints.findings import DROP, Finding
from ebbtide.checkpoints.hub.catalogue import HubModel
from ebbtide.checkpoints.on_disk import DiskModel
from ebbtide.checkpoints.schedule import pick
from ebbtide.errors import ConfigError
from ebbtide.files import digest
from ebbtide.grid import CHECKPOINTS, Checkpoint, Model
from ebbtide.notices import listed

AVERAGING_VERSION = 1
"""Increment by hand when the arithmetic changes."""

AVERAGED = "averaged"  # kind of the identity of an average, and the beginning of its marker's name
_COPIES = ("duplicate", "equal_to_main", "mixed_shards")  # findings: files that are those of another step
_WORDS = {"uniform": "mean", "linear": "linear", "exponential": "exponential"}  # in names


@dataclass(frozen=True)
class AveragedModel:
    """The averages of one model of a study.

    Attributes
    ----------
    last
        Number of checkpoints in each average: a checkpoint and those before it. 0: one average, of `steps`.
    weights
        `uniform`, `linear` or `exponential`, see `shares`.
    where
        File and key of `average`, for messages.
    """

    name: str
    parent: Model | DiskModel
    last: int
    steps: tuple[int, ...]
    weights: str
    where: str

    def model(self) -> Model:
        """The row of the grid: one checkpoint per average, in the order of training."""
        parent = self.parent.model() if isinstance(self.parent, DiskModel) else self.parent
        found = parent.checkpoints
        if self.last:
            groups = [found[end - self.last : end] for end in range(self.last, len(found) + 1)]
        else:
            groups = [tuple(checkpoint for checkpoint in found if checkpoint.step in self.steps)]
        return Model(self.name, tuple(_average(self, group) for group in groups if group))

    def check(self, findings: Sequence[Finding]) -> None:
        """Raise `ConfigError` if the audit drops a parent, or has found that it is a copy of another one."""
        for finding in findings:
            if finding.model != self.parent.name:
                continue
            concerned = [step for step in finding.steps if self.last or step in self.steps]
            if concerned and (finding.action == DROP or finding.finding in _COPIES):
                what = "drops" if finding.action == DROP else "has a finding about"
                raise ConfigError(
                    f"{self.where}: the audit {what} step {listed(concerned)} of {finding.model} "
                    f"({finding.finding}: {finding.detail}), which cannot be averaged; leave it out of the "
                    f"{'steps of the row' if self.last else 'steps of the average'}."
                )


def averaged_name(model: str, average: Mapping[str, Any]) -> str:
    """Name of the model of averages: `my-run-mean5`. `average` is valid by its schema."""
    return f"{model}-{_WORDS[average['weights']]}{average.get('last') or len(average.get('steps', ()))}"


def averaged_model(
    parent: Model | HubModel | DiskModel, average: Mapping[str, Any], where: str
) -> AveragedModel:
    """Return the averages that the key `average` of a row requests of one of its models.

    Raises `ConfigError` for both or neither of `last` and `steps`, a step that the row does not have, more
    checkpoints than it has, or a model from a hub.
    """
    if isinstance(parent, HubModel):
        raise ConfigError(
            f"{where}: found for {parent.name}, which is fetched; allowed: models trained here or on disk. "
            "Fetched checkpoints are removed when they have been scored (weights.disk_gb), and an average "
            "needs several at a time. Download them into directories, and name these with `path:`."
        )
    if ("last" in average) == ("steps" in average):
        found = "both last and steps" if "last" in average else "neither last nor steps"
        raise ConfigError(f"{where}: found {found}; allowed: one of them.")
    known = _steps(parent)
    if "last" in average and average["last"] > len(known):
        raise ConfigError(
            f"{where}.last: found {average['last']}, but {parent.name} has {len(known)} checkpoints in this "
            f"study; allowed: 1 to {len(known)}."
        )
    steps = pick(average.get("steps", []), known, f"{where}.steps", f"{parent.name} in this study")
    name = averaged_name(parent.name, average)
    return AveragedModel(name, parent, average.get("last", 0), tuple(steps), average["weights"], where)


def check_averages(rows: Iterable[object], findings: Sequence[Finding]) -> None:
    """Raise `ConfigError` for a parent of an average that the audit refuses."""
    for row in rows:
        if isinstance(row, AveragedModel):
            row.check(findings)


def shares(weights: str, count: int) -> tuple[int, ...]:
    """Relative weights of `count` checkpoints, oldest first; they are divided by their sum.

    `uniform`: 1, 1, 1, … `linear`: 1, 2, 3, … `exponential`: 1, 2, 4, …
    """
    match weights:
        case "uniform":
            return (1,) * count
        case "linear":
            return tuple(range(1, count + 1))
        case "exponential":
            return tuple(2**k for k in range(count))
    raise ValueError(weights)


def average_identity(weights: Sequence[str], shares: Sequence[int], tokenizer: str) -> str:
    """Identity of an average from the identities of its parents' weights and the tokenizer it gets."""
    parents = [list(pair) for pair in zip(weights, shares, strict=True)]
    return digest({"parents": parents, "tokenizer": tokenizer, "averaging_version": AVERAGING_VERSION})


def average_spec(checkpoint: Checkpoint, store: str) -> dict[str, Any]:
    """What `average_weights.average_to_marker` needs to make a checkpoint, as JSON; `store` has the cells."""
    keys = ("model", "name", "marker", "weights", "tokenizer")
    return {
        "parents": [{key: getattr(parent, key) for key in keys} for parent in checkpoint.parents],
        "shares": list(checkpoint.shares),
        "store": store,
    }


def _average(model: AveragedModel, parents: Sequence[Checkpoint]) -> Checkpoint:
    newest, dtypes = parents[-1], {parent.dtype: parent for parent in parents}
    if len(dtypes) > 1:
        found = " and ".join(f"{dtype} ({parent.name})" for dtype, parent in dtypes.items())
        raise ConfigError(
            f"{model.where}: found parents of {newest.model} saved in {found}; allowed: one precision."
        )
    weights = shares(model.weights, len(parents))
    identity = average_identity([parent.weights for parent in parents], weights, newest.tokenizer)
    name = f"{newest.name}-{_WORDS[model.weights]}{len(parents)}"
    return Checkpoint(
        model=model.name,
        name=name,
        step=newest.step,
        tokens=newest.tokens,
        weights=f"{AVERAGED}:{identity}",
        tokenizer=newest.tokenizer,
        marker=f"{CHECKPOINTS}/{model.name}/{name}/{AVERAGED}-{identity}.json",
        size_bytes=newest.size_bytes,
        dtype=newest.dtype,
        nominal=newest.nominal,
        parents=tuple(parents),
        shares=weights,
    )


def _steps(parent: Model | DiskModel) -> list[int]:
    """All steps that the row requests, also those of directories that cannot be loaded."""
    return [one.step for one in (parent.directories if isinstance(parent, DiskModel) else parent.checkpoints)]
