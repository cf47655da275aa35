"""Adapter: what is forgotten over training, beside what flicker gives."""

import pandas as pd

from ebbtide.errors import FigureError
from ebbtide.figures import save, sentence
from ebbtide.figures.forgetting import plot_forgetting
from ebbtide.logs import log, log_to


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    curves = pd.read_csv(job.input.curves, sep="\t", keep_default_na=False, na_values=[""])
    try:
        plot = plot_forgetting(curves, job.params.parameters, job.params.titles)
    except FigureError as error:
        log.warning("%s", error)
        plot = sentence(error.args[0])
    for path in job.output:
        save(plot, path)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
