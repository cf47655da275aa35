"""
Figures: accuracy over training, ours, in the form of a paper, and as a map; regressions under every choice.

INPUTS   results/{study}/metrics.parquet, robustness.tsv
OUTPUTS  results/{study}/figures/{accuracy,paper,heat,robustness}.{pdf,png}
RERUNS   when the tables, titles, what the audit drops or the code of the figures change.
"""


localrules:
    accuracy,
    heat,
    paper,
    plot_robustness,


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
        regression=STUDY.config["regression"],
        titles=STUDY.config["titles"],
        dropped=STUDY.dropped(),
        code=code_digest("figures", "abilities"),
    script:
        "../scripts/accuracy.py"


rule paper:
    """Draw the metric of the regressions in the form of the paper: four panels side by side, own y axes."""
    input:
        metrics=f"{RESULTS}/metrics.parquet",
    output:
        pdf=f"{RESULTS}/figures/paper.pdf",
        png=report(
            f"{RESULTS}/figures/paper.png",
            caption="../report/paper.rst",
            category="Figures",
        ),
    log:
        f"logs/paper/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        regression=STUDY.config["regression"],
        titles=STUDY.config["titles"],
        code=code_digest("figures", "abilities"),
    script:
        "../scripts/paper.py"


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
        regression=STUDY.config["regression"],
        titles=STUDY.config["titles"],
        code=code_digest("figures", "abilities"),
    script:
        "../scripts/heat.py"


rule plot_robustness:
    """Draw the interaction of every regression under every choice: a row per choice, a panel per task."""
    input:
        robustness=f"{RESULTS}/robustness.tsv",
    output:
        pdf=f"{RESULTS}/figures/robustness.pdf",
        png=report(
            f"{RESULTS}/figures/robustness.png",
            caption="../report/plot_robustness.rst",
            category="Figures",
        ),
    log:
        f"logs/plot_robustness/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        alpha=STUDY.config["regression"]["alpha"],
        titles=STUDY.config["titles"],
        code=code_digest("figures", "abilities"),
    script:
        "../scripts/plot_robustness.py"
