"""Adapter: compare checkpoints on the same examples."""

from ebbtide.logs import log_to
from ebbtide.statistics.alarms.alarms import alarms
from ebbtide.statistics.panel import models_of, read_parts, read_trajectories
from ebbtide.study.checks import find_baselines
from ebbtide.tables import write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    parts = read_parts(job.input.examples)
    found = find_baselines(models_of(parts), job.params.baseline, job.params.file)
    own = {model: one.name for model, one in found.items() if one.model == model}
    of_others = {(one.model, one.name) for model, one in found.items() if one.model != model}
    others = [p for p in parts if (p.place["model"], p.place["checkpoint"]) in of_others]
    table = alarms(read_trajectories(parts), job.params.settings, own, list(read_trajectories(others)))
    write_tsv(table, job.output.alarms)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
