"""Adapter: regressions in both forms and verdicts, from the table of metrics."""

from ebbtide.logs import log_to
from ebbtide.regression import regress, verdicts
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics = read_frame(job.input.metrics, METRICS)
    settings = job.params.regression
    choice = {"metric": settings["metric"], "parameters": settings["parameters"]}
    regressions = regress(metrics, **choice)
    write_tsv(regressions, job.output.regressions)
    write_tsv(regress(metrics, **choice, form="raw"), job.output.raw)
    write_tsv(
        verdicts(metrics, regressions, parameters=settings["parameters"], alpha=settings["alpha"]),
        job.output.verdicts,
    )


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
