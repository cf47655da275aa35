"""Adapter: convert the study's own metrics to a table of runs."""

from ebbtide.logs import log_to
from ebbtide.statistics.scaling_laws.runs import RUNS
from ebbtide.statistics.scaling_laws.scored import own_runs
from ebbtide.tables import METRICS, read_frame, write_parquet, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics = read_frame(job.input.metrics, METRICS)
    runs, tasks = own_runs(metrics, **job.params.chosen)
    write_parquet(runs, job.output.runs, RUNS)
    write_tsv(tasks, job.output.tasks)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
