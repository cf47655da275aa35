"""Adapter: fit the regressions to single answers, and compare with the regressions of cells."""

from ebbtide.logs import log_to
from ebbtide.statistics.panel import read_trajectories
from ebbtide.statistics.regression.example_model import compare, example_model
from ebbtide.statistics.regression.example_tasks import example_tasks
from ebbtide.statistics.replicates import places_of_study
from ebbtide.study.columns import read_described
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    regressions = read_described(job.input.regressions)
    tasks = example_tasks(
        read_trajectories(job.input.examples),
        zip(regressions["task"], regressions["metric"], strict=True),
        job.params.regression["parameters"],
    )
    metrics = read_frame(job.input.metrics, METRICS)
    metrics = metrics[~metrics["model"].isin(job.params.averaged)]  # made of the other rows
    places = places_of_study(metrics, **job.params.replicates)
    table = example_model(tasks, checkpoints=job.params.most_checkpoints, places=places)
    write_tsv(compare(table, regressions, job.params.regression["alpha"]), job.output.table)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
