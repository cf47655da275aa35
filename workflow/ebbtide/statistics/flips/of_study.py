"""Flips between any two checkpoints of a study, from its cells."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ebbtide.cells.store import is_whole, path_of, unusable
from ebbtide.errors import CellError, ConfigError, TaskError, nearest
from ebbtide.grid import Checkpoint
from ebbtide.jobs.leads import cell_path
from ebbtide.metrics.direction import find_metric
from ebbtide.metrics.examples import Examples
from ebbtide.metrics.of_cell import example_rows, incomparable
from ebbtide.metrics.registry import reported
from ebbtide.notices import listed
from ebbtide.statistics.flips.answers import answers_of
from ebbtide.statistics.flips.cells import Cells
from ebbtide.statistics.flips.of_alarms import by_task, texts_by_task
from ebbtide.statistics.flips.others import nearest_checkpoint, with_other_models
from ebbtide.statistics.flips.tables import PLACES, FlipTables, flip_tables, with_tokens
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.same_tokens import tolerance_of
from ebbtide.study.checks import check_checkpoints
from ebbtide.study.study import Study

_LISTED = 12  # names in a message


class Flips(NamedTuple):
    """The tables, and a sentence for each task that is not in them."""

    tables: FlipTables
    left_out: list[str]


def flips_between(
    study: Study,
    model: str,
    before: str,
    after: str,
    *,
    tasks: Sequence[str] = (),
    metric: str | None = None,
    most: int | None = None,
) -> Flips:
    """Return the examples that changed between two checkpoints.

    Parameters
    ----------
    model
        Model of both checkpoints, unless their names say otherwise.
    before, after
        The name or step of a checkpoint, or `MODEL/CHECKPOINT`.
    tasks
        Tasks to look at; they must be scored at both checkpoints. Without any, those that are.
    metric
        Metric to compare; None is those of `trajectories.metrics` that a task has, or else its first.
    most
        See `flip_tables`.

    Raises
    ------
    ConfigError
        The study has no such model, checkpoint or task.
    CellError
        A cell is missing or damaged.
    TaskError
        A task does not have the metric, or examples cannot be compared by it.
    """
    if study.unlocked:
        check_checkpoints(study)
    old, new = _checkpoint(study, model, before, "--from"), _checkpoint(study, model, after, "--to")
    if old == new:
        raise ConfigError(
            f"--from and --to: found {old.model}/{old.name} for both; allowed: two different checkpoints."
        )
    for task in tasks:
        if task not in study.tasks:
            hint = " Give the study before the options." if Path(task).suffix in (".yaml", ".yml") else ""
            raise ConfigError(
                f"--task: found {task!r}, which is not a task of {study.file}; allowed: "
                f"{listed(study.tasks, _LISTED)}{nearest(task, list(study.tasks)) or '.'}{hint}"
            )
    cells = cells_of(study)
    pairs: list[dict[str, str]] = []
    left_out: list[str] = []
    errors: list[CellError | TaskError] = []
    for task in dict.fromkeys(tasks or study.tasks):
        try:
            read = [cells.examples(of.model, of.name, task) for of in (old, new)]
            metrics = _metrics(study, task, read[0], metric)
        except (CellError, TaskError) as error:
            if tasks:
                raise
            errors.append(error)
            left_out.append(f"{task} is left out: {error.args[0]}")
            continue
        where = {"model": new.model, "from_model": old.model, "from": old.name, "to": new.name}
        pairs += [{**where, "task": task, "metric": one, "against": "", "severity": ""} for one in metrics]
    if not pairs:
        raise errors[0] if errors else ConfigError(f"{study.file}: tasks: found none; allowed: at least one.")
    frame = with_tokens(pd.DataFrame(pairs), _places(study))
    found = flip_tables(
        frame,
        lambda *where: answers_of(cells.examples(*where[:3]), where[3]),
        texts_by_task(by_task({task: study.tasks[task].frozen for task in frame["task"].unique()})),
        most,
    )
    others = list(_other_models(study, cells, frame))
    return Flips(
        found._replace(
            examples=with_other_models(found.examples, others, study.averaged(), tolerance_of(study.config))
        ),
        left_out,
    )


def cells_of(study: Study) -> Cells:
    """Return the cells of a study, from its store or its results."""

    def place(model: str, checkpoint: str, task: str) -> tuple[Path, Mapping[str, Any]]:
        found = study.checkpoint(model, checkpoint)
        identity = study.identity(found, task)
        paths = [path_of(study.config["scoring"]["store"], identity), Path(cell_path(found, task))]
        whole = [path for path in paths if is_whole(path, identity)]
        if not whole:
            why = next((f"{p} {reason}" for p in paths if (reason := unusable(p, identity))), "")
            raise CellError(
                f"{model}/{checkpoint} is not scored on {task}: "
                f"{why or f'{paths[0]} and {paths[1]} do not exist'}. To score it, run: "
                f"snakemake --cores all --configfile {study.file} {paths[1]}"
            )
        return whole[0], identity

    return Cells(
        {name: task.frozen for name, task in study.tasks.items()},
        {name: task.measuring for name, task in study.tasks.items()},
        place,
    )


def _checkpoint(study: Study, model: str, wanted: str, option: str) -> Checkpoint:
    """Return a checkpoint by its name or step, or `MODEL/CHECKPOINT`. Raises `ConfigError`."""
    owner, _, name = wanted.rpartition("/")
    owner, option_of_model = (owner, option) if owner else (model, "--model")
    if owner not in study.models:
        imported = " The log-likelihoods of imported results are not kept." if study.imported else ""
        raise ConfigError(
            f"{option_of_model}: found {owner!r}, which is not a scored model of {study.file}; allowed: "
            f"{listed(study.models, _LISTED) or 'none'}{nearest(owner, list(study.models)) or '.'}{imported}"
        )
    checkpoints = study.models[owner].checkpoints
    for one in checkpoints:
        if name in (one.name, str(one.step)):
            return one
    names = [one.name for one in checkpoints]
    raise ConfigError(
        f"{option}: found {name!r}, but {owner} has no such checkpoint; allowed: "
        f"{listed(names, _LISTED) or 'none'}, or their steps{nearest(name, names) or '.'}"
    )


def _metrics(study: Study, task: str, x: Examples, wanted: str | None) -> list[str]:
    """Return the metrics to compare: the one asked for, or those that alarms follow."""
    allowed = [m.name for m in reported(x.kind.name, x.columns, None) if not incomparable(m)]
    if not allowed:
        raise TaskError(f"{task}: no metric of the kind {x.kind.name} can compare single examples.")
    if wanted is not None:
        if wanted not in allowed:
            raise TaskError(
                f"--metric: found {wanted!r}{_why_not(x, wanted)}; allowed for {task}: {', '.join(allowed)}"
                f"{nearest(wanted, allowed) or '.'}"
            )
        return [wanted]
    rows = example_rows(x, study.tasks[task].measuring)
    found = [name for name in rows if name in allowed and not np.isnan(rows[name]).all()]
    return [name for name in study.config["trajectories"]["metrics"] if name in found] or found[:1]


def _why_not(x: Examples, metric: str) -> str:
    """Why examples cannot be compared by a metric, as a clause; empty if there is no such metric."""
    found = find_metric(metric)
    if found is None:
        return ""
    if x.kind.name not in found.kinds:
        return f", which is not a metric of the kind {x.kind.name}"
    lacking = [name for name in found.needs if name not in x.columns]
    needs = f"which needs {', '.join(lacking)}, which neither the requests nor the cell have"
    return f", {incomparable(found) or needs}"


def _places(study: Study) -> pd.DataFrame:
    return pd.DataFrame(
        [(c.model, c.name, c.step, c.tokens) for c in study.checkpoints()], columns=list(PLACES)
    )


def _other_models(study: Study, cells: Cells, pairs: pd.DataFrame) -> Iterator[Trajectory]:
    """Yield the two checkpoints of every other model that are comparable with the pair and scored."""
    first = pairs.iloc[0]
    if first["from_model"] != first["model"] or pairs[["from_tokens", "to_tokens"]].isna().any(axis=None):
        return
    places = _places(study)
    for model, own in places.groupby("model", sort=False):
        if model == first["model"]:
            continue
        old, new = (
            nearest_checkpoint(own, first[end], tolerance_of(study.config))
            for end in ("from_tokens", "to_tokens")
        )
        if old is None or new is None or old == new:
            continue
        checkpoints = own.iloc[[old, new]].reset_index(drop=True)
        for task, of_task in pairs.groupby("task", sort=False):
            try:
                read = [cells.examples(str(model), name, str(task)) for name in checkpoints["checkpoint"]]
            except CellError:
                continue  # not scored, so not comparable; `other_models` counts those that are
            answers = {m: [answers_of(x, m) for x in read] for m in of_task["metric"]}
            examples = next(iter(answers.values()))[0].examples
            yield Trajectory(
                str(model),
                str(task),
                checkpoints,
                {},
                examples,
                np.arange(len(examples)),
                {metric: np.stack([one.values for one in of]) for metric, of in answers.items()},
            )
