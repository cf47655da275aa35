"""Adapter: the figures of a study."""

from pathlib import Path

from ebbtide.logs import log_to
from ebbtide.report.draw import draw_figures


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    names = [Path(path).stem for path in job.output.pdf]
    draw_figures(names, dict(job.input.items()), dict(job.params.items()), list(job.output))


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
