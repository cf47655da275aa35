"""Results scored by other tools, as cells and as rows of the metrics table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from ebbtide.cells.cell import write_cell
from ebbtide.errors import CellError
from ebbtide.exchange.lm_eval_json import Results, read_results
from ebbtide.exchange.samples import read_samples, task_of
from ebbtide.exchange.specification import PARAMETERS, CheckpointRow, Specification, specification
from ebbtide.exchange.tables import read_table, table_rows
from ebbtide.metrics.of_cell import measure
from ebbtide.tables import METRICS, REQUESTS, content_sha256, write_parquet

_KEY = list(METRICS.key)


@dataclass(frozen=True)
class ImportedCell:
    """A cell scored by another tool."""

    checkpoint: CheckpointRow
    task: str
    rows: pd.DataFrame  # tables.CELL
    requests: pd.DataFrame  # tables.REQUESTS, and gold
    definition: Mapping[str, Any]
    footer: Mapping[str, Any]  # source, imported (file, sha256), unknown (columns), requests

    def metrics(self) -> pd.DataFrame:
        """Rows of the metrics table, recomputed from the log-likelihoods. Raises `CellError`."""
        known = self.rows.drop(columns=list(self.footer["unknown"]))
        try:
            rows = measure(known, self.requests, self.definition)
        except CellError as error:
            raise CellError(f"{self.footer['imported']['file']}: {error.args[0]}") from None
        columns = {**self.checkpoint.columns(), "task": self.task, "source": "imported"}
        return rows.assign(**columns)[list(METRICS.columns)]

    def identity(self) -> dict[str, Any]:
        """Its identity: the digest of the file, and of the requests read from it."""
        return {
            "imported": self.footer["imported"]["sha256"],
            "task": f"requests:{self._requests_sha256()[:32]}",
        }

    def write(self, cell: str | Path, requests: str | Path) -> None:
        """Write cell and requests. The cell's footer records the imported file and its sha256."""
        sizes = {f"parameters_{name}": self.checkpoint.parameters[name] for name in PARAMETERS}
        footer = {**self.footer, **sizes, "requests_sha256": self._requests_sha256()}
        frozen = {
            "task": self.task,
            "identity": self.identity()["task"],
            "definition": dict(self.definition),
            "licence": "",
            "requests": len(self.requests),
            "examples": int(self.requests["example"].nunique()),
            "imported": self.footer["imported"],
        }
        write_parquet(self.requests, requests, REQUESTS, frozen)
        write_cell(self.rows, cell, self.identity(), footer)

    def _requests_sha256(self) -> str:
        return content_sha256(pa.Table.from_pandas(self.requests, preserve_index=False))


def import_metrics(row: Mapping[str, Any], where: str = "imported") -> pd.DataFrame:
    """Rows of the metrics table (`tables.METRICS`), with source `imported`.

    Parameters
    ----------
    row
        A row of `imported` (see workflow/schemas/imported.schema.yaml).
    where
        Its key in the study, for messages.

    Raises
    ------
    ConfigError
        The row is not valid, matches no file, or names a task that is in no file.
    CellError
        A file cannot be read, has values that are not finite, a model that no row matches, or a second result
        for one cell.
    """
    given = specification(row, where)
    read = {"table": _of_tables, "lm_eval_results": _of_results, "lm_eval_samples": _of_samples}
    rows = pd.concat(list(read[given.checked["format"]](given)), ignore_index=True)
    repeated = rows.duplicated(_KEY, keep=False)
    if repeated.any():
        first = rows[repeated].iloc[0]
        files = rows.loc[(rows[_KEY] == first[_KEY]).all(axis=1), "file"].unique()
        raise CellError(
            f"{where}: {' and '.join(files[:2]) if len(files) > 1 else files[0] + ' twice'}: two results for "
            f"{', '.join(f'{k} {first[k]}' for k in _KEY)}. Remove one from files, or narrow shots or where."
        )
    return rows[list(METRICS.columns)]


def import_cells(row: Mapping[str, Any], where: str = "imported") -> Iterator[ImportedCell]:
    """Cells from samples of lm-eval, one at a time, in the order of the files' names.

    The model is read from the results file next to the samples, `results_{date}.json`. Raises as
    `import_metrics` does.
    """
    yield from _cells(specification(row, where))


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


def _cells(given: Specification) -> Iterator[ImportedCell]:
    names = {path: task_of(path) for path in given.files}
    tasks = given.tasks(sorted({task for task, _ in names.values()}), "the files")
    seen: dict[tuple[str, str, str], Path] = {}
    for path, (task, suffix) in names.items():
        if task not in tasks:
            continue
        beside = path.with_name(f"results_{suffix}.json")
        if not beside.exists():
            raise CellError(f"{path}: no {beside.name} in the same directory, from which the model is read.")
        results = read_results(beside)
        if not _has_shots(results, task, given):
            continue
        checkpoint, name = results.checkpoint(given), tasks[task]
        key = (checkpoint.model, checkpoint.name, name)
        if key in seen:
            raise CellError(
                f"{given.where}: {seen[key]} and {path}: two results for model {key[0]}, "
                f"checkpoint {key[1]}, task {key[2]}. Remove one from files."
            )
        seen[key] = path
        sampled = read_samples(path, given.checked["gold"])
        definition = results.definition(task) or {"kind": sampled.kind}
        if name in given.checked["chance"]:
            definition["chance"] = given.checked["chance"][name]
        yield ImportedCell(checkpoint, name, sampled.rows, sampled.requests, definition, sampled.footer)


def _has_shots(results: Results, task: str, given: Specification) -> bool:
    wanted = given.checked.get("shots")
    found = {m.shots for m in results.measured if m.task == task}
    return wanted is None or wanted in found


def _of_samples(given: Specification) -> Iterator[pd.DataFrame]:
    for cell in _cells(given):
        yield cell.metrics().assign(file=cell.footer["imported"]["file"])


def _of_tables(given: Specification) -> Iterator[pd.DataFrame]:
    for path in given.files:
        yield table_rows(read_table(path), given, str(path)).assign(file=str(path))


def _of_results(given: Specification) -> Iterator[pd.DataFrame]:
    found = [(results.checkpoint(given), results) for results in map(read_results, given.files)]
    names = dict.fromkeys(m.task for _, results in found for m in results.measured)
    tasks = given.tasks(list(names), "the files")
    wanted = given.checked.get("shots")
    records = []
    for checkpoint, results in found:
        for m in results.measured:
            if m.task not in tasks or wanted not in (None, m.shots):
                continue
            task = tasks[m.task]
            metric = given.checked["metrics"].get(m.logged, m.metric)
            known = given.chance(task, metric)
            records.append(
                {
                    **checkpoint.columns(),
                    "task": task,
                    "metric": metric,
                    "value": m.value,
                    "stderr": m.stderr,
                    "n": given.examples(task, m.n),
                    "chance": m.chance if math.isnan(known) else known,
                    "source": "imported",
                    "file": results.source,
                }
            )
    if not records:
        raise CellError(f"{given.where}.shots: found {wanted}, but no task in the files has that many.")
    yield pd.DataFrame(records)
