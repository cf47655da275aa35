"""
Regressions: accuracy on log10 parameters times log10 tokens, per task; verdicts; the summary in five lines.

INPUTS   results/{study}/metrics.parquet, a paper's printed values
OUTPUTS  results/{study}/regressions.tsv       in the form of the study, p adjusted over all tests
         results/{study}/regressions_raw.tsv   raw form, beside the standardised one
         results/{study}/table.{txt,tex}       regressions.tsv as a paper prints it
         results/{study}/verdicts.tsv, summary.txt
         results/{study}/robustness.tsv        every regression under every choice, one changed at a time
         results/{study}/robustness_verdicts.tsv
RERUNS   when the metrics, the settings under `regression:`, titles or the code of the statistics change.
"""


localrules:
    regress,
    regress_raw,
    summary,
    robustness,
    table,


rule regress:
    """Fit one regression per task and metric, and say what became of each task."""
    input:
        metrics=f"{RESULTS}/metrics.parquet",
        published=published_values(),
    output:
        regressions=report(
            f"{RESULTS}/regressions.tsv",
            caption="../report/regressions.rst",
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
        code=code_digest("regression", "abilities", "multiplicity"),
    script:
        "../scripts/regress.py"


rule regress_raw:
    """Fit the same regressions in the raw form, where regressions.tsv holds the standardised one."""
    input:
        metrics=f"{RESULTS}/metrics.parquet",
    output:
        raw=report(
            f"{RESULTS}/regressions_raw.tsv",
            caption="../report/regressions_raw.rst",
            category="Regressions",
        ),
    log:
        f"logs/regress_raw/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        regression=STUDY.config["regression"],
        code=code_digest("regression", "abilities", "multiplicity"),
    script:
        "../scripts/regress_raw.py"


rule table:
    """Print the regressions as a paper does: a row per task, a column per effect."""
    input:
        regressions=f"{RESULTS}/regressions.tsv",
    output:
        text=report(
            f"{RESULTS}/table.txt",
            caption="../report/table.rst",
            category="Regressions",
        ),
        tex=f"{RESULTS}/table.tex",
    log:
        f"logs/table/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        study=STUDY.name,
        regression=STUDY.config["regression"],
        titles=STUDY.config["titles"],
        code=code_digest("regression", "abilities", "multiplicity"),
    script:
        "../scripts/table.py"


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
        code=code_digest("regression", "abilities", "multiplicity"),
    script:
        "../scripts/robustness.py"
