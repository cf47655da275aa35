"""Adapter: every regression under every analysis choice, and which verdicts hold."""

from ebbtide.logs import log_to
from ebbtide.statistics.regression import robustness, robustness_verdicts
from ebbtide.statistics.replicates import places_of_study
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics, settings = read_frame(job.input.metrics, METRICS), job.params.regression
    metrics = metrics[~metrics["model"].isin(job.params.averaged)]  # made of the other rows
    table = robustness(
        metrics,
        metric=settings["metric"],
        metrics_of=settings["metrics"],
        parameters=settings["parameters"],
        alpha=settings["alpha"],
        adjust=settings["adjust"],
        places=places_of_study(metrics, **job.params.replicates),
    )
    write_tsv(table, job.output.robustness)
    write_tsv(robustness_verdicts(table), job.output.verdicts)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
