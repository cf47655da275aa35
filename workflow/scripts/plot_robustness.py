"""Adapter: the interaction of every regression under every choice."""

import pandas as pd

from ebbtide.errors import FigureError
from ebbtide.figures import plot_robustness, save, sentence
from ebbtide.logs import log, log_to


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    words = ["verdict", "survives", "note"]
    table = pd.read_csv(job.input.robustness, sep="\t", dtype={name: str for name in words})
    try:
        table = table.fillna(dict.fromkeys(words, ""))
        plot = plot_robustness(table, alpha=job.params.alpha, titles=job.params.titles)
    except FigureError as error:  # too few cells, or a constant metric; all else of the study is there
        log.warning("%s", error)
        plot = sentence(error.args[0])
    for path in job.output:
        save(plot, path)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
