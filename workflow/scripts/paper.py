"""Adapter: the compiled paper."""

from pathlib import Path

from ebbtide.files import atomic
from ebbtide.logs import log_to
from ebbtide.report.paper.build import compile_paper
from ebbtide.report.paper.writing import check_toml


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    check_toml(job.input.values)
    study = {f"figures/{Path(path).name}": path for path in job.input.figures}
    pdf = compile_paper(job.input.template, {"values.toml": job.input.values, **study})
    with atomic(job.output.paper) as temporary:
        temporary.write_bytes(pdf)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
