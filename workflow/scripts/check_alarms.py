"""Adapter: alarms on the terminal, worst first."""

from ebbtide.logs import log_to
from ebbtide.statistics.alarms.lines import lines
from ebbtide.tables import read_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    report = lines(read_tsv(job.input.alarms), job.params.checkpoints)
    print(*report, f"All comparisons: {job.input.alarms}", sep="\n")


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
