# Ebbtide: watch language-model abilities rise and ebb over pre-training.
#
#   snakemake --cores all                                             the embedded study, config.yaml
#   snakemake --cores all --configfile studies/memo_trap_smollm2.yaml     a study of your own
#   snakemake --profile slurm                                         the same on a cluster
#   snakemake -n                                                      what would run, and why
#   snakemake lock --cores 1                                          pin the hub's checkpoints, where a network is
#   snakemake audit --cores 1                                         are they what they claim?
#   snakemake check_alarms --cores 1                                  what fell in training? the exit status says it
#
# Where files lie (never a timestamp in a name); docs/outputs.md lists them all:
#
#   results/scores/{model}/{checkpoint}/{task}.parquet   cells, shared by all studies of this checkout
#   results/{study}/…                                    metrics, tables, figures of a study
#   resources/…                                          frozen tasks, weights made or fetched here
#   {study file}.lock.json                               commits and digests of the hub's checkpoints
#   cells/{identity}.parquet                             the cell store: nothing is scored twice
#   logs/{rule}/…                                        why a job failed; benchmarks beside the logs
from snakemake.utils import min_version

min_version("9.27")


# A study is whole in itself: with --configfile, config.yaml is not read.
if not workflow.configfiles:

    configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/checkpoints.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/scoring.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/regression.smk"
include: "workflow/rules/alarms.smk"
include: "workflow/rules/trends.smk"
include: "workflow/rules/forgetting.smk"
include: "workflow/rules/scaling_trends.smk"
include: "workflow/rules/scaling_laws.smk"
include: "workflow/rules/figures.smk"


rule all:
    """Everything that the stages registered."""
    default_target: True
    input:
        everything,


rule outputs_page:
    """Write what the stages registered as a page of the docs. Run it by name, in the checkout."""
    output:
        page="docs/outputs.md",
    log:
        "logs/outputs_page.log",
    params:
        page=lambda wildcards: OUTPUTS.page(),
    script:
        "workflow/scripts/outputs_page.py"


CODE.save()
