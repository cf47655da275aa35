"""Adapter: slopes over training with their intervals."""

import pandas as pd

from ebbtide.figures import plot_trends, write
from ebbtide.logs import log_to


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    write(lambda: plot_trends(pd.read_csv(job.input.trends, sep="\t"), job.params.titles), job.output)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
