"""Adapter: the interaction of every regression under every choice."""

import pandas as pd

from ebbtide.figures import plot_robustness, write
from ebbtide.logs import log_to


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    words = ["verdict", "survives", "note"]
    table = pd.read_csv(job.input.robustness, sep="\t", dtype={name: str for name in words})
    table = table.fillna(dict.fromkeys(words, ""))
    write(lambda: plot_robustness(table, alpha=job.params.alpha, titles=job.params.titles), job.output)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
