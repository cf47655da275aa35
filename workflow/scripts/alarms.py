"""Adapter: compare checkpoints on the same examples."""

import pandas as pd

from ebbtide.logs import log_to
from ebbtide.statistics.alarms.alarms import alarms
from ebbtide.statistics.alarms.by_group import read_levels
from ebbtide.statistics.alarms.not_compared import Watched, not_compared
from ebbtide.statistics.example_tables import read_parts
from ebbtide.statistics.panel import having_examples, models_of, read_trajectories
from ebbtide.statistics.replicates import places_of_study, replicates
from ebbtide.study.checks import find_baselines
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params, parts = job.params, read_parts(job.input.examples)
    found = find_baselines(models_of(parts), params.baseline, params.file, params.averaged)
    own = {model: one.name for model, one in found.items() if one.model == model}
    of_others = {(one.model, one.name) for model, one in found.items() if one.model != model}
    others = [p for p in parts if (p.place["model"], p.place["checkpoint"]) in of_others]
    watched = Watched(read_trajectories(parts), params.settings["metrics"])
    levels = read_levels(dict(zip(params.with_groups, job.input.with_groups, strict=True)))
    metrics = [read_frame(path, METRICS) for path in job.input.metrics]
    results = metrics[0] if metrics else pd.DataFrame(columns=list(METRICS.columns))
    single = results[~results["model"].isin(params.averaged)]  # averages are made of the other rows
    recipes = replicates(places_of_study(single, **params.replicates))
    baselines = list(read_trajectories(others))
    table = alarms(
        watched, params.settings, own, baselines, levels, recipes=recipes, tolerance=params.tolerance
    )
    write_tsv(table, job.output.alarms)
    missing = not_compared(results, table, watched.seen, params.settings, having_examples(parts))
    write_tsv(missing, job.output.not_compared)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
