"""Adapter: metrics over training compute, one figure per metric."""

import pandas as pd

from ebbtide.errors import FigureError
from ebbtide.figures import plot_scale, save, sentence
from ebbtide.logs import log, log_to


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    text = {"shots": str, "note": str}
    points, trends = (
        pd.read_csv(path, sep="\t", dtype=text) for path in (job.input.points, job.input.trends)
    )
    for metric, *paths in zip(job.params.metrics, job.output.pdf, job.output.png, strict=True):
        try:
            plot = plot_scale(points, trends, metric, job.params.parameters, job.params.titles)
        except FigureError as error:  # no task has this metric; all else of the study is there
            log.warning("%s", error)
            plot = sentence(error.args[0])
        for path in paths:
            save(plot, path)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
