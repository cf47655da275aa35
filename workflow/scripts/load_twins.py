"""Adapter: compare checkpoints with their twins."""

from ebbtide.logs import log_to
from ebbtide.scoring.proof.twins import twins_table
from ebbtide.tables import write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    table = twins_table(params.twins, params.models, params.store, fake=params.fake)
    write_tsv(table, job.output.twins)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
