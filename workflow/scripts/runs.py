"""Adapter: arms compared with the reference, and the noise of seeds."""

from ebbtide.logs import log_to
from ebbtide.notices import notices_table
from ebbtide.statistics.panel import read_trajectories
from ebbtide.statistics.runs.arms import comparison_of
from ebbtide.statistics.runs.compare import compare_runs
from ebbtide.statistics.runs.seeds import seed_components
from ebbtide.study.arms import Run
from ebbtide.tables import METRICS, read_frame, read_tsv, write_tsv


def main(job) -> None:
    """Unpack the Snakemake job."""
    log_to(job.log[0])
    params, output = job.params, job.output
    metrics = read_frame(job.input.metrics, METRICS)
    metrics = metrics[~metrics["model"].isin(params.averaged)]  # made of the other rows
    tables = [read_tsv(path) for path in job.input.get("seed_sd", [])]
    arms, settings, notices = comparison_of(
        [Run(**model) for model in params.models], metrics, params.settings, *tables
    )
    trajectories = [
        t for t in read_trajectories(job.input.get("examples", [])) if t.model in set(arms["model"])
    ]
    compared = compare_runs(trajectories, metrics, arms, settings)
    made = {
        "arms": arms,
        "differences": compared.differences,
        "verdicts": compared.verdicts,
        "sentences": compared.sentences,
        "seeds": seed_components(trajectories, metrics, arms, settings),
        "notices": notices_table([*notices, *compared.notices]),
    }
    for name, path in output.items():  # of a single arm, there are no differences
        write_tsv(made[name], path)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821  (injected by Snakemake)
