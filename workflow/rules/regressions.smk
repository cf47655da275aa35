"""
Regressions: accuracy on log10 parameters times log10 tokens, per task; verdicts; the summary in five lines.

INPUTS   results/{study}/metrics.parquet
OUTPUTS  results/{study}/regressions.tsv       standardised form, p adjusted over all tests
         results/{study}/regressions_raw.tsv   raw form
         results/{study}/verdicts.tsv, summary.txt
         results/{study}/robustness.tsv        every regression under every choice, one changed at a time
         results/{study}/robustness_verdicts.tsv
RERUNS   when the metrics, the settings under `regression:` or the code of the statistics change.
"""


localrules:
    regress,
    summary,
    robustness,


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


rule robustness:
    """Fit every regression again with one choice changed at a time, and say which verdicts survive."""
    input:
        metrics=f"{RESULTS}/metrics.parquet",
    output:
        robustness=report(
            f"{RESULTS}/robustness.tsv",
            caption="../report/robustness.rst",
            category="Regressions",
        ),
        verdicts=report(
            f"{RESULTS}/robustness_verdicts.tsv",
            caption="../report/robustness_verdicts.rst",
            category="Regressions",
        ),
    log:
        f"logs/robustness/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        regression=STUDY.config["regression"],
        code=code_digest("regression"),
    script:
        "../scripts/robustness.py"
