"""Adapter: the summary of a study."""

from pathlib import Path

from ebbtide.files import write_text
from ebbtide.logs import log_to
from ebbtide.report.summary import summarise
from ebbtide.tables import METRICS, read_frame, read_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics = read_frame(job.input.metrics, METRICS)
    verdicts = read_tsv(job.input.verdicts)
    write_text(summarise(metrics, verdicts, str(Path(job.output.summary).parent)), job.output.summary)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
