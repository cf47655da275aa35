"""Adapter: judge the load proofs of all checkpoints together."""

from ebbtide.logs import log_to
from ebbtide.scoring.proof.table import load_proofs_table
from ebbtide.tables import write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    table = load_proofs_table(params.models, params.store, params.rules, fake=params.fake)
    write_tsv(table, job.output.proofs)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
