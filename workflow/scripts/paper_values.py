"""Adapter: the values of a paper, as TOML and as LaTeX macros."""

from ebbtide import __version__
from ebbtide.files import write_text
from ebbtide.logs import log_to
from ebbtide.report.page.images import not_drawn
from ebbtide.report.paper.values import Content, paper_values
from ebbtide.report.paper.writing import as_macros, as_toml
from ebbtide.study.columns import read_described
from ebbtide.tables import METRICS, read_frame


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    tables = {name: read_described(job.input[name]) for name in params.tables}
    metrics = read_frame(job.input.metrics, METRICS)
    reasons = not_drawn(params.figures, params.lacking)
    content = Content(
        params.study, params.config, metrics, tables, params.captions, __version__, not_drawn=reasons
    )
    values = paper_values(content)
    write_text(as_toml(values), job.output.toml)
    write_text(as_macros(values), job.output.tex)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
