"""Adapter: the metric of the regressions over training, in the form of the paper."""

from ebbtide.figures import as_they_are, plot_paper, shown, write
from ebbtide.logs import log_to
from ebbtide.tables import METRICS, read_frame
from ebbtide.titles import abilities


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics, settings = read_frame(job.input.metrics, METRICS), job.params.regression
    metric = settings["metric"]
    looked_at = abilities(metrics["task"], metric, settings["metrics"], job.params.titles)
    write(
        lambda: plot_paper(
            shown(metrics, looked_at, metric),
            metric,
            parameters=settings["parameters"],
            titles=as_they_are(looked_at),
        ),
        job.output,
    )


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
