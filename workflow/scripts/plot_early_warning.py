"""Adapter: falling accuracy beside the signals that may fall before it."""

import pandas as pd

from ebbtide.figures import plot_early_warning, write
from ebbtide.logs import log_to
from ebbtide.tables import METRICS, read_frame


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    leads = pd.read_csv(job.input.early_warning, sep="\t")
    write(
        lambda: plot_early_warning(read_frame(job.input.metrics, METRICS), leads, job.params.titles),
        job.output,
    )


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
