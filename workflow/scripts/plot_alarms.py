"""Adapter: alarms along training."""

from ebbtide.errors import FigureError
from ebbtide.figures import plot_alarms, save, sentence
from ebbtide.logs import log, log_to
from ebbtide.trajectories.alarm_lines import read_alarms


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    try:
        plot = plot_alarms(read_alarms(job.input.alarms), job.params.titles)
    except FigureError as error:  # without examples nothing was compared; all else of the study is there
        log.warning("%s", error)
        plot = sentence(error.args[0])
    for path in job.output:
        save(plot, path)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
