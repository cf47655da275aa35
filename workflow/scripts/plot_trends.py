"""Adapter: slopes over training with their intervals."""

import pandas as pd

from ebbtide.errors import FigureError
from ebbtide.figures import plot_trends, save, sentence
from ebbtide.logs import log, log_to


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    try:
        plot = plot_trends(pd.read_csv(job.input.trends, sep="\t"), job.params.titles)
    except FigureError as error:  # one checkpoint has no slope; all else of the study is there
        log.warning("%s", error)
        plot = sentence(error.args[0])
    for path in job.output:
        save(plot, path)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
