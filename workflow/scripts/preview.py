"""Adapter: write the first requests of a task as text."""

from ebbtide.logs import log_to
from ebbtide.tables import REQUESTS, read_frame, write_tsv
from ebbtide.tasks.preview import preview


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    write_tsv(preview(read_frame(job.input.requests, REQUESTS)), job.output.preview)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
