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

AVERAGED = "averaged"  # kind of the identity of an average, and the beginning of its directory's name
_COPIES = ("duplicate", "equal_to_main", "mixed_shards")  # findings: files that are those of another step
_WORDS = {"uniform": "mean", "linear": "linear", "exponential": "exponential"}  # in names


@dataclass(frozen=True)
class AveragedModel:
    """The averages of one model of a study.

    Attributes
    ----------
    parent
        The model whose checkpoints are averaged.
    last
        Number of checkpoints in each average: a checkpoint and those before it. 0: one average, of `steps`.
    weights
        `uniform`, `linear` or `exponential`, see `shares`.
    where
        File and key of `average`, for messages.
    """

    name: str
    parent: Model | HubModel | DiskModel
    last: int
    steps: tuple[int, ...]
    weights: str
    where: str

    def model(self, found: Sequence[Checkpoint]) -> Model:
        """The row of the grid: one checkpoint per average, in the order of training.

        `found` are the checkpoints of the parent, in that order. Averages do not cross stages of training.
        Raises `ConfigError` for parents of two precisions, and for `last` or `steps` that do not fit them.
        """
        self.check_steps([checkpoint.step for checkpoint in found])
        stages: dict[str, list[Checkpoint]] = {}
        for checkpoint in found:
            stages.setdefault(checkpoint.name.removesuffix(f"step{checkpoint.step}"), []).append(checkpoint)
        if self.last:
            groups = [
                stage[end - self.last : end]
                for stage in stages.values()
                for end in range(self.last, len(stage) + 1)
            ]
            if not groups:
                most = max(map(len, stages.values()))
                raise ConfigError(
                    f"{self.where}.last: found {self.last}, but no stage of training of {self.parent.name} "
                    f"has more than {most} checkpoints in this study; allowed: 1 to {most}."
                )
        else:
            chosen = [[c for c in stage if c.step in self.steps] for stage in stages.values()]
            groups = [group for group in chosen if group]
            if len(groups) > 1:
                raise ConfigError(
                    f"{self.where}.steps: found {listed(group[0].name for group in groups)}, which are of "
                    "different stages of training; allowed: steps of one stage."
                )
        return Model(self.name, tuple(_average(self, group) for group in groups))

    def check_steps(self, known: Sequence[int]) -> None:
        """Raise `ConfigError` for a step that is not known, or more checkpoints than there are."""
        if self.last > len(known):
            raise ConfigError(
                f"{self.where}.last: found {self.last}, but {self.parent.name} has {len(known)} checkpoints "
                f"in this study; allowed: 1 to {len(known)}."
            )
        pick(self.steps, known, f"{self.where}.steps", f"{self.parent.name} in this study")

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

    Raises `ConfigError` for both or neither of `last` and `steps`, and for a step that the row does not have
    or more checkpoints than it has; for a model from a hub, `AveragedModel.model` does so, by the lock.
    """
    if ("last" in average) == ("steps" in average):
        found = "both last and steps" if "last" in average else "neither last nor steps"
        raise ConfigError(f"{where}: found {found}; allowed: one of them.")
    if isinstance(parent, HubModel) and parent.remote_code:
        raise ConfigError(
            f"{where}: found for {parent.name} with remote_code: true; allowed: models without. The code of "
            "a repository runs only beside the weights it was fetched with."
        )
    name, steps = averaged_name(parent.name, average), tuple(sorted(average.get("steps", [])))
    model = AveragedModel(name, parent, average.get("last", 0), steps, average["weights"], where)
    if not isinstance(parent, HubModel):
        model.check_steps(_steps(parent))
    return model


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
        marker=f"{CHECKPOINTS}/{model.name}/{name}/{AVERAGED}-{identity}",
        size_bytes=newest.size_bytes,
        dtype=newest.dtype,
        nominal=newest.nominal,
        generation=newest.generation,
        parents=tuple(parents),
        shares=weights,
    )


def _steps(parent: Model | DiskModel) -> list[int]:
    """All steps that the row requests, also those of directories that cannot be loaded."""
    return [one.step for one in (parent.directories if isinstance(parent, DiskModel) else parent.checkpoints)]
