"""Adapter: the regressions as a paper prints them, as text and as LaTeX."""

import pandas as pd

from ebbtide.files import write_text
from ebbtide.logs import log_to
from ebbtide.statistics.regression import as_tex, as_text, caption, paper_table
from ebbtide.titles import abilities


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    regressions = pd.read_csv(job.input.regressions, sep="\t", dtype={"task": str, "metric": str})
    settings = job.params.regression
    looked_at = abilities(regressions["task"], settings["metric"], settings["metrics"], job.params.titles)
    table = paper_table(regressions, looked_at, settings["alpha"])
    sentences = caption(regressions, settings, settings["alpha"])
    write_text(as_text(table, sentences), job.output.text)
    write_text(as_tex(table, sentences, job.params.study), job.output.tex)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
