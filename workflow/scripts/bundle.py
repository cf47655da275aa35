"""Adapter: the bundle of a study."""

from ebbtide.logs import log, log_to
from ebbtide.report.bundle.archive import write_bundle


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    files = dict(zip(params.names, job.input, strict=True))
    if params.date is None:
        log.warning("paper.date is not set, so the metadata has no date of publication")
    write_bundle(job.output.bundle, files, params.study, params.config, params.date)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
