"""
Scored runs: scaling laws on models that this study has scored itself.

INPUTS   results/{study}/metrics.parquet, the frozen task of the loss
OUTPUTS  results/{study}/runs.parquet, tasks.tsv    one row per run and quantity; which tasks are averaged
         results/{study}/scaling.txt                predicted and actual, and E, in words; printed at the end
RERUNS   when the metrics, the settings under `scaling:` or the code change.
"""

if "scored" in (SCALING or {}):

    localrules:
        scored_runs,
        scaling_summary,

    rule scored_runs:
        """Read losses and errors of the study's models into one tidy table of runs."""
        input:
            metrics=f"{RESULTS}/metrics.parquet",
        output:
            runs=f"{RESULTS}/runs.parquet",
            tasks=f"{RESULTS}/tasks.tsv",
        log:
            f"logs/scored_runs/{STUDY.name}.log",
        priority: COMMON
        conda:
            "../../envs/ebbtide.yaml"
        params:
            chosen={
                "train_set": STUDY.name,
                "loss": SCALING["loss"],
                "errors": SCALING["scored"]["errors"],
            },
            code=code_digest("scaling"),
        script:
            "../scripts/scored_runs.py"

    rule scaling_summary:
        """Say in words how the predictions turned out, and whether E can be believed."""
        input:
            predictions=f"{RESULTS}/predictions.tsv",
            fits=f"{RESULTS}/fits.tsv",
            text=ancient(STUDY.tasks[SCALING["loss"]].frozen),
        output:
            summary=report(
                f"{RESULTS}/scaling.txt",
                caption="../report/scaling_summary.rst",
                category="Scaling laws",
            ),
        log:
            f"logs/scaling_summary/{STUDY.name}.log",
        priority: COMMON
        conda:
            "../../envs/ebbtide.yaml"
        params:
            chain=f"loss_{SCALING['loss']}",
            code=code_digest("scaling", "corpus"),
        script:
            "../scripts/scaling_summary.py"
