"""
Regressions: accuracy on log10 parameters times log10 tokens, per task; verdicts; the summary in five lines.

INPUTS   results/{study}/metrics.parquet
OUTPUTS  results/{study}/regressions.tsv       standardised form, p adjusted over all tests
         results/{study}/regressions_raw.tsv   raw form
         results/{study}/verdicts.tsv, summary.txt
RERUNS   when the metrics, the settings under `regression:` or the code of the statistics change.
"""


localrules:
    regress,
    summary,


rule regress:
    """Fit one regression per task, in both forms, and say what became of each task."""
    input:
        metrics=f"{RESULTS}/metrics.parquet",
    output:
        regressions=report(
            f"{RESULTS}/regressions.tsv",
            caption="../report/regressions.rst",
            category="Regressions",
        ),
        raw=report(
            f"{RESULTS}/regressions_raw.tsv",
            caption="../report/regressions_raw.rst",
            category="Regressions",
        ),
        verdicts=report(
            f"{RESULTS}/verdicts.tsv",
            caption="../report/verdicts.rst",
            category="Regressions",
        ),
    log:
        f"logs/regress/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        regression=STUDY.config["regression"],
        code=code_digest("regression"),
    script:
        "../scripts/regress.py"


rule summary:
    """Say in five lines what was found and where it lies."""
    input:
        metrics=f"{RESULTS}/metrics.parquet",
        verdicts=f"{RESULTS}/verdicts.tsv",
    output:
        summary=f"{RESULTS}/summary.txt",
    log:
        f"logs/summary/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        code=code_digest("summary"),
    script:
        "../scripts/summary.py"
