"""Adapter: how the cells of each checkpoint were made, and what they cost."""

from ebbtide.logs import log_to
from ebbtide.report.cost.tables import cost_table, provenance_table, read_records
from ebbtide.tables import write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    table = provenance_table(read_records(job.input.parts), job.params.origins, job.params.cost)
    write_tsv(table, job.output.provenance)
    write_tsv(cost_table(table), job.output.cost)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
