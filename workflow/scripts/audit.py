"""Adapter: write the findings about checkpoints as a table, and print the worst."""

import sys

import pandas as pd

from ebbtide.checkpoints.findings import COLUMNS, audit_lines
from ebbtide.logs import log_to
from ebbtide.tables import write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    findings = pd.DataFrame(list(job.params.findings), columns=list(COLUMNS))
    write_tsv(findings, job.output.audit)
    print(*audit_lines(job.params.findings), f"All findings: {job.output.audit}", sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
