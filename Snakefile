# Ebbtide: watch language-model abilities rise and ebb over pre-training.
#
#   snakemake --cores all                                             the embedded study, config.yaml
#   snakemake --cores all --configfile studies/memo_trap_smollm2.yaml     a study of your own
#   snakemake --profile slurm                                         the same on a cluster
#   snakemake -n                                                      what would run, and why
#   snakemake lock --cores 1                                          pin the hub's checkpoints, where a network is
#   snakemake audit --cores 1                                         are they what they claim?
#   snakemake alarms --cores 1                                        what fell in training? the exit status says it
#
# Where things lie (never a timestamp in a name):
#
#   results/scores/{model}/{checkpoint}/{task}.parquet   cells, shared by all studies of this checkout
#   results/{study}/metrics.parquet                      one row per model, checkpoint, task, metric
#   results/{study}/examples/{model}/...                  the metrics of every example of a checkpoint
#   results/{study}/regressions.tsv, regressions_raw.tsv, verdicts.tsv, summary.txt
#   results/{study}/trends.tsv, trend_differences.tsv    slope and class of every curve; small against large models
#   results/{study}/early_warning.tsv                    does margin or coverage fall before accuracy?
#   results/{study}/figures/trends.{pdf,png}, early_warning.{pdf,png}
#   results/{study}/table.txt, table.tex                 the regressions as a paper prints them
#   results/{study}/robustness.tsv, robustness_verdicts.tsv  which verdicts survive another choice
#   results/{study}/figures/accuracy.{pdf,png}, paper.{pdf,png}, heat.{pdf,png}, robustness.{pdf,png},
#     forgetting.{pdf,png}, alarms.{pdf,png}, changes.{pdf,png}
#   results/{study}/forgetting.tsv, forgotten_together.tsv, forgotten_examples.{tsv,html}, forgetting_curves.tsv
#   results/{study}/example_model.tsv                    the regressions once more, from single answers
#   results/{study}/alarms.tsv                           each checkpoint against others, on the same examples
#   results/{study}/scale_trends.tsv, scale_points.tsv, figures/scale_*.{pdf,png}   over compute, with `scale:`
#   results/{study}/predictions.tsv, fits.tsv, sensitivity.tsv, configurations.tsv, exponents.tsv, tradeoff.tsv
#   results/{study}/runs.parquet, scaling.txt            the runs of scaling laws; predicted against actual, in words
#   results/{study}/figures/scaling_*.{pdf,png}          scaling laws, of a study with `scaling:`
#   resources/tasks/{task}.parquet, {task}.preview.tsv   frozen tasks: what is asked, and its beginning to read
#   results/{study}/audit.tsv, audit_cells.tsv           are checkpoints, and their results, what they claim?
#   resources/checkpoints/{model}/{checkpoint}/          weights made or fetched here
#   {study file}.lock.json                               commits and digests of the hub's checkpoints
#   cells/{identity}.parquet                             the cell store: nothing is scored twice
#   logs/{rule}/...                                      why a job failed; benchmarks beside the logs
from snakemake.utils import min_version

min_version("9.27")


# A study is whole in itself: with --configfile, config.yaml is not read.
if not workflow.configfiles:

    configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/checkpoints.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/regressions.smk"
include: "workflow/rules/trends.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/forgetting.smk"
include: "workflow/rules/alarms.smk"
include: "workflow/rules/scale.smk"
include: "workflow/rules/scaling.smk"
include: "workflow/rules/scored_runs.smk"


rule all:
    """Everything the study asks for."""
    default_target: True
    input:
        tasks=all_tasks(),
        previews=[f"resources/tasks/{task}.preview.tsv" for task in STUDY.tasks],
        cells=all_cells(),
        # Named here, so that they are made when they are missing: their names say which cells they saw.
        parts=all_parts(),
        metrics=[f"{RESULTS}/metrics.parquet"] if STUDY.has_metrics() else [],
        tables=expand("{results}/{table}", results=RESULTS, table=TABLES),
        figures=all_figures(),
        audit=[f"{RESULTS}/audit.tsv"] if STUDY.hub else [],
