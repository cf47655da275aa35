"""Adapter: write the docs page that lists all outputs."""

from ebbtide.files import write_text
from ebbtide.logs import log_to


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    write_text(job.params.page, job.output.page)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
