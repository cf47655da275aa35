"""Adapter: growth of training compute, share of academia and timeline, from the table of models."""

from ebbtide.logs import log_to
from ebbtide.statistics.compute_trends.academia import shares
from ebbtide.statistics.compute_trends.growth import growth
from ebbtide.statistics.compute_trends.models import read_models
from ebbtide.statistics.compute_trends.timeline import timeline
from ebbtide.tables import write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    settings = job.params.compute_trends
    models = read_models(job.input.table, settings)
    large = timeline(models, settings)
    write_tsv(models, job.output.models)
    write_tsv(growth(models, settings["level"]), job.output.trends)
    write_tsv(shares(models, settings["fraction"], settings["iterations"]), job.output.academia)
    write_tsv(large, job.output.timeline)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
