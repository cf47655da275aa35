"""Verify cells: those of a store, or those of a study with their results, and rescore a sample."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ebbtide.cells import store
from ebbtide.cells.cell import check_cell
from ebbtide.cells.inspection import KINDS, Damage, Requests, cells_in, inspect, modified_ns
from ebbtide.checkpoints.directory import directory_of, tokenizer_of
from ebbtide.checkpoints.verification import check_before_loading, check_weights
from ebbtide.errors import ConfigError, ScoringError, first_line
from ebbtide.grid import Checkpoint
from ebbtide.jobs.leads import cell_path
from ebbtide.notices import counted
from ebbtide.scoring.scorer import FAKE
from ebbtide.study.study import Study
from ebbtide.tables import CELL, REQUESTS, read_footer, read_parquet

EXAMPLES = 10  # of a cell that are rescored


@dataclass
class Verified:
    """How many files were checked, what is damaged or of another definition, and lines about rescoring."""

    checked: int = 0
    missing: int = 0  # cells of a study that are nowhere
    damages: list[Damage] = field(default_factory=list)
    others: list[Damage] = field(default_factory=list)  # whole cells of other definitions, in the results
    stored: int = 0  # of these, those whose place a cell of the store takes in the next run
    rescored: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the result in words, damage by kind."""
        missing = f"; {counted(self.missing, 'cell')} not scored yet" if self.missing else ""
        good = self.checked - len({damage.path for damage in self.damages}) - len(self.others)
        lines = [f"{counted(self.checked, 'file')} checked, {good} good{missing}."]
        for kind, meaning in KINDS.items():
            found = [damage for damage in self.damages if damage.kind == kind]
            if found:
                lines.append(f"{kind} ({meaning}): {counted(found, 'file')}")
                lines += [f"  {damage.path}: {damage.detail}" for damage in found]
        if self.others:
            lines.append(
                f"{counted(self.others, 'file')} in the results: whole cells, but of another definition of "
                "the model, task or scoring, by another study or an earlier run"
            )
            lines += [f"  {other.path}: {other.detail}" for other in self.others]
        return [*lines, *self.rescored]


def verify_store(directory: str | Path) -> Verified:
    """Check every cell of a store. What it was scored from is not known."""
    result = Verified()
    for path in cells_in(directory):
        result.checked += 1
        result.damages += filter(None, [inspect(path)])
    return result


def verify_study(study: Study) -> Verified:
    """Check every cell of a study, in the store and in the results, with its frozen task."""
    result = Verified()
    for task, of_task in study.tasks.items():
        requests = _requests(of_task.frozen)
        for checkpoint in study.checkpoints():
            identity = study.identity(checkpoint, task)
            paths = [path for path in _places(study, checkpoint, task) if _exists(path)]
            result.checked += len(paths)
            result.missing += not paths
            for path in paths:
                found = inspect(path, identity, requests)
                if found is None:
                    continue
                if found.kind != "identity" or path != Path(cell_path(checkpoint, task)):
                    result.damages.append(found)  # the name of a cell in the store is its identity
                elif damage := inspect(path, read_footer(path, CELL)["identity"]):
                    result.damages.append(damage)
                else:
                    result.others.append(found)
                    result.stored += store.is_whole(paths[0], identity)
    return result


def rescore(study: Study, cells: int, seed: int, damages: Iterable[Damage]) -> Iterator[Damage | str]:
    """Rescore `EXAMPLES` examples of random cells in float64; yield a line, or the damage, for each cell.

    Only cells of log-likelihoods whose weights are on disk can be rescored: no documents, samples or made-up
    numbers.

    Raises
    ------
    ConfigError
        No cell can be rescored.
    ScoringError
        A cell could not be rescored.
    """
    bad = {damage.path for damage in damages}
    found = [
        (path, checkpoint, task)
        for checkpoint in study.checkpoints()
        for task, definition in study.tasks.items()
        for path in [p for p in _places(study, checkpoint, task) if _exists(p) and p not in bad][:1]
        if Path(checkpoint.marker).exists() and definition.kind.needs == "loglikelihoods"
    ]
    if study.config["scoring"]["backend"] == FAKE:
        raise ConfigError(
            f"--rescore: {study.file} has scoring.backend: fake, whose numbers are made up. Leave --rescore "
            "out."
        )
    if not found:
        raise ConfigError(
            f"--rescore: {study.file} has no cell of a model whose weights are on disk. Run snakemake to "
            "train or fetch them, or leave --rescore out."
        )
    for path, checkpoint, task in random.Random(seed).sample(found, min(cells, len(found))):
        outcome = _rescored(study, path, checkpoint, task)
        yield outcome
        if isinstance(outcome, Damage):  # the results may have a copy of it, or the store the original
            yield from (
                Damage(other, outcome.kind, f"the same rows as {path}", modified_ns(other))
                for other in _places(study, checkpoint, task)
                if other not in (path, *bad) and _exists(other)
                if check_cell(other)[0].equals(check_cell(path)[0])
            )


def move(damages: Iterable[Damage]) -> list[str]:
    """Rename damaged files, so that the next run writes them again; return a line for each.

    A file that another run has written since it was inspected stays.
    """
    return [_moved(damage) for damage in {damage.path: damage for damage in damages}.values()]


def _moved(damage: Damage) -> str:
    if damage.modified is not None and modified_ns(damage.path) != damage.modified:
        return f"{damage.path} was written or removed meanwhile, and is left as it is"
    try:
        return f"{damage.path} was renamed to {store.set_aside(damage.path)}"
    except OSError as error:
        return f"{damage.path} cannot be renamed ({error.strerror}); delete it"


def _places(study: Study, checkpoint: Checkpoint, task: str) -> list[Path]:
    stored = store.path_of(study.config["scoring"]["store"], study.identity(checkpoint, task))
    return [stored, Path(cell_path(checkpoint, task))]


def _exists(path: Path) -> bool:
    return store.obstacle(path) is not None or path.exists()


def _requests(frozen: str) -> Requests | None:
    if not Path(frozen).exists():
        return None
    return Requests(read_parquet(frozen, REQUESTS), read_footer(frozen, REQUESTS)["content_sha256"])


def _rescored(study: Study, path: Path, checkpoint: Checkpoint, task: str) -> Damage | str:
    from ebbtide.scoring.rescore import largest_difference

    identity = study.identity(checkpoint, task)
    name = f"{checkpoint.model}/{checkpoint.name}/{task}"
    modified = modified_ns(path)
    try:
        check_before_loading(checkpoint.marker, checkpoint.weights, checkpoint.tokenizer)
        check_weights(
            checkpoint.marker, checkpoint.weights, checkpoint.tokenizer, study.config["scoring"]["store"]
        )
        found = largest_difference(
            directory_of(checkpoint.marker),
            study.tasks[task].frozen,
            check_cell(path)[0],
            examples=EXAMPLES,
            dtype=identity["dtype"],
            tokenizer=tokenizer_of(checkpoint.marker),
            **{key: identity[key] for key in ("encoding", "bos", "truncation", "max_length")},
        )
    except Exception as error:  # also what torch and transformers raise for an unusual model
        reason = str(error.args[0]) if error.args else first_line(error)
        raise ScoringError(f"{path} ({name}) could not be rescored: {reason}") from error
    if found["beyond_rounding"]:
        detail = (
            f"{found['beyond_rounding']} of {found['requests']} requests of {name} differ from float64, "
            f"{found['worst']} by {found['largest_difference']:.2g} nats"
        )
        return Damage(path, "rescored", detail, modified)
    return (
        f"rescored {counted(found['examples'], 'example')} of {name}: largest difference from float64 "
        f"{found['largest_difference']:.2g} nats"
    )
