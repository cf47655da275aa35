"""
Trends: slopes over training, the class of every curve, bends, and what falls before accuracy does.

INPUTS   results/{study}/examples/{model}/{checkpoint}-{expected}.parquet
OUTPUTS  results/{study}/trends.tsv              one row per model, task, watched metric
         results/{study}/trend_differences.tsv   largest against smallest model, per task
         results/{study}/early_warning.tsv       one row per model, task, signal
         results/{study}/figures/{trends,early_warning}.{pdf,png}
RERUNS   when an example's metrics are new, the grid, the settings under `trajectories:` or `trends:`, or the code
         changes.
"""

OUTPUTS.tables(
    "trends",
    {
        "trends.tsv": "slope and class of every curve",
        "trend_differences.tsv": "the largest model against the smallest",
        "early_warning.tsv": "whether margin or coverage fall before accuracy",
    },
    when=STUDY.has_examples(),
    condition="cells scored",
)
OUTPUTS.figures(
    "trends",
    {
        "trends": "slopes with their intervals",
        "early_warning": "falling accuracy beside the signals that may fall before it",
    },
    shows=["trends.tsv", "early_warning.tsv", "metrics.parquet"],
    when=STUDY.has_examples(),
    condition="cells scored",
)


localrules:
    trends,


rule trends:
    """Follow every example through training: slopes, classes, bends, early warning."""
    input:
        examples=parts_of("examples"),
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
    params:
        examples=STUDY.parts("examples"),  # one less is a change, too
        metrics=STUDY.config["trajectories"]["metrics"],
        alpha=STUDY.config["trajectories"]["alpha"],
        equivalence_margin=STUDY.config["trends"]["equivalence_margin"],
        code=CODE.script("trends"),
    script:
        "../scripts/trends.py"
