"""Adapter: concatenate the metrics of all checkpoints and imported metrics."""

import pandas as pd

from ebbtide.exchange.imports import import_metrics
from ebbtide.logs import log_to
from ebbtide.tables import METRICS, read_frame, write_parquet


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    parts = [read_frame(path, METRICS) for path in job.input.parts]
    for number, row in enumerate(job.params.imported):
        parts.append(import_metrics(row, f"imported[{number}]"))
    write_parquet(pd.concat(parts, ignore_index=True), job.output.metrics, METRICS)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
