"""Adapter: write the first requests of a task as text."""

from ebbtide.logs import log_to
from ebbtide.tables import REQUESTS, read_footer, read_frame, write_tsv
from ebbtide.tasks.preview import preview


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    requests, footer = read_frame(job.input.requests, REQUESTS), read_footer(job.input.requests, REQUESTS)
    write_tsv(preview(requests, footer=footer), job.output.preview)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
