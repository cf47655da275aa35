"""The verbs `export` (a study's results for other tools) and `import-cells` (samples of others as cells)."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from ebbtide.exchange.export import Exported
    from ebbtide.grid import Checkpoint
    from ebbtide.study.study import Study


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs to the command line."""
    export = verbs.add_parser(
        "export", help="a finished study in the shapes of lm-evaluation-harness, and as two tables"
    )
    export.add_argument(
        "--study", required=True, nargs="+", metavar="FILE", help="the study, as for Snakemake"
    )
    export.add_argument("--to", required=True, metavar="DIR")
    export.set_defaults(verb=_export)

    cells = verbs.add_parser(
        "import-cells", help="samples that a study imports, as cells with their requests"
    )
    cells.add_argument(
        "--study", required=True, nargs="+", metavar="FILE", help="the study, as for Snakemake"
    )
    cells.add_argument("--to", required=True, metavar="DIR")
    cells.set_defaults(verb=_import_cells)


def _export(options: argparse.Namespace) -> None:
    import pandas as pd

    from ebbtide.exchange.export import export_checkpoint
    from ebbtide.exchange.specification import PARAMETERS, Place
    from ebbtide.exchange.tidy import read_examples, write_examples, write_metrics_csv
    from ebbtide.jobs.leads import cell_path
    from ebbtide.study.load import read_study
    from ebbtide.tables import METRICS, read_frame

    study, to = read_study(*options.study), Path(options.to)
    metrics = read_frame(f"results/{study.name}/metrics.parquet", METRICS)
    write_metrics_csv(metrics, to / "metrics.csv")
    cells = [
        {
            **{"model": c.model, "checkpoint": c.name, "step": c.step, "tokens": c.tokens},
            **{"task": name, "cell": cell_path(c, name), "requests": task.frozen},
        }
        for name, task in study.tasks.items()
        for c in study.checkpoints()
    ]
    rows, tables = write_examples(read_examples(cells), to / "examples.parquet"), []
    for checkpoint in study.checkpoints():
        own = metrics[(metrics["model"] == checkpoint.model) & (metrics["checkpoint"] == checkpoint.name)]
        sizes = {name: int(own[f"parameters_{name}"].iloc[0]) for name in PARAMETERS}
        place = Place(checkpoint.model, checkpoint.name, checkpoint.step, checkpoint.tokens, sizes)
        exported = list(_exported(study, checkpoint, own))
        export_checkpoint(exported, place, to)
        tables += [_reliability(cell, checkpoint) for cell in exported if cell.kind in ("choice", "binary")]
    if tables:
        write_metrics_csv(pd.concat(tables, ignore_index=True), to / "reliability.csv")
    print(f"{to}: metrics.csv ({len(metrics)} rows), examples.parquet ({rows} rows), results and samples.")


def _reliability(cell: "Exported", checkpoint: "Checkpoint") -> "pd.DataFrame":
    """The bins behind the calibration error of one cell."""
    from ebbtide.metrics import reliability

    where = {"model": checkpoint.model, "checkpoint": checkpoint.name, "task": cell.task}
    table = reliability(cell.rows, cell.requests, cell.definition).assign(**where)
    return table[[*where, *(column for column in table if column not in where)]]


def _import_cells(options: argparse.Namespace) -> None:
    from ebbtide.exchange.imports import import_cells
    from ebbtide.study.load import read_study

    study, to, count = read_study(*options.study), Path(options.to), 0
    for number, row in enumerate(study.imported):
        if row["format"] == "lm_eval_samples":
            for cell in import_cells(row, f"imported[{number}]"):
                place = to / cell.place.model / cell.place.checkpoint
                cell.write(place / f"{cell.task}.parquet", place / f"{cell.task}.requests.parquet")
                count += 1
    print(f"{to}: {count} cells and their requests.")


def _exported(study: "Study", checkpoint: "Checkpoint", metrics: "pd.DataFrame") -> "Iterator[Exported]":
    from ebbtide.cells.cell import read_cell
    from ebbtide.exchange.export import Exported
    from ebbtide.jobs.leads import cell_path
    from ebbtide.tables import REQUESTS, read_footer, read_frame
    from ebbtide.tasks.definition import MEASURING

    for name, task in study.tasks.items():
        asked: dict[str, Any] = read_footer(task.frozen, REQUESTS)
        identity = study.identity(checkpoint, name)
        rows, footer = read_cell(cell_path(checkpoint, name), identity, asked["content_sha256"])
        own = metrics[metrics["task"] == name]
        # How it is measured is what the definition says today; the footer keeps what was said at freezing.
        frozen = {k: v for k, v in asked["definition"].items() if k == "kind" or k not in MEASURING}
        definition = {**frozen, **task.measuring}
        yield Exported(name, rows, read_frame(task.frozen, REQUESTS), own, definition, footer, task.identity)
