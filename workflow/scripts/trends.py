"""Adapter: trends and early warning, from the metrics of every example; each trajectory is read once."""

from ebbtide.logs import log_to
from ebbtide.metrics.chosen import drawn_metrics
from ebbtide.statistics.panel import read_trajectories
from ebbtide.statistics.replicates import places_of_study, replicates
from ebbtide.statistics.trends.differences import difference_table
from ebbtide.statistics.trends.early_warning import lead_table, leads
from ebbtide.statistics.trends.seed_curves import run_curves, seed_curve_table
from ebbtide.statistics.trends.seeds import seed_table
from ebbtide.statistics.trends.trends import metric_trends, trend_table
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    metrics = read_frame(job.input.metrics, METRICS)
    drawn = drawn_metrics(metrics, params.drawn["metric"], params.drawn["metrics"])
    own = metrics[~metrics["model"].isin(params.averaged)]  # averages are made of the other rows
    places = places_of_study(own, **params.replicates)
    recipes = replicates(places)
    trends, warnings, curves = [], [], []
    for trajectory in read_trajectories(job.input.get("examples", [])):
        trends += metric_trends(trajectory, params.metrics, params.alpha)
        warnings += leads(trajectory, params.alpha)
        wanted = [*params.metrics, *drawn.get(trajectory.task, [])]
        curves += run_curves(trajectory, recipes, list(dict.fromkeys(wanted)))
    write_tsv(trend_table(trends, params.alpha, params.equivalence_margin), job.output.trends)
    runs = [trend for trend in trends if trend.model not in params.averaged]
    write_tsv(difference_table(runs, params.alpha, places), job.output.differences)
    write_tsv(seed_table(runs, recipes, params.alpha), job.output.seeds)
    joined = seed_curve_table(curves, recipes, params.alpha, params.tolerance)
    write_tsv(joined, job.output.seed_curves)
    write_tsv(lead_table(warnings), job.output.early_warning)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
