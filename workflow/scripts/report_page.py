"""Adapter: the report page."""

import os
from pathlib import Path

import ebbtide
from ebbtide.files import write_text
from ebbtide.logs import log_to
from ebbtide.metrics.table import read_metrics
from ebbtide.report.kept_texts import read_kept_texts
from ebbtide.report.page.page import Page, report_page
from ebbtide.statistics.flips.on_disk import read_flips
from ebbtide.study.columns import read_described

DOCS = Path(ebbtide.__file__).parents[2] / "docs"  # of a checkout


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    page = Page(
        params.study,
        read_metrics(job.input.metrics),
        {name: read_described(job.input[name]) for name in params.tables},
        params.followed,
        params.figures,
        params.captions,
        params.titles,
        read_flips(job.input.flipped[0]) if job.input.get("flipped") else None,
        params.alpha,
        params.averaged,
        os.path.relpath(DOCS, Path(job.output.page).parent) if DOCS.is_dir() else "",
        params.lacking,
        f"{job.output.page}/index.html",
        generated=params.generated,
        kept=read_kept_texts(job.input.kept[0]) if job.input.get("kept") else None,
        blurred=params.blurred,
    )
    write_text(report_page(page), job.output.page)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
