"""The status of a study: which cells there are, which are missing or failed, and what the missing would cost.

Everything is read from files, without Snakemake and without its lock, so that it can be asked during a run.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path

from ebbtide.cells import store
from ebbtide.errors import CellError
from ebbtide.grid import Checkpoint
from ebbtide.jobs.failures import by_cause
from ebbtide.jobs.leads import cell_path, names_in, stored_names
from ebbtide.jobs.progress import in_words, running
from ebbtide.logs import INTERRUPTED_LINE, cause_in, duration
from ebbtide.notices import counted, listed
from ebbtide.report.stages_done import Stage, recorded, stage_lines, stages_of, time_of
from ebbtide.study.study import Study
from ebbtide.tables import CELL, read_footer

SAMPLE = 12  # cells of a model whose rates are read


@dataclass(frozen=True)
class Missing:
    """A cell that a run would score. `failure` is (log, cause) if its last job failed."""

    checkpoint: Checkpoint
    task: str
    failure: tuple[str, str] | None = None
    outdated: bool = False  # the results have another cell in its place

    def line(self) -> str:
        """The cell and its state, as one line."""
        state = "outdated" if self.outdated else "missing"
        reason = f"failed\t{self.failure[1]}" if self.failure else state
        return f"{self.checkpoint.model}\t{self.checkpoint.name}\t{self.task}\t{reason}"


@dataclass
class ModelStatus:
    """The cells of one model."""

    cells: int = 0
    published: dict[tuple[str, str], Path] = field(default_factory=dict)  # by tokenizer and task: one of them
    sample: list[Path] = field(default_factory=list)
    there: int = 0
    stored: int = 0
    missing: list[Missing] = field(default_factory=list)


@dataclass(frozen=True)
class Cost:
    """What missing cells would cost; None is unknown."""

    tokens: int | None = None
    seconds: float | None = None
    gpu_seconds: float | None = None


@dataclass(frozen=True)
class StudyStatus:
    """The status of all models, and the failures of jobs other than scoring as (log, cause)."""

    study: Study
    models: Mapping[str, ModelStatus]
    costs: Mapping[str, Cost]
    other_failures: Sequence[tuple[str, str]]

    @property
    def missing(self) -> list[Missing]:
        """The missing cells of all models."""
        return [cell for model in self.models.values() for cell in model.missing]


def status_of(study: Study) -> StudyStatus:
    """Look at every cell of a study, the logs of those that are missing, and the footers of a few others."""
    count = sum(len(model.checkpoints) for model in study.models.values()) * len(study.tasks)
    stored = stored_names(study, count)
    models = {name: _model(study, model.checkpoints, stored) for name, model in study.models.items()}
    return StudyStatus(study, models, _costs(models), list(_other_failures(study, models)))


def _model(study: Study, checkpoints: Iterable[Checkpoint], stored: frozenset[str] | None) -> ModelStatus:
    found = ModelStatus()
    directory, recompute = study.config["scoring"]["store"], study.config["recompute"]
    for checkpoint in checkpoints:
        published = names_in(Path(cell_path(checkpoint, "")).parent) or frozenset()
        logs: frozenset[str] | None = None
        for task in study.tasks:
            found.cells += 1
            identity = study.identity(checkpoint, task)
            in_results, in_store = Path(cell_path(checkpoint, task)), store.path_of(directory, identity)
            is_published = in_results.name in published
            if not recompute and is_published and store.is_whole(in_results, identity):
                found.there += 1
                _keep(found, checkpoint, task, in_results)
                continue
            may_be_stored = not recompute and (stored is None or in_store.name in stored)
            if may_be_stored and store.is_whole(in_store, identity):
                found.stored += 1
                _keep(found, checkpoint, task, in_store)
                continue
            logs = (names_in(_score_log(checkpoint, "").parent) or frozenset()) if logs is None else logs
            log = _score_log(checkpoint, task)
            failure = _failure(log) if log.name in logs else None
            found.missing.append(Missing(checkpoint, task, failure, is_published))
    return found


def _keep(found: ModelStatus, checkpoint: Checkpoint, task: str, path: Path) -> None:
    """Keep a cell for the costs: the first of each task, and every eighth of the others."""
    if (checkpoint.tokenizer, task) not in found.published:
        found.published[checkpoint.tokenizer, task] = path
    if len(found.sample) < SAMPLE or (found.there + found.stored) % 8 == 0:
        found.sample.append(path)


def _score_log(checkpoint: Checkpoint, task: str) -> Path:
    return Path(f"logs/score/{checkpoint.model}/{checkpoint.name}/{task}.log")


def _failure(log: Path) -> tuple[str, str] | None:
    """The log and the error with which it ends; None for a job that ended well, runs, or was interrupted."""
    cause = cause_in(log)
    return (str(log), cause) if cause and cause != INTERRUPTED_LINE else None


def _costs(models: Mapping[str, ModelStatus]) -> dict[str, Cost]:
    """The cost of the missing cells of each model that lacks some, by the footers of cells that are done."""

    @cache
    def counters(path: Path) -> tuple[int, float, float] | None:
        try:
            footer = read_footer(path, CELL)
            seconds = float(footer["seconds"])
            return int(footer["unique_tokens"]), seconds, seconds * footer.get("gpus", math.nan)
        except (CellError, KeyError):  # removed meanwhile, or imported
            return None

    done: dict[tuple[str, str], Path] = {}
    for model in models.values():
        done |= model.published
    costs = {}
    for name, model in models.items():
        if not model.missing:
            continue
        known = [
            counters(done[place]) if (place := (cell.checkpoint.tokenizer, cell.task)) in done else None
            for cell in model.missing
        ]
        tokens = None if None in known else sum(found[0] for found in known if found)
        step = max(1, len(model.sample) // SAMPLE)
        sample = [found for found in map(counters, model.sample[::step]) if found]
        unique = sum(found[0] for found in sample)
        if tokens is None or not unique:
            costs[name] = Cost(tokens)
        else:
            costs[name] = Cost(tokens, *(sum(found[i] for found in sample) / unique * tokens for i in (1, 2)))
    return costs


def _other_failures(study: Study, models: Mapping[str, ModelStatus]) -> Iterator[tuple[str, str]]:
    """The failures of jobs that cells wait for, if their products are missing, and of the study's stages."""
    weights = {cell.checkpoint for model in models.values() for cell in model.missing}
    lacking = sorted(
        (checkpoint for checkpoint in weights if not Path(checkpoint.marker).exists()),
        key=lambda checkpoint: (checkpoint.model, checkpoint.step),
    )
    logs = [Path(f"logs/train/{model}.log") for model in dict.fromkeys(c.model for c in lacking)]
    for checkpoint in lacking:
        name = f"{checkpoint.model}/{checkpoint.name}-{Path(checkpoint.marker).name}.log"
        logs += [Path(f"logs/{rule}/{name}") for rule in ("fetch_checkpoint", "convert", "average")]
    for task in study.tasks.values():
        if not Path(task.frozen).exists():
            logs.append(Path(f"logs/freeze/{Path(task.frozen).stem}.log"))
    for part in study.parts("metrics"):
        if not Path(part).exists():
            logs.append(Path(f"logs/measure/{study.name}", *Path(part).parts[-2:]).with_suffix(".log"))
    yield from filter(None, map(_failure, [*logs, *sorted(Path("logs").glob(f"*/{study.name}.log"))]))


def lines(status: StudyStatus, *, cells: bool = False) -> list[str]:
    """The status in words. With `cells`, also a line for each missing cell."""
    study, models = status.study, status.models.values()
    checkpoints = sum(len(model.checkpoints) for model in study.models.values())
    tasks = len(study.config["tasks"] if study.unlocked else study.tasks)
    grid = f"models: {len(study.models)}, checkpoints: {checkpoints}, tasks: {tasks}"
    head = f"Study {study.name} ({study.file}): {grid}."
    if study.unlocked:
        return [head, *_unlocked(study)]
    total, missing = sum(model.cells for model in models), status.missing
    if not total:
        return [head, "No cell is scored here.", *_imports(study), *_results(study, status)]
    failed = sum(cell.failure is not None for cell in missing)
    outdated = sum(cell.outdated for cell in missing)
    stored = sum(model.stored for model in models)
    parts = [f"{sum(model.there for model in models)} of {counted(total, 'cell')} are in the results"]
    parts += [f"{stored} in the store, to be copied"] if stored else []
    parts += [f"{len(missing)} missing"] if missing else []
    parts += [f"{failed} of them failed"] if failed else []
    parts += [f"{outdated} of them changed since they were scored"] if outdated else []
    out = [head, f"{', '.join(parts)}."]
    if missing:
        out += ["", *_table(status), "", *_cost(status)]
    names = {f"{cell.checkpoint.model}/{cell.checkpoint.name}/{cell.task}" for cell in missing}
    if scored_now := [state for state in running() if state.name in names]:
        out += ["", "Being scored:", *(in_words([state]) for state in scored_now)]
    if failed:
        out += ["", "Failed cells:"]
        out += by_cause(cell.failure for cell in missing if cell.failure)
    if status.other_failures:
        out += ["", "Other failed jobs:", *by_cause(status.other_failures)]
    out += ["", *_results(study, status)]
    return [*out, *(["", *(cell.line() for cell in missing)] if cells and missing else [])]


def _table(status: StudyStatus) -> Iterator[str]:
    """The models that lack cells: numbers of cells, and costs."""
    heads: tuple[str, ...] = ("model", "cells", "there", "stored", "missing", "failed", "tokens", "time")
    rows = [heads]
    for name, model in status.models.items():
        if model.missing:
            cost = status.costs[name]
            failed = sum(cell.failure is not None for cell in model.missing)
            counts = [model.cells, model.there, model.stored, len(model.missing), failed]
            tokens = "?" if cost.tokens is None else f"{cost.tokens:,}"
            seconds = "?" if cost.seconds is None else duration(cost.seconds)
            rows.append((name, *map(str, counts), tokens, seconds))
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    for row in rows:
        padded = [
            row[0].ljust(widths[0]),
            *(text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=True)),
        ]
        yield "  ".join(padded)


def _cost(status: StudyStatus) -> Iterator[str]:
    """What the missing cells would cost, and for which models that is unknown."""
    costs = status.costs
    known = [cost for cost in costs.values() if cost.seconds is not None]
    if known:
        tokens, seconds = sum(c.tokens or 0 for c in known), sum(c.seconds or 0.0 for c in known)
        yield (
            f"Cost: {tokens:,} tokens, about {duration(seconds)} of one job after loading weights, by the "
            f"recorded rates of cells that are done.{_price(status.study, known)}"
        )
    if unknown := [name for name, cost in costs.items() if cost.tokens is None]:
        yield f"Unknown tokens: {listed(unknown)}: no cell of some task is done with the same tokenizer."
    if unmeasured := [n for n, cost in costs.items() if cost.seconds is None and cost.tokens is not None]:
        yield f"Unknown time: {listed(unmeasured)}: none of its cells is done."
    waiting = {cell.checkpoint for cell in status.missing}
    absent = [checkpoint for checkpoint in waiting if not Path(checkpoint.marker).exists()]
    if absent:
        size = sum(checkpoint.size_bytes for checkpoint in absent) / 1e9
        gigabytes = f", {size:,.1f} GB" if size >= 0.05 else ""
        yield f"Weights not on disk: {counted(absent, 'checkpoint')}{gigabytes}."


def _price(study: Study, costs: Sequence[Cost]) -> str:
    """GPU-hours and price of the missing cells as a sentence, if the study has a price and GPUs scored."""
    price = study.config.get("cost")
    hours = sum(cost.gpu_seconds or 0.0 for cost in costs) / 3600
    if not price or not hours > 0:  # NaN: old cells do not tell their GPUs
        return ""
    return f" That is {hours:,.3g} GPU-hours, {hours * price['gpu_hour']:,.2f} {price['currency']}."


def _unlocked(study: Study) -> Iterator[str]:
    """What the lock lacks, the rows that need none, and the command that locks."""
    yield f"Not locked: {', '.join(study.unlocked)}."
    fetched = {row.name for row in study.hub}
    others = [
        f"{name} ({counted(model.checkpoints, 'checkpoint')})"
        for name, model in study.models.items()
        if name not in fetched and model.checkpoints
    ]
    if others:
        yield f"Without a lock: {listed(others)}. Their cells are counted once all models are locked."
    yield f"To lock, run: snakemake lock --cores 1 --configfile {study.file}"


def _imports(study: Study) -> Iterator[str]:
    """The rows of imported results."""
    for number, row in enumerate(study.imported):
        place = row.get("source") or listed(row.get("files", ()))
        models = [model["name"] for model in row.get("models", ())]
        of = f", models {listed(models)}" if models else ""
        yield f"imported[{number}]: {row['format']}{f' from {place}' if place else ''}{of}."


def _products(study: Study) -> list[Path]:
    """What the last jobs of a run make: the summary, and the report page if the study has metrics."""
    results = Path("results") / study.name
    page = [results / "report/index.html"] if study.has_page() else []
    return [results / "summary.txt", *page]


def _lacks_cells(status: StudyStatus) -> bool:
    return bool(status.missing) or any(model.stored for model in status.models.values())


def _results(study: Study, status: StudyStatus) -> Iterator[str]:
    """What the stages after the cells have made, and the command for what is missing or old."""
    parts = [time_of(part) for part in study.parts("metrics")]
    times = [*parts, *([time_of(study.imports("metrics.parquet"))] if study.imported else [])]
    if parts:
        yield f"Metrics: of {len(parts) - parts.count(None)} of {counted(parts, 'checkpoint')}."
    for title, path in zip(("Summary", "Report page"), _products(study), strict=False):
        yield _written(title, path)
    if (paper := Path("results") / study.name / "paper.pdf").exists():
        yield _written("Paper", paper)
    stages: list[Stage] = []
    if Path("results", study.name).exists():
        record = recorded(study)
        lacks = _lacks_cells(status) or None in times
        newest = None if lacks else max((time for time in times if time), default=0.0)
        stages = stages_of(study, record, newest) if record else []
        yield from stage_lines(stages, record)
    is_lacking = _lacks_cells(status) or any(stage.missing or stage.old for stage in stages)
    if is_lacking or status.other_failures or not all(path.exists() for path in _products(study)):
        yield f"To make what is missing, run: snakemake --cores all --configfile {study.file}"


def _written(title: str, path: Path) -> str:
    time = time_of(path)
    if time is None:
        return f"{title}: missing, {path} does not exist."
    if not path.stat().st_size:
        return f"{title}: {path} is empty. Delete it and run snakemake."
    return f"{title}: {path}, written {datetime.fromtimestamp(time).astimezone():%Y-%m-%d %H:%M}."
