"""Adapter: abrupt abilities, from the metrics of every example; each trajectory is read once."""

import pandas as pd

from ebbtide.logs import log_to
from ebbtide.statistics.abrupt.curves import Curves, left_out_table, points_table
from ebbtide.statistics.abrupt.verdicts import verdict_table
from ebbtide.statistics.panel import read_trajectories
from ebbtide.statistics.replicates import places_of_study
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    metrics = read_frame(job.input.metrics, METRICS)
    curves = Curves(places_of_study(metrics, **params.replicates), params.tasks)
    over_training = [curves.add(one) for one in read_trajectories(job.input.get("examples", []))]
    found = [*curves.over_size(), *(curve for curve in over_training if curve is not None)]
    tables = [verdict_table(found, params.alpha), left_out_table(curves.left_out)]
    write_tsv(pd.concat([table for table in tables if len(table)] or tables[:1]), job.output.verdicts)
    write_tsv(points_table(found), job.output.points)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
