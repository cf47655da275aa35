"""Adapter: accuracy as a map of size × checkpoint."""

from ebbtide.figures import plot_heat, save
from ebbtide.logs import log_to
from ebbtide.tables import METRICS, read_frame


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    plot = plot_heat(read_frame(job.input.metrics, METRICS))
    for path in job.output:
        save(plot, path)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
