"""Adapter: the report page."""

from pathlib import Path

from ebbtide.files import write_text
from ebbtide.logs import log_to
from ebbtide.metrics.table import read_metrics
from ebbtide.report.page.page import Content, report_page
from ebbtide.statistics.flips.on_disk import read_flips
from ebbtide.tables import read_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    content = Content(
        params.study,
        read_metrics(job.input.metrics),
        {name: read_tsv(job.input[name]) for name in params.tables},
        params.followed,
        params.figures,
        params.captions,
        params.titles,
        read_flips(job.input.flipped[0]) if job.input.get("flipped") else None,
        params.alpha,
    )
    directory = Path(job.output.page)
    directory.mkdir(parents=True, exist_ok=True)
    write_text(report_page(content), directory / "index.html")


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
