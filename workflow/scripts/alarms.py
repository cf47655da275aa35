"""Adapter: compare checkpoints on the same examples."""

from ebbtide.logs import log_to
from ebbtide.statistics.alarms.alarms import alarms
from ebbtide.statistics.panel import read_trajectories
from ebbtide.tables import write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    others = list(read_trajectories(job.input.baseline))
    trajectories = read_trajectories(job.input.examples)
    write_tsv(alarms(trajectories, job.params.settings, job.params.baselines, others), job.output.alarms)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
