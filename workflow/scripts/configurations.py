"""Adapter: the table of the configuration search."""

from ebbtide.logs import log_to
from ebbtide.statistics.scaling_laws.search import configurations
from ebbtide.statistics.scaling_laws.testbed import read_grid
from ebbtide.tables import write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    settings = job.params.scaling_laws
    chosen = [model for row in settings["fit"] for model in row["models"]]
    drop = tuple(settings["search_drop"]) if settings["search_drop"] else None
    table, _ = configurations(read_grid(job.input.testbed), drop=drop, chosen=chosen, level=settings["level"])
    write_tsv(table, job.output.configurations)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
