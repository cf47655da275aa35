# Ebbtide: watch language-model abilities rise and ebb over pre-training.
#
#   snakemake --cores all                                             the embedded study, config.yaml
#   snakemake --cores all --configfile studies/memo_trap_smollm2.yaml     a study of your own
#   snakemake --profile slurm                                         the same on a cluster
#   snakemake -n                                                      what would run, and why
#   snakemake lock --cores 1                                          pin checkpoints from the hub; needs a network
#   snakemake audit --cores 1                                         check the metadata of these checkpoints
#   snakemake check_alarms --cores 1                                  report regression alarms, with an exit status
#   snakemake paper --cores 1                                         a short paper of the study, as PDF
#   snakemake bundle --cores 1                                        one archive, to rebuild all of it elsewhere
#   snakemake paper --cores all --config bundle=FILE                  rebuild a paper from it, without scoring
#
# Paths of results, without timestamps (docs/outputs.md lists them all):
#
#   results/scores/{model}/{checkpoint}/{task}.parquet   cells, shared by all studies of this checkout
#   results/{study}/…                                    metrics, tables, figures of a study
#   resources/…                                          frozen tasks, trained or fetched weights
#   {study file}.lock.json                               commits and digests of checkpoints from the hub
#   cells/{identity}.parquet                             the cell store, so that nothing is scored twice
#   logs/{rule}/…                                        logs and benchmarks of jobs
from snakemake.utils import min_version

min_version("9.27")


# A study file is complete: with --configfile, config.yaml is not read. So is a bundle (rules/common.smk).
if not workflow.configfiles and "bundle" not in config:

    configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/checkpoints.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/scoring.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/regression.smk"
include: "workflow/rules/alarms.smk"
include: "workflow/rules/flips.smk"
include: "workflow/rules/trends.smk"
include: "workflow/rules/forgetting.smk"
include: "workflow/rules/resolution.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/scaling_trends.smk"
include: "workflow/rules/scaling_laws.smk"
include: "workflow/rules/compute_trends.smk"
include: "workflow/rules/abrupt.smk"
include: "workflow/rules/fairness.smk"
include: "workflow/rules/toxicity.smk"
include: "workflow/rules/ratings.smk"
include: "workflow/rules/kept_texts.smk"
include: "workflow/rules/provenance.smk"
include: "workflow/rules/load_proofs.smk"
include: "workflow/rules/summary.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/paper.smk"


rule all:
    """All files registered by the stages."""
    default_target: True
    input:
        lambda wildcards: require_checkpoints() or OUTPUTS.targets(),
    localrule: True


rule outputs_page:
    """Write docs/outputs.md from the registered files. Run by name, in the checkout."""
    output:
        page="docs/outputs.md",
    log:
        "logs/outputs_page.log",
    localrule: True
    params:
        page=lambda wildcards: OUTPUTS.page(),
    script:
        "workflow/scripts/outputs_page.py"


CODE.save()
