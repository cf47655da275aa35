"""Adapter: the examples behind every alarm."""

from pathlib import Path

from ebbtide.errors import CellError
from ebbtide.exchange.numbered_tables import numbered_tables
from ebbtide.logs import log_to
from ebbtide.statistics.example_tables import read_parts
from ebbtide.statistics.flips.cells import Cells
from ebbtide.statistics.flips.of_alarms import by_task, cell_in_results, flips_of_alarms
from ebbtide.statistics.flips.on_disk import write_flips
from ebbtide.study.columns import read_described
from ebbtide.tables import write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params, given = job.params, job.input
    frozen = dict(zip(params.measuring, given.requests, strict=True))
    tables = flips_of_alarms(
        read_described(given.alarms),
        read_parts(path for path in given.examples if not Path(path).is_dir()),
        read_parts(path for path in given.examples if Path(path).is_dir()),
        Cells(frozen, params.measuring, cell_in_results),
        by_task(frozen, [path for of in given.imported for path in numbered_tables(of, CellError)]),
        most=params.most,
        averaged=params.averaged,
        tolerance=params.tolerance,
    )
    write_flips(tables.examples, job.output.examples)
    write_tsv(tables.pairs, job.output.pairs)
    write_tsv(tables.groups, job.output.groups)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
