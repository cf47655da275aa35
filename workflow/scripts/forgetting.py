"""Adapter: tables of forgetting from the metrics of every example, and a page to browse them."""

from ebbtide.errors import CellError
from ebbtide.exchange.numbered_tables import numbered_tables
from ebbtide.files import write_text
from ebbtide.logs import log_to
from ebbtide.report.forgotten.page import forgotten_page
from ebbtide.statistics.forgetting.tables import forgetting_tables, texts_of, with_texts
from ebbtide.statistics.panel import read_trajectories
from ebbtide.statistics.replicates import places_of_study, replicates
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    settings, watch = job.params.forgetting, job.params.trajectories
    measured = read_frame(job.input.metrics, METRICS)
    measured = measured[~measured["model"].isin(job.params.averaged)]  # made of the other rows
    tables = forgetting_tables(
        read_trajectories(job.input.examples),
        metrics=watch["metrics"],
        parameters=job.params.parameters,
        largest=settings["largest"],
        streak=settings["streak"],
        alpha=watch["alpha"],
        measured=measured,
        replicates=replicates(places_of_study(measured, **job.params.replicates)),
    )
    imported = [path for of in job.input.imported for path in numbered_tables(of, CellError)]
    texts = texts_of([*job.input.requests, *imported])
    examples = with_texts(tables.examples, texts)
    write_tsv(tables.summary, job.output.summary)
    write_tsv(tables.together, job.output.together)
    write_tsv(tables.curves, job.output.curves)
    write_tsv(examples, job.output.examples)
    write_text(
        forgotten_page(examples, tables.summary, job.params.study, settings["page_rows"]), job.output.page
    )


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
