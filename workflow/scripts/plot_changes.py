"""Adapter: changes from checkpoint to checkpoint."""

from ebbtide.figures import plot_changes, write
from ebbtide.logs import log_to
from ebbtide.statistics.alarms.lines import read_alarms


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    write(
        lambda: plot_changes(read_alarms(job.input.alarms), job.params.alpha, job.params.titles), job.output
    )


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
