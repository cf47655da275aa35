"""Adapter: read the JSON files of the testbed into one table of runs, with averages over tasks."""

from ebbtide.logs import log_to
from ebbtide.statistics.scaling_laws.runs import RUNS
from ebbtide.statistics.scaling_laws.subset import with_averages
from ebbtide.statistics.scaling_laws.testbed import read_chance, read_testbed
from ebbtide.tables import write_parquet, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    runs = read_testbed(job.input.testbed)
    runs, tasks = with_averages(runs, read_chance(job.input.testbed), job.params.scaling_laws.get("subset"))
    write_parquet(runs, job.output.runs, RUNS)
    write_tsv(tasks, job.output.tasks)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
