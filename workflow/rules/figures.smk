"""
Figures: accuracy over training, and as a map of size × checkpoint.

INPUTS   results/{study}/metrics.parquet
OUTPUTS  results/{study}/figures/{accuracy,heat}.{pdf,png}
RERUNS   when the metrics or the code of the figures change.
"""


localrules:
    accuracy,
    heat,


rule accuracy:
    """Draw accuracy against training tokens: a line per size, a facet per task."""
    input:
        metrics=f"{RESULTS}/metrics.parquet",
    output:
        pdf=f"{RESULTS}/figures/accuracy.pdf",
        png=report(
            f"{RESULTS}/figures/accuracy.png",
            caption="../report/accuracy.rst",
            category="Figures",
        ),
    log:
        f"logs/accuracy/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        code=code_digest("figures"),
    script:
        "../scripts/accuracy.py"


rule heat:
    """Draw accuracy as a map: sizes up, checkpoints across."""
    input:
        metrics=f"{RESULTS}/metrics.parquet",
    output:
        pdf=f"{RESULTS}/figures/heat.pdf",
        png=report(
            f"{RESULTS}/figures/heat.png",
            caption="../report/heat.rst",
            category="Figures",
        ),
    log:
        f"logs/heat/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        code=code_digest("figures"),
    script:
        "../scripts/heat.py"
