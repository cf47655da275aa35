"""
Trends: slopes over training, the class of every curve, bends, and what falls before accuracy does.

INPUTS   results/{study}/examples/{model}/{checkpoint}-{expected}.parquet, metrics.parquet for the figures
OUTPUTS  results/{study}/trends.tsv              one row per model, task, watched metric
         results/{study}/trend_differences.tsv   largest against smallest model, per task
         results/{study}/early_warning.tsv       one row per model, task, signal
         results/{study}/figures/{trends,early_warning}.{pdf,png}
RERUNS   when an example's metrics are new, the grid, the settings under `trajectories:` or `trends:`, or the code
         changes.
"""


localrules:
    trends,
    plot_trends,
    plot_early_warning,


rule trends:
    """Follow every example through training: slopes, classes, bends, early warning."""
    input:
        examples=all_examples(),
    output:
        trends=report(
            f"{RESULTS}/trends.tsv", caption="../report/trends.rst", category="Trends"
        ),
        differences=report(
            f"{RESULTS}/trend_differences.tsv",
            caption="../report/trend_differences.rst",
            category="Trends",
        ),
        early_warning=report(
            f"{RESULTS}/early_warning.tsv",
            caption="../report/early_warning.rst",
            category="Trends",
        ),
    log:
        f"logs/trends/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        examples=all_examples(),  # one less is a change, too
        metrics=STUDY.config["trajectories"]["metrics"],
        alpha=STUDY.config["trajectories"]["alpha"],
        flat=STUDY.config["trends"]["equivalence_margin"],
        code=code_digest("trajectories", "multiplicity", "metrics", "tables"),
    script:
        "../scripts/trends.py"


rule plot_trends:
    """Draw the slopes with their intervals: a panel per task, a row per model."""
    input:
        trends=f"{RESULTS}/trends.tsv",
    output:
        pdf=f"{RESULTS}/figures/trends.pdf",
        png=report(
            f"{RESULTS}/figures/trends.png",
            caption="../report/plot_trends.rst",
            category="Figures",
        ),
    log:
        f"logs/plot_trends/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        titles=STUDY.config["titles"],
        code=code_digest("figures", "abilities"),
    script:
        "../scripts/plot_trends.py"


rule plot_early_warning:
    """Draw falling accuracy beside the signals that may fall before it."""
    input:
        metrics=f"{RESULTS}/metrics.parquet",
        early_warning=f"{RESULTS}/early_warning.tsv",
    output:
        pdf=f"{RESULTS}/figures/early_warning.pdf",
        png=report(
            f"{RESULTS}/figures/early_warning.png",
            caption="../report/plot_early_warning.rst",
            category="Figures",
        ),
    log:
        f"logs/plot_early_warning/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        titles=STUDY.config["titles"],
        code=code_digest("figures", "abilities"),
    script:
        "../scripts/plot_early_warning.py"
