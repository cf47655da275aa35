"""Results scored by other tools, as rows of the metrics table and as cells."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ebbtide.errors import CellError
from ebbtide.exchange import notices as notices_about
from ebbtide.exchange.imported_cell import ImportedCell
from ebbtide.exchange.lm_eval_json import Measured, Results, read_results, task_names
from ebbtide.exchange.merge import Found, merged, two_models
from ebbtide.exchange.ranges import check_values
from ebbtide.exchange.runs import Resolved
from ebbtide.exchange.sample_lines import GeneratedError
from ebbtide.exchange.samples import is_samples, read_samples, task_of
from ebbtide.exchange.specification import Specification, specification
from ebbtide.exchange.tables import read_table, table_rows
from ebbtide.exchange.task_chance import chance_of_task
from ebbtide.files import read_json
from ebbtide.notices import Notice
from ebbtide.tables import METRICS

Sink = Callable[[ImportedCell, pd.DataFrame], None]


@dataclass(frozen=True)
class Imported:
    """All imported results of a study.

    Attributes
    ----------
    metrics
        Rows of the metrics table (`tables.METRICS`), with source `imported`, and the column `file`.
    notices
        What was inferred, dropped or recognised, and what the files cannot give.
    """

    metrics: pd.DataFrame
    notices: list[Notice]


def import_results(
    rows: Sequence[Mapping[str, Any]], where: str = "imported[{}]", sink: Sink = lambda cell, examples: None
) -> Imported:
    """Read all rows of `imported` (see workflow/schemas/imported.schema.yaml).

    Parameters
    ----------
    where
        Key of a row in the study, for messages; {} stands for its number.
    sink
        Called with every cell and its rows of the table of examples.

    Raises
    ------
    ConfigError
        A row is not valid, matches no file, or names a task that is in no file.
    CellError
        A file cannot be read; a value is not finite or not in the range of its metric; a model that no row
        matches, or whose step is unknown; or a second result for one cell.
    """
    found: list[Found] = []
    notices: list[Notice] = []
    read: list[tuple[Specification, list[Found]]] = []
    for number, row in enumerate(rows):
        given = specification(row, where.format(number))
        of_row = list(_READERS[given.checked["format"]](given, notices, sink))
        notices += notices_about.of_row(given, of_row)
        found += of_row
        read.append((given, of_row))
    notices += notices_about.without_effect(read)
    if not found:
        return Imported(pd.DataFrame(columns=[*METRICS.columns, "file"]), notices)
    metrics, recognised = merged(found)
    return Imported(metrics, [*notices, *recognised, *notices_about.notices_of(found)])


def import_metrics(row: Mapping[str, Any], where: str = "imported") -> pd.DataFrame:
    """Rows of the metrics table of one row of `imported`. Raises as `import_results` does."""
    return import_results([row], where).metrics[list(METRICS.columns)]


def import_cells(row: Mapping[str, Any], where: str = "imported") -> Iterator[ImportedCell]:
    """Cells from samples of lm-eval, one at a time, in the order of the files' names.

    The model is read from the results file next to the samples, `results_{date}.json`. Raises as
    `import_results` does.
    """
    yield from (cell for cell, _, _ in _cells(specification(row, where), []))


def write_imported_cells(rows: Sequence[Mapping[str, Any]], to: Path) -> int:
    """Write the cells of all rows of `imported` that are samples, with their requests; returns their number.

    The files are `{to}/{model}/{checkpoint}/{task}.parquet` and `{task}.requests.parquet`.
    """
    count = 0
    for number, row in enumerate(rows):
        if row["format"] == "lm_eval_samples":
            for cell in import_cells(row, f"imported[{number}]"):
                directory = to / cell.checkpoint.model / cell.checkpoint.name
                cell.write(directory / f"{cell.task}.parquet", directory / f"{cell.task}.requests.parquet")
                count += 1
    return count


def _of_tables(given: Specification, notices: list[Notice], sink: Sink) -> Iterator[Found]:
    for path in given.files:
        rows, resolved = table_rows(read_table(path), given, str(path))
        yield Found(given.where, "table", str(path), rows, resolved)


def _of_results(given: Specification, notices: list[Notice], sink: Sink) -> Iterator[Found]:
    files = [path for path in given.files if not is_samples(path)]
    samples = [path for path in given.files if is_samples(path)]
    if samples and files:
        notices.append(notices_about.samples_among_results(given.where, samples))
    yield from _results(given, files or samples, notices)


def _of_samples(given: Specification, notices: list[Notice], sink: Sink) -> Iterator[Found]:
    for cell, resolved, results in _cells(given, notices):
        rows, examples = cell.measured()
        sink(cell, examples)
        notices += cell.notices()
        notices += notices_about.other_accuracy(cell, rows, results)
        yield Found(
            given.where,
            "lm_eval_samples",
            cell.footer["imported"]["file"],
            rows,
            [resolved],
            results.source,
            cell.loglikelihoods(),
        )
    summaries = [path for path in given.files if _is_results(path)]
    if summaries:
        yield from _results(given, summaries, notices)


_READERS = {"table": _of_tables, "lm_eval_results": _of_results, "lm_eval_samples": _of_samples}


def _is_results(path: Path) -> bool:
    return path.name.startswith("results") and path.suffix == ".json"


def _cells(given: Specification, notices: list[Notice]) -> Iterator[tuple[ImportedCell, Resolved, Results]]:
    """Yield the cells of all samples, their checkpoints, and the results beside them."""
    names = {path: task_of(path) for path in given.files if not _is_results(path)}
    others = {m.task for p in given.files if _is_results(p) for m in read_results(p).measured}
    called = _names_here(names)
    tasks = given.tasks(sorted({*called.values(), *others}), "the files")
    seen: dict[tuple[str, str, str], tuple[Path, str]] = {}
    generated: list[Path] = []
    for path, (task, suffix) in names.items():
        if called[path] not in tasks:
            continue
        beside = _beside(path, suffix)
        if not beside.exists():
            raise CellError(
                f"{path}: no {beside.name} in the same directory, from which the model is read. Copy it "
                "there; lm-eval writes it with the samples."
            )
        results = read_results(beside)
        if not _has_shots(results, called[path], given):
            continue
        resolved, name = results.checkpoint(given), tasks[called[path]]
        checkpoint = resolved.row
        key = (checkpoint.model, checkpoint.name, name)
        first, origin = seen.setdefault(key, (path, resolved.origin))
        if origin != resolved.origin:
            raise two_models(key[0], (origin, str(first)), (resolved.origin, str(path)), given.where)
        if first != path:
            raise CellError(
                f"{given.where}: {first} and {path}: two results for model {key[0]}, "
                f"checkpoint {key[1]}, task {key[2]}. Remove one from files."
            )
        try:
            sampled = read_samples(path, given.checked["gold"])
        except GeneratedError:
            if "tasks" in given.checked:
                raise
            generated.append(path)
            continue
        notices += notices_about.of_samples(sampled, results.examples(task), path, key)
        definition = results.definition(task) or {"kind": sampled.kind}
        if name in given.checked["chance"]:
            definition["chance"] = given.checked["chance"][name]
        cell = ImportedCell(checkpoint, name, sampled.rows, sampled.requests, definition, sampled.footer)
        yield cell, resolved, results
    if generated:
        notices.append(notices_about.generated(given.where, generated))
    if len(generated) == len(names) and not others:
        raise CellError(
            f"{given.where}.files: found samples of generated text only ({generated[0]}), which have no "
            "log-likelihoods. Set format: lm_eval_results and the results files."
            if generated
            else f"{given.where}.files: found no samples."
        )


def _beside(samples: Path, suffix: str) -> Path:
    """The results file of the same run, in the same directory."""
    return samples.with_name(f"results_{suffix}.json")


def _names_here(names: Mapping[Path, tuple[str, str]]) -> dict[Path, str]:
    """Return samples files → names of their tasks, by the results beside them, which know formats."""
    results = {_beside(path, suffix) for path, (_, suffix) in names.items()}
    read = {path: task_names(read_json(path, CellError)) for path in results if path.exists()}
    return {path: read.get(_beside(path, end), {}).get(task, task) for path, (task, end) in names.items()}


def _has_shots(results: Results, task: str, given: Specification) -> bool:
    wanted = given.checked.get("shots")
    found = {m.shots for m in results.measured if m.task == task}
    return wanted is None or wanted in found


def _results(given: Specification, files: Sequence[Path], notices: list[Notice]) -> Iterator[Found]:
    found = [(results.checkpoint(given), results) for results in map(read_results, files)]
    names = dict.fromkeys(m.task for _, results in found for m in results.measured)
    tasks = given.tasks(list(names), "the files")
    wanted = given.checked.get("shots")
    count = 0
    left: set[str] = set()
    for resolved, results in found:
        out = frozenset() if "tasks" in given.checked else _left_out(results, given)
        left |= out
        measured = [m for m in results.measured if m.task in tasks.keys() - out and wanted in (None, m.shots)]
        count += len(measured)
        if measured:
            records = [_record(m, tasks[m.task], resolved, results.source, given) for m in measured]
            parts = {
                tasks[group]: frozenset(tasks[p] for p in members if p in tasks)
                for group, members in results.parts().items()
                if group in tasks
            }
            yield Found(
                given.where,
                "lm_eval_results",
                results.source,
                pd.DataFrame(records),
                [resolved],
                parts=parts,
                keeps_groups="tasks" in given.checked or given.checked.get("groups") == "both",
            )
    if not count:
        raise CellError(f"{given.where}.shots: found {wanted}, but no task in the files has that many.")
    notices += notices_about.of_results(given.where, [r for _, r in found], left, given.checked.get("groups"))


def _left_out(results: Results, given: Specification) -> frozenset[str]:
    """Tasks of a file that enter with their group, or groups that enter with their parts."""
    parts = results.parts()
    measured = {m.task for m in results.measured}
    match given.checked.get("groups", "aggregates"):
        case "aggregates":
            return frozenset().union(*parts.values()) & measured
        case "parts":
            return frozenset(group for group, members in parts.items() if members & measured)
        case _:
            return frozenset()


def _record(m: Measured, task: str, resolved: Resolved, source: str, given: Specification) -> dict[str, Any]:
    metric = given.checked["metrics"].get(m.logged, m.metric)
    known = [given.chance(task, metric), m.chance, chance_of_task(task, metric)]
    percent = given.percent(metric)
    numbers = {
        "value": m.value / percent,
        "stderr": m.stderr / percent,
        "chance": next((c for c in known if not math.isnan(c)), math.nan),
    }
    check_values(metric, *numbers.values(), where=f"{source}: task {m.task}", key=m.key, study=given.where)
    return {
        **resolved.row.columns(),
        "task": task,
        "metric": metric,
        **numbers,
        "n": given.examples(task, m.n),
        "source": "imported",
    }
