"""Adapter: find suspicious results, from the metrics and the digests in their footers."""

from ebbtide.cells.result_audit import audit, read_digests, read_notices
from ebbtide.logs import log_to
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    allowed = {(model, checkpoint) for model, checkpoint in job.params.allowed}
    digests, notices = read_digests(job.input.parts), read_notices(job.input.parts)
    write_tsv(audit(read_frame(job.input.metrics, METRICS), digests, allowed, notices), job.output.audit)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
