"""Adapter: accuracy against training tokens."""

import pandas as pd

from ebbtide.abilities import abilities
from ebbtide.errors import FigureError
from ebbtide.figures import as_they_are, plot_accuracy, save, sentence, shown
from ebbtide.logs import log, log_to
from ebbtide.tables import METRICS, read_frame


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics, settings = read_frame(job.input.metrics, METRICS), job.params.regression
    looked_at = abilities(metrics["task"], "accuracy", settings["metrics"], job.params.titles)
    dropped = pd.DataFrame(list(job.params.dropped), columns=["model", "checkpoint", "tokens"])
    try:
        plot = plot_accuracy(
            shown(metrics, looked_at, "accuracy"),
            parameters=settings["parameters"],
            titles=as_they_are(looked_at),
            dropped=dropped,
        )
    except FigureError as error:  # a study of losses has no accuracy; all else of it is there
        log.warning("%s", error)
        plot = sentence(error.args[0])
    for path in job.output:
        save(plot, path)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
