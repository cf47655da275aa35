"""Adapter: accuracy as a map of size × checkpoint."""

from ebbtide.figures import as_they_are, plot_heat, shown, write
from ebbtide.logs import log_to
from ebbtide.tables import METRICS, read_frame
from ebbtide.titles import abilities


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics, settings = read_frame(job.input.metrics, METRICS), job.params.regression
    looked_at = abilities(metrics["task"], "accuracy", settings["metrics"], job.params.titles)
    write(
        lambda: plot_heat(
            shown(metrics, looked_at, "accuracy"),
            parameters=settings["parameters"],
            titles=as_they_are(looked_at),
        ),
        job.output,
    )


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
