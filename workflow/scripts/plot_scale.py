"""Adapter: metrics over training compute, one figure per metric."""

from functools import partial

import pandas as pd

from ebbtide.figures import plot_scale, write
from ebbtide.logs import log_to


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    text = {"shots": str, "note": str}
    points, trends = (
        pd.read_csv(path, sep="\t", dtype=text) for path in (job.input.points, job.input.trends)
    )
    for metric, *paths in zip(job.params.metrics, job.output.pdf, job.output.png, strict=True):
        draw = partial(plot_scale, points, trends, metric, job.params.parameters, job.params.titles)
        write(draw, paths)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
