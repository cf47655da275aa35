"""Adapter: regressions in both forms, verdicts, and a table for a paper, from the metrics."""

from ebbtide.files import write_text
from ebbtide.logs import log_to
from ebbtide.metrics.chosen import chosen_metrics
from ebbtide.statistics.regression import (
    as_tex,
    as_text,
    caption,
    paper_table,
    read_published,
    regress,
    verdicts,
    with_published,
)
from ebbtide.statistics.replicates import places_of_study
from ebbtide.tables import METRICS, read_frame, write_tsv
from ebbtide.titles import abilities


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics, settings = read_frame(job.input.metrics, METRICS), job.params.regression
    metrics = metrics[~metrics["model"].isin(job.params.averaged)]  # made of the other rows
    choice = {key: settings[key] for key in ("metric", "parameters", "adjust")}
    choice["metrics_of"] = settings["metrics"]
    choice["places"] = places_of_study(metrics, **job.params.replicates)
    standardised, raw = (regress(metrics, **choice, form=form) for form in ("standardised", "raw"))
    regressions = raw if settings["form"] == "raw" else standardised
    for file in job.input.published:
        regressions = with_published(regressions, read_published(file), file)
    write_tsv(regressions, job.output.regressions)
    if job.output.raw:
        write_tsv(raw, job.output.raw)
    judged = {"alpha": settings["alpha"], **{key: choice[key] for key in ("parameters", "places")}}
    judged["tolerance"] = job.params.tolerance
    write_tsv(verdicts(metrics, standardised, **judged), job.output.verdicts)
    found = abilities(chosen_metrics(metrics, settings["metric"], settings["metrics"]), job.params.titles)
    table = paper_table(regressions, found, settings["alpha"])
    sentences = caption(regressions, settings, settings["alpha"])
    write_text(as_text(table, sentences), job.output.text)
    write_text(as_tex(table, sentences, job.params.study), job.output.tex)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
