"""Adapter: imported results as metrics, and samples also as examples with their texts."""

from pathlib import Path

from ebbtide.exchange.examples import ExamplesOnDisk
from ebbtide.exchange.imports import import_results
from ebbtide.logs import log_to
from ebbtide.tables import METRICS, write_parquet


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    to = ExamplesOnDisk(Path(job.output.examples), Path(job.output.requests), job.input.frozen)
    found = import_results(job.params.imported, sink=to.write)
    notices = [notice.record() for notice in found.notices]
    write_parquet(found.metrics, job.output.metrics, METRICS, {"notices": notices})


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
