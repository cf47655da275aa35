"""Adapter: the summary of a study."""

from pathlib import Path

import pandas as pd

from ebbtide.files import write_text
from ebbtide.logs import log_to
from ebbtide.report.summary import summarise
from ebbtide.tables import METRICS, read_frame


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    metrics = read_frame(job.input.metrics, METRICS)
    verdicts = pd.read_csv(job.input.verdicts, sep="\t", keep_default_na=False, na_values=[""])
    write_text(summarise(metrics, verdicts, str(Path(job.output.summary).parent)), job.output.summary)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
