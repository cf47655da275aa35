"""Adapter: regressions in the form of the study, and verdicts, from the table of metrics."""

from ebbtide.logs import log_to
from ebbtide.statistics.regression import read_published, regress, verdicts, with_published
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics, settings = read_frame(job.input.metrics, METRICS), job.params.regression
    choice = {key: settings[key] for key in ("metric", "parameters", "adjust")}
    choice["metrics_of"] = settings["metrics"]
    standardised = regress(metrics, **choice)
    raw = settings["form"] == "raw"
    regressions = regress(metrics, **choice, form="raw") if raw else standardised
    for file in job.input.published:
        regressions = with_published(regressions, read_published(file), file)
    write_tsv(regressions, job.output.regressions)
    judged = {"parameters": settings["parameters"], "alpha": settings["alpha"]}
    write_tsv(verdicts(metrics, standardised, **judged), job.output.verdicts)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
