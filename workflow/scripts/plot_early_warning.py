"""Adapter: falling accuracy beside the signals that may fall before it."""

import pandas as pd

from ebbtide.errors import FigureError
from ebbtide.figures import plot_early_warning, save, sentence
from ebbtide.logs import log, log_to
from ebbtide.tables import METRICS, read_frame


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    try:
        leads = pd.read_csv(job.input.early_warning, sep="\t")
        plot = plot_early_warning(read_frame(job.input.metrics, METRICS), leads, job.params.titles)
    except FigureError as error:  # nothing falls, or no signal is tested: the figure says so
        log.warning("%s", error)
        plot = sentence(error.args[0])
    for path in job.output:
        save(plot, path)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
