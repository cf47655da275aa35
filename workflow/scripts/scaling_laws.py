"""Adapter: scaling laws, predictions and their uncertainty, from the table of runs."""

from ebbtide.logs import log_to
from ebbtide.statistics.scaling_laws import overtraining, sensitivity, trends
from ebbtide.statistics.scaling_laws.runs import RUNS
from ebbtide.statistics.scaling_laws.subset import chance_of_errors
from ebbtide.study.columns import read_described
from ebbtide.tables import read_frame, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    runs = read_frame(job.input.runs, RUNS)
    chosen = {key: job.params.scaling_laws[key] for key in ("loss", "fit", "error_fit_adds", "level")}
    settings = overtraining.Settings(**chosen)
    chance = chance_of_errors(read_described(job.input.tasks))
    train_sets = overtraining.fit_train_sets(runs, settings, chance)
    errors = sensitivity.errors_of(runs, ["avg_subset", "avg"])
    write_tsv(overtraining.predictions(train_sets, settings.level), job.output.predictions)
    write_tsv(overtraining.fits_table(train_sets, settings.level), job.output.fits)
    write_tsv(sensitivity.sensitivity(train_sets, errors), job.output.sensitivity)
    write_tsv(trends.exponents(train_sets), job.output.exponents)
    write_tsv(trends.tradeoff(train_sets, errors), job.output.tradeoff)
    write_tsv(trends.curves(train_sets, errors), job.output.curves)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
