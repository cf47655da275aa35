"""The verbs `export`, `import-plan` (rows of `imported`) and `import-cells` (samples as cells)."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.cli.options import add_study
from ebbtide.exchange.formats import DEFAULT, FORMATS

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs


def add_verbs(verbs: "Verbs") -> None:
    """Add the verbs to the command line."""
    export = verbs.add_parser("export", description="Write a finished study in formats of other tools.")
    add_study(export)
    export.add_argument("--to", required=True, metavar="DIR", help="directory to write")
    export.add_argument(
        "--format",
        dest="formats",
        nargs="+",
        action="extend",
        default=[],
        choices=FORMATS,
        metavar="FORMAT",
        help=f"{'; '.join(f'{name}: {about}' for name, about in FORMATS.items())}. "
        f"Also several (default: {' '.join(DEFAULT)})",
    )
    export.set_defaults(verb=_export)

    plan = verbs.add_parser(
        "import-plan",
        description="Print the rows of a study, as YAML, that import results or samples of other tools.",
    )
    plan.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="results, samples or tables, or directories that contain them",
    )
    plan.set_defaults(verb=_import_plan)

    cells = verbs.add_parser(
        "import-cells", description="Write the samples that a study imports as cells, with their requests."
    )
    add_study(cells)
    cells.add_argument("--to", required=True, metavar="DIR", help="directory to write")
    cells.set_defaults(verb=_import_cells)


def _export(options: argparse.Namespace) -> None:
    from ebbtide.exchange.results import export_results
    from ebbtide.jobs.cell_files import cell_files
    from ebbtide.study.load import read_study

    study, to = read_study(*options.study), Path(options.to)
    formats = options.formats or DEFAULT
    metrics = f"results/{study.name}/metrics.parquet"
    found = export_results(metrics, cell_files(study), to, study.name, formats)
    for name, written in found.items():
        counts = ", ".join(f"{count:,} {what}" for what, count in written.counts.items())
        print(f"{to}: {name}: {counts}.")
        for what, count in written.left.items():
            print(f"  {name}: {count:,} {what}.")


def _import_plan(options: argparse.Namespace) -> None:
    from ebbtide.exchange.plan import plan

    print(plan(options.files), end="")


def _import_cells(options: argparse.Namespace) -> None:
    from ebbtide.exchange.imports import write_imported_cells
    from ebbtide.study.load import read_study

    count = write_imported_cells(read_study(*options.study).imported, Path(options.to))
    print(f"{options.to}: {count} cells and their requests.")
