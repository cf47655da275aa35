"""Adapter: compare checkpoints on the same examples."""

import pandas as pd

from ebbtide.logs import log_to
from ebbtide.statistics.alarms.alarms import alarms
from ebbtide.statistics.alarms.by_group import read_levels
from ebbtide.statistics.alarms.not_compared import Watched, not_compared
from ebbtide.statistics.panel import read_trajectories
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    others = list(read_trajectories(job.input.baseline))
    watched = Watched(read_trajectories(job.input.examples), params.settings["metrics"])
    levels = read_levels(dict(zip(params.with_groups, job.input.with_groups, strict=True)))
    table = alarms(watched, params.settings, params.baselines, others, levels)
    metrics = [read_frame(path, METRICS) for path in job.input.metrics]
    results = metrics[0] if metrics else pd.DataFrame(columns=list(METRICS.columns))
    write_tsv(table, job.output.alarms)
    write_tsv(not_compared(results, table, watched.seen, params.settings), job.output.not_compared)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
