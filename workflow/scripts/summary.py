"""Adapter: the summary of a study, and its notices."""

from pathlib import Path

from ebbtide.files import write_text
from ebbtide.logs import log_to
from ebbtide.metrics.table import read_metrics
from ebbtide.notices import notices_table
from ebbtide.report.notices import collected
from ebbtide.report.outcomes import outcomes
from ebbtide.report.summary import summarise
from ebbtide.statistics.ratings.sentences import rating_sentences
from ebbtide.study.columns import read_described
from ebbtide.tables import write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params, results = job.params, Path(job.output.summary).parent
    metrics = read_metrics(job.input.metrics)
    tables = {name: read_described(job.input[name]) for name in params.tables}
    frozen = dict(zip(params.tasks, job.input.requests, strict=True))
    notices = collected(
        stated=params.stated,
        parts=[*job.input.parts, *job.input.metrics],  # the latter has those of imports
        requests=frozen,
        metrics=metrics,
        tables=tables,
        config=params.config,
        results=results,
        made=params.made,
        replicates=params.replicates,
    )
    found = outcomes(metrics, tables.get("trends"), tables.get("alarms"), **params.judging)
    write_tsv(notices_table(notices), job.output.notices)
    write_tsv(found, job.output.outcomes)
    files = [f"{results}/{name}" for name in params.named]
    text = summarise(
        metrics,
        found,
        tables.get("verdicts"),
        notices,
        files,
        robustness=tables.get("robustness_verdicts"),
        runs=tables.get("run_sentences"),
        compute=tables.get("compute_trends"),
        academia=tables.get("academia"),
        ratings=rating_sentences(tables["ratings"], tables["ratings_law"]) if "ratings" in tables else (),
    )
    write_text(text, job.output.summary)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
