"""Adapter: what each task can tell, and its proxies, from metrics and the metrics of every example."""

import json

from ebbtide.logs import log_to
from ebbtide.statistics.panel import read_trajectories
from ebbtide.statistics.replicates import places_of_study
from ebbtide.statistics.resolution.ends import ends_of
from ebbtide.statistics.resolution.tables import resolution_tables
from ebbtide.statistics.resolution.windows import Settings
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    metrics = read_frame(job.input.metrics, METRICS)
    metrics = metrics[~metrics["model"].isin(params.averaged)]  # made of the other rows
    resolution, proxies = resolution_tables(
        read_trajectories(job.input.get("examples", [])),
        metrics,
        places_of_study(metrics, **params.replicates),
        Settings(params.resolution["last"], params.metrics, params.alpha, params.tolerance),
        least=params.resolution["least_correlation"],
        ends=ends_of(json.loads(params.windows), job.input.get("cells", []), job.input.get("requests", [])),
    )
    write_tsv(resolution, job.output.resolution)
    write_tsv(proxies, job.output.proxies)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
