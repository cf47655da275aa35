"""Adapter: trends and early warning, from the metrics of every example; each trajectory is read once."""

from ebbtide.logs import log_to
from ebbtide.statistics.panel import read_trajectories
from ebbtide.statistics.trends.early_warning import lead_table, leads
from ebbtide.statistics.trends.trends import difference_table, metric_trends, trend_table
from ebbtide.tables import write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params = job.params
    trends, warnings = [], []
    for trajectory in read_trajectories(job.input.get("examples", [])):
        trends += metric_trends(trajectory, params.metrics, params.alpha)
        warnings += leads(trajectory, params.alpha)
    write_tsv(trend_table(trends, params.alpha, params.equivalence_margin), job.output.trends)
    sizes = [trend for trend in trends if trend.model not in params.averaged]  # each size once
    write_tsv(difference_table(sizes, params.alpha), job.output.differences)
    write_tsv(lead_table(warnings), job.output.early_warning)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
