"""Adapter: the bundle of a study."""

from ebbtide.logs import log_to
from ebbtide.report.bundle.archive import write_bundle
from ebbtide.report.bundle.contents import newest_day


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    files = dict(zip(params.names, job.input, strict=True))
    write_bundle(
        job.output.bundle,
        files,
        params.study,
        params.config,
        params.date,
        scored=None if params.date else newest_day(params.cells),
    )


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
