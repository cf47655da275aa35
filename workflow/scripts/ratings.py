"""Adapter: errors of expected ratings and their law over sizes, from the cells of rating tasks."""

import json

from ebbtide.logs import log_to
from ebbtide.statistics.ratings.predictions import read_predictions
from ebbtide.statistics.ratings.tables import rating_tables
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    requests = dict(zip(params.tasks, job.input.requests, strict=True))
    ratings, law = rating_tables(
        read_predictions(json.loads(params.expected), job.input.cells, requests),
        read_frame(job.input.metrics, METRICS),
        parameters=params.parameters,
        target=params.ratings["target_rmse"],
        level=params.ratings["level"],
    )
    write_tsv(ratings, job.output.ratings)
    write_tsv(law, job.output.law)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
