"""Adapter: the regressions in the raw form, beside those of the standardised one."""

from ebbtide.logs import log_to
from ebbtide.statistics.regression import regress
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics, settings = read_frame(job.input.metrics, METRICS), job.params.regression
    choice = {key: settings[key] for key in ("metric", "parameters", "adjust")}
    write_tsv(regress(metrics, **choice, metrics_of=settings["metrics"], form="raw"), job.output.raw)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
