"""Adapter: alarms on the terminal, worst first."""

from datetime import datetime

from ebbtide.logs import log_to
from ebbtide.statistics.alarms.lines import lines
from ebbtide.study.columns import read_described


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    tables = read_described(job.input.alarms), read_described(job.input.not_compared)
    report = lines(*tables, job.params.settings, datetime.now().astimezone().date())
    print(*report, f"All comparisons: {job.input.alarms}", sep="\n")


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
