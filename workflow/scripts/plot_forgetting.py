"""Adapter: what is forgotten over training, beside what flicker gives."""

import pandas as pd

from ebbtide.figures import write
from ebbtide.figures.forgetting import plot_forgetting
from ebbtide.logs import log_to


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    curves = pd.read_csv(job.input.curves, sep="\t", keep_default_na=False, na_values=[""])
    write(lambda: plot_forgetting(curves, job.params.parameters, job.params.titles), job.output)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
