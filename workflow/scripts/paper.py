"""Adapter: the metric of the regressions over training, in the form of the paper."""

from ebbtide.abilities import abilities
from ebbtide.errors import FigureError
from ebbtide.figures import as_they_are, plot_paper, save, sentence, shown
from ebbtide.logs import log, log_to
from ebbtide.tables import METRICS, read_frame


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics, settings = read_frame(job.input.metrics, METRICS), job.params.regression
    metric = settings["metric"]
    looked_at = abilities(metrics["task"], metric, settings["metrics"], job.params.titles)
    try:
        plot = plot_paper(
            shown(metrics, looked_at, metric),
            metric,
            parameters=settings["parameters"],
            titles=as_they_are(looked_at),
        )
    except FigureError as error:
        log.warning("%s", error)
        plot = sentence(error.args[0])
    for path in job.output:
        save(plot, path)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
