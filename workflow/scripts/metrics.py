"""Adapter: concatenate the metrics of all checkpoints and imported metrics."""

import pandas as pd

from ebbtide.exchange.merge import joined
from ebbtide.logs import log_to
from ebbtide.notices import from_records
from ebbtide.statistics.example_tables import read_parts
from ebbtide.statistics.panel import not_compared
from ebbtide.tables import METRICS, read_footer, read_frame, write_parquet


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    parts = [read_frame(path, METRICS) for path in job.input.parts]
    scored = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(METRICS.columns))
    notices = []
    for path in job.input.imported:
        scored, filled = joined(scored, read_frame(path, METRICS))
        notices += [*from_records(read_footer(path, METRICS)["notices"]), *filled]
    notices += not_compared(read_parts(job.input.examples))
    record = {"notices": [notice.record() for notice in notices]}
    write_parquet(scored, job.output.metrics, METRICS, record)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
