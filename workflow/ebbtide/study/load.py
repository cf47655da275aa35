"""Load a study: configuration files in, a checked study out."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.directory_audit import audit_directories, equal_across_models
from ebbtide.checkpoints.findings import STOP, allowances, dropped, worst_first
from ebbtide.checkpoints.hub.audit import audit
from ebbtide.checkpoints.hub.catalogue import HubModel, checkpoint_of
from ebbtide.checkpoints.hub.lock import Lock, lock_path, read_lock
from ebbtide.checkpoints.on_disk import DiskModel
from ebbtide.checkpoints.series import models_of
from ebbtide.errors import ConfigError
from ebbtide.exchange.specification import check_row
from ebbtide.grid import Model
from ebbtide.schema import check, load_schema, read_yaml, relative
from ebbtide.sources import mirrors
from ebbtide.study.allowed_alarms import check_allow, with_dates_as_text
from ebbtide.study.arms import check_runs, runs_of
from ebbtide.study.checks import (
    apply_results_choice,
    check_checkpoints,
    check_scaling,
    check_trajectories,
    check_worlds,
    find_published,
    refuse_old_names,
)
from ebbtide.study.claim import check_claim, claim_of
from ebbtide.study.study import Study
from ebbtide.tasks.definition import Task, load_tasks


def load_study(
    config: Mapping[str, Any],
    files: Sequence[str | Path],
    results: str | None = None,
    only: Collection[str] | None = None,
    *,
    uses_results: bool = True,
) -> Study:
    """Check a configuration and resolve its grid.

    Parameters
    ----------
    config
        The merged configuration.
    files
        The files it was read from; messages name the one with the key at fault.
    results
        `scored`, `imported` or `both`; overrides the configuration.
    only
        Names of the models that a job of a run needs. Other models are left out, and the checks of the whole
        study, which the run itself has made.
    uses_results
        False for a caller that neither reads nor writes `results/{study}/`, which may be another study's.

    Raises
    ------
    ConfigError
        One sentence: file, key, found, allowed.
    """
    raw = {str(relative(file)): read_yaml(file) for file in files}

    def file_of(key: str) -> str:
        """Return the last file that sets a top-level key, or the command line if its value is from there."""
        holders = [file for file, content in raw.items() if key in content]
        if holders and raw[holders[-1]][key] == config.get(key):
            return holders[-1]
        return "--config" if key in config or not raw else list(raw)[-1]

    refuse_old_names(config, file_of)
    checked = check(with_dates_as_text(config), load_schema("config"), file_of)
    for switch in ("recompute", "replace_results"):
        checked[switch] = checked[switch] in (True, "true")  # `--config recompute=true` passes text
    checked["scoring"]["store"] = str(Path(checked["scoring"]["store"]).expanduser())

    mirrors(checked["mirrors"])
    apply_results_choice(checked, results or checked["results"], file_of)
    check_trajectories(checked, file_of)
    find_published(checked["regression"], file_of("regression"))
    imported = tuple(
        check_row(row, f"{file_of('imported')}: imported[{number}]")
        for number, row in enumerate(checked["imported"])
    )
    rows = _rows(checked["models"], file_of("models"), only)
    hub = tuple(row for row in rows.values() if isinstance(row, HubModel))
    lock_file = str(lock_path(list(raw)[-1])) if raw else ""
    lock = read_lock(lock_file, only) if hub else Lock()
    unlocked = tuple(_unlocked(hub, lock))
    locked = [model for model in hub if model.is_listed(lock)]
    on_disk = tuple(row for row in rows.values() if isinstance(row, DiskModel))
    actions, allow = checked["audit"], allowances(checked["audit"]["allow"])
    found = [*audit(locked, lock, actions, allow), *audit_directories(on_disk, actions, allow)]
    out = dropped(found)
    models = _grid(rows, lock, out)
    found += equal_across_models(models, on_disk, actions, allow)
    findings = tuple(worst_first(found))
    if dropped(findings) != out:
        models = _grid(rows, lock, dropped(findings))
    tasks = {} if unlocked else _tasks(checked["tasks"], file_of("tasks"))
    check_worlds(models, tasks)
    whole = only is None
    if whole and not unlocked:
        check_allow(
            checked["alarms"]["allow"],
            models,
            tasks,
            f"{file_of('alarms')}: alarms.allow",
            imports=bool(imported),
        )
    if "scaling_laws" in checked and whole and not unlocked:
        check_scaling(checked["scaling_laws"], models, tasks, f"{file_of('scaling_laws')}: scaling_laws")
    if "runs" in checked and whole and not unlocked:
        check_runs(
            checked["runs"],
            runs_of(models.values()),
            tasks,
            f"{file_of('runs')}: runs",
            partial=bool(imported),
        )
    cells = sum(len(model.checkpoints) for model in models.values()) * len(tasks)
    claim = claim_of(raw, cells)
    if whole and uses_results and not checked["replace_results"]:
        check_claim(checked["study"], claim, file_of("study"))
    study = Study(
        checked["study"],
        checked,
        models,
        tasks,
        imported,
        hub,
        lock_file,
        findings,
        unlocked,
        file_of("scoring"),
        on_disk=on_disk,
        claim=claim,
        lock=lock,
    )
    # Otherwise the caller checks, because locking and auditing must remain possible.
    if whole and not hub and not any(finding.action == STOP for finding in findings):
        check_checkpoints(study)
    return study


def _rows(
    rows: Sequence[Mapping[str, Any]], file: str, only: Collection[str] | None
) -> dict[str, Model | HubModel | DiskModel]:
    models: dict[str, Model | HubModel | DiskModel] = {}
    for number, row in enumerate(rows):
        where = f"{file}: models[{number}]"
        if only is not None and row.get("name", next(iter(only))) not in only:
            continue  # reading a directory may take long; a row of a series has no name
        for model in models_of(row, where):
            if model.name in models:
                raise ConfigError(f"{where}: found a second model named {model.name!r}; names must differ.")
            models[model.name] = model
    return models if only is None else {name: model for name, model in models.items() if name in only}


def _unlocked(hub: Sequence[HubModel], lock: Lock) -> Iterator[str]:
    """List the models and steps that are missing from the lock."""
    for model in hub:
        if not model.is_listed(lock):
            model.steps({})  # an unknown step is an error even before the hub is queried
            yield model.name
            continue
        steps = [str(w.step) for w in model.wanted(lock) if w.locked is None and w.offered]
        if steps:
            yield f"{model.name} step {', '.join(steps[:5])}{' …' if len(steps) > 5 else ''}"


def _grid(
    rows: Mapping[str, Model | HubModel | DiskModel], lock: Lock, out: set[tuple[str, str]]
) -> dict[str, Model]:
    """Return the rows of the grid, without the (model, checkpoint) in `out`."""
    grid = {}
    for name, row in rows.items():
        if isinstance(row, HubModel):
            grid[name] = _locked(row, lock, out)
        else:
            grid[name] = row.model(out) if isinstance(row, DiskModel) else row
    return grid


def _locked(model: HubModel, lock: Lock, out: set[tuple[str, str]]) -> Model:
    """Return the row of the grid: checkpoints that are locked and not dropped by the audit."""
    checkpoints = [
        checkpoint_of(model, wanted, wanted.locked, lock)
        for wanted in (model.wanted(lock) if model.is_listed(lock) else ())
        if wanted.locked and (model.name, wanted.name) not in out
    ]
    return Model(model.name, tuple(checkpoints), arm=model.arm, seed=model.seed)


def _tasks(names: Sequence[str], file: str) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for number, name in enumerate(names):
        made = load_tasks(name, f"{file}: tasks[{number}]")
        if twice := [task for task in made if task in tasks]:
            raise ConfigError(
                f"{file}: tasks[{number}]: found a second task named {twice[0]!r}; names must differ."
            )
        tasks |= made
    return tasks


def read_study(*files: str | Path, results: str | None = None, uses_results: bool = True) -> Study:
    """Load a study from its YAML files, without Snakemake; later files override earlier ones.

    See `load_study` for `results` and `uses_results`.
    """
    config: dict[str, Any] = {}
    for file in files:
        config = _merged(config, read_yaml(file))
    return load_study(config, files, results, uses_results=uses_results)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base`, key by key, as Snakemake merges several --configfile."""
    nested = {k: _merged(base[k], v) for k, v in over.items() if _both_are_mappings(base.get(k), v)}
    return {**base, **over, **nested}


def _both_are_mappings(one: Any, other: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(other, Mapping)
