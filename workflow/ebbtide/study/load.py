"""Load a study: configuration files in, a checked study out."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.average import AveragedModel, averaged_name, check_averages
from ebbtide.checkpoints.directory_audit import audit_directories, equal_across_models
from ebbtide.checkpoints.findings import STOP, Finding, allowances, dropped, worst_first
from ebbtide.checkpoints.hub.audit import audit
from ebbtide.checkpoints.hub.catalogue import HubModel, checkpoint_of
from ebbtide.checkpoints.hub.lock import Lock, lock_path, read_lock
from ebbtide.checkpoints.left_out import LeftOut, left_out_findings
from ebbtide.checkpoints.on_disk import DiskModel
from ebbtide.checkpoints.series import Only, Row, models_of
from ebbtide.errors import ConfigError
from ebbtide.exchange.specification import check_row
from ebbtide.grid import Model
from ebbtide.schema import check, load_schema, read_yaml, relative
from ebbtide.sources import mirrors
from ebbtide.study.allowed_alarms import check_allow, with_dates_as_text
from ebbtide.study.arms import check_runs
from ebbtide.study.checks import (
    apply_results_choice,
    check_checkpoints,
    check_compute_trends,
    check_ratings,
    check_run_metrics,
    check_scaling,
    check_trajectories,
    check_worlds,
    find_published,
    refuse_old_names,
)
from ebbtide.study.claim import check_claim, claim_of
from ebbtide.study.compared import check_fairness, check_named, check_toxicity
from ebbtide.study.load_proofs import check_twins
from ebbtide.study.published_points import read_points
from ebbtide.study.study import Study
from ebbtide.tasks.definition import Task, load_tasks

FileOf = Callable[[str], str]  # a top-level key → the file that sets it, for messages


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
    file_of = partial(_file_of, raw, config)
    settings = _settings(config, results, file_of)
    imported = tuple(
        check_row(row, f"{file_of('imported')}: imported[{number}]")
        for number, row in enumerate(settings["imported"])
    )
    watch = settings["watch"]
    rows = _rows(settings["models"], file_of("models"), only, watch["only"])
    lock_file = str(lock_path(list(raw)[-1])) if raw else ""
    grid = _resolved(rows, lock_file, settings["audit"], watch["left_out"], only)
    tasks = {} if grid.unlocked else _tasks(settings["tasks"], file_of("tasks"))
    check_worlds(grid.models, tasks)
    cells = sum(len(model.checkpoints) for model in grid.models.values()) * len(tasks)
    study = Study(
        settings["study"],
        settings,
        grid.models,
        tasks,
        imported,
        grid.hub,
        grid.lock_file,
        grid.findings,
        grid.unlocked,
        file_of("scoring"),
        on_disk=grid.on_disk,
        claim=claim_of(raw, cells),
        lock=grid.lock,
    )
    if only is None:
        _check_whole(study, file_of, uses_results=uses_results)
    return study


def _file_of(raw: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any], key: str) -> str:
    """Return the last file that sets a top-level key, or the command line if its value is from there."""
    holders = [file for file, content in raw.items() if key in content]
    if holders and raw[holders[-1]][key] == config.get(key):
        return holders[-1]
    return "--config" if key in config or not raw else list(raw)[-1]


def _settings(config: Mapping[str, Any], results: str | None, file_of: FileOf) -> dict[str, Any]:
    """Return the configuration, checked by the schema and key against key, with defaults."""
    refuse_old_names(config, file_of)
    settings = check(with_dates_as_text(config), load_schema("config"), file_of)
    for switch in ("recompute", "replace_results"):
        settings[switch] = settings[switch] in (True, "true")  # `--config recompute=true` passes text
    settings["scoring"]["store"] = str(Path(settings["scoring"]["store"]).expanduser())
    mirrors(settings["mirrors"])
    apply_results_choice(settings, results or settings["results"], file_of)
    check_trajectories(settings, file_of)
    if "compute_trends" in settings:
        check_compute_trends(settings["compute_trends"], f"{file_of('compute_trends')}: compute_trends")
    find_published(settings["regression"], f"{file_of('regression')}: regression")
    if "abrupt" in settings:
        find_published(settings["abrupt"], f"{file_of('abrupt')}: abrupt")
        read_points(settings["abrupt"]["published"])
    return settings


@dataclass(frozen=True)
class _Grid:
    """The rows of the grid, where they come from, and what the audit found; see `Study`."""

    models: Mapping[str, Model]
    hub: tuple[HubModel, ...]
    on_disk: tuple[DiskModel, ...]
    lock_file: str
    lock: Lock
    unlocked: tuple[str, ...]
    findings: tuple[Finding, ...]


def _resolved(
    rows: Mapping[str, Row],
    lock_file: str,
    rules: Mapping[str, Any],
    left_out: LeftOut,
    only: Collection[str] | None,
) -> _Grid:
    """Resolve the rows by the lock; audit their checkpoints by `rules`, and drop those it says to drop."""
    hub = tuple(row for row in rows.values() if isinstance(row, HubModel))
    on_disk = tuple(row for row in rows.values() if isinstance(row, DiskModel))
    parents = {row.parent.name: row.parent for row in rows.values() if isinstance(row, AveragedModel)}
    fetched = {row.name for row in (*hub, *parents.values()) if isinstance(row, HubModel)}
    lock = read_lock(lock_file, fetched if only is not None else None) if fetched else Lock()
    unlocked = tuple(_unlocked(hub, lock))
    allow = allowances(rules["allow"])
    listed = [model for model in hub if model.is_listed(lock)]
    found = [*audit(listed, lock, rules, allow), *audit_directories(on_disk, rules, allow)]
    found += left_out_findings({n: left_out[n] for n in left_out if n in rows}, {row.name for row in on_disk})
    out = dropped(found)
    models = _grid(rows, lock, out, unlocked)
    found += equal_across_models(models, on_disk, rules, allow)
    findings = tuple(worst_first(found))
    if dropped(findings) != out:
        models = _grid(rows, lock, dropped(findings), unlocked)
    if only is None and not any(finding.action == STOP for finding in findings):  # which is said first
        check_averages(rows.values(), findings)
    return _Grid(models, hub, on_disk, lock_file, lock, unlocked, findings)


def _check_whole(study: Study, file_of: FileOf, *, uses_results: bool) -> None:
    """Make the checks that need all models, and all tasks unless the lock is incomplete."""
    settings, models, tasks = study.config, study.models, study.tasks
    if not study.unlocked:
        where = f"{file_of('alarms')}: alarms.allow"
        check_allow(settings["alarms"]["allow"], models, tasks, where, imports=bool(study.imported))
        for name in (settings.get("abrupt") or {}).get("tasks") or ():
            check_named(name, tasks, f"{file_of('abrupt')}: abrupt.tasks")
        if "fairness" in settings:
            check_fairness(settings["fairness"], tasks, f"{file_of('fairness')}: fairness")
        if "toxicity" in settings:
            check_toxicity(settings["toxicity"], tasks, f"{file_of('toxicity')}: toxicity")
        if "scaling_laws" in settings:
            check_scaling(settings["scaling_laws"], models, tasks, f"{file_of('scaling_laws')}: scaling_laws")
        if "ratings" in settings:
            check_ratings(study, f"{file_of('ratings')}: ratings")
        if "runs" in settings:
            where = f"{file_of('runs')}: runs"
            check_runs(settings["runs"], models.values(), tasks, study.imported, where)
            if not study.imported:  # imports may have other metrics
                check_run_metrics(settings["runs"], where)
    check_twins(settings["models"], models, file_of("models"))
    if uses_results and not settings["replace_results"]:
        check_claim(study.name, study.claim, file_of("study"))
    # With rows from a hub the caller checks, because locking and auditing must remain possible.
    if not study.hub and not any(finding.action == STOP for finding in study.findings):
        check_checkpoints(study)


def _rows(
    rows: Sequence[Mapping[str, Any]], file: str, only: Collection[str] | None, on_disk: Only
) -> dict[str, Row]:
    models: dict[str, Row] = {}
    for number, row in enumerate(rows):
        where = f"{file}: models[{number}]"
        if only is not None and "name" in row and not {*_names(row)} & {*only}:
            continue  # reading a directory may take long; a row of a series has no name
        for model in models_of(row, where, on_disk):
            if model.name in models:
                raise ConfigError(f"{where}: found a second model named {model.name!r}; names must differ.")
            models[model.name] = model
    return models if only is None else {name: model for name, model in models.items() if name in only}


def _names(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the models of a row that is not of a series."""
    yield row["name"]
    if "average" in row:
        yield averaged_name(row["name"], row["average"])


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
    rows: Mapping[str, Row], lock: Lock, out: set[tuple[str, str]], unlocked: Sequence[str]
) -> dict[str, Model]:
    """Return the rows of the grid, without the (model, checkpoint) in `out`.

    While the lock is incomplete, fetched models have no averages.
    """
    grid = {}
    for name, row in rows.items():
        match row:
            case HubModel():
                grid[name] = _locked(row, lock, out)
            case DiskModel():
                grid[name] = row.model(out)
            case AveragedModel(parent=HubModel()) if unlocked:
                grid[name] = Model(name, ())
            case AveragedModel():  # of all checkpoints: `check_averages` refuses those that are dropped
                parents = _grid({"parent": row.parent}, lock, set(), unlocked)
                grid[name] = row.model(parents["parent"].checkpoints)
            case Model():
                grid[name] = row
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
    return load_study(_read(files), files, results, uses_results=uses_results)


def read_settings(*files: str | Path) -> dict[str, Any]:
    """Return the checked configuration of a study with its defaults, without looking at models or tasks.

    Raises `ConfigError` as `load_study` does.
    """
    config = _read(files)
    raw = {str(relative(file)): read_yaml(file) for file in files}
    return _settings(config, None, partial(_file_of, raw, config))


def _read(files: Sequence[str | Path]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for file in map(Path, files):
        if not file.exists():
            raise ConfigError(f"{file} does not exist; {_instead_of(file)}")
        config = _merged(config, read_yaml(file))
    return config


def _instead_of(file: Path) -> str:
    """The file with the most similar name, beside `file` or in studies/; or what is expected."""
    known = {path.stem: path for folder in (Path("studies"), file.parent) for path in folder.glob("*.yaml")}
    close = get_close_matches(file.stem, known, n=1)
    return f"did you mean {known[close[0]]}?" if close else "name the YAML file of the study."


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base`, key by key, as Snakemake merges several --configfile."""
    nested = {k: _merged(base[k], v) for k, v in over.items() if _both_are_mappings(base.get(k), v)}
    return {**base, **over, **nested}


def _both_are_mappings(one: Any, other: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(other, Mapping)
