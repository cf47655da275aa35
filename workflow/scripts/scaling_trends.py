"""Adapter: metrics against training compute, and the class of every curve."""

from ebbtide.checkpoints.model_series import check_patterns, series_of
from ebbtide.logs import log_to
from ebbtide.statistics.panel import read_trajectories
from ebbtide.statistics.scaling_trends.points import parts_of, scale_points
from ebbtide.statistics.scaling_trends.trends import answers_of, scale_trends
from ebbtide.tables import METRICS, read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params, scale = job.params, job.params.scaling_trends
    metrics = read_frame(job.input.metrics, METRICS)
    check_patterns(scale["series"], metrics["model"])
    points = scale_points(
        metrics,
        scale["metrics"],
        lambda model: series_of(model, scale["series"], params.series),
        params.shots,
        parameters=params.parameters,
        tokens=scale["tokens"],
    )
    trajectories = read_trajectories(parts_of(job.input.get("examples", []), points))
    write_tsv(points, job.output.points)
    write_tsv(
        scale_trends(points, answers_of(trajectories, points), params.alpha, params.equivalence_margin),
        job.output.trends,
    )


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
