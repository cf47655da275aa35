"""Adapter: describe predicted and actual values, and E and the entropy of the source, in words."""

from ebbtide.corpus.likelihood import source_of
from ebbtide.files import write_text
from ebbtide.logs import log_to
from ebbtide.statistics.scaling_laws.summary import Source, summarise
from ebbtide.study.columns import read_described
from ebbtide.tables import REQUESTS, read_footer, read_frame


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    predictions, fits = read_described(job.input.predictions), read_described(job.input.fits)
    definition = read_footer(job.input.text, REQUESTS)["definition"]
    known = source_of(definition["source"], read_frame(job.input.text, REQUESTS)["continuation"].tolist())
    source = Source(*known) if known else None
    write_text(summarise(predictions, fits, job.params.chain, source), job.output.summary)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
