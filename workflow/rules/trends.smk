"""
Trends: slopes over training, classes and turning points of curves, and signals that fall before accuracy.

INPUTS   results/{study}/examples/{model}/{checkpoint}-{expected}.parquet, results/{study}/metrics.parquet for sizes
OUTPUTS  results/{study}/trends.tsv              one row per model, task, watched metric
         results/{study}/trend_differences.tsv   largest against smallest size, per task and arm
         results/{study}/trend_seeds.tsv         one row per recipe with several runs, task, watched metric
         results/{study}/seed_curves.tsv         one row per recipe with several runs, task, metric, common checkpoint
         results/{study}/early_warning.tsv       one row per model, task, signal
         results/{study}/figures/{trends,early_warning}.{pdf,png}
RERUNS   when metrics, the grid, arms and seeds, the settings under `trajectories:` or `trends:`, the metrics of
         `regression:`, or the code change.
"""

OUTPUTS.tables(
    "trends",
    {
        "trends.tsv": "slope and class of every curve",
        "trend_differences.tsv": "slopes of the largest size minus those of the smallest",
        "trend_seeds.tsv": "slopes of recipes with several runs, with the noise of seeds and of examples",
        "seed_curves.tsv": "curves of recipes with several runs: means over seeds, with intervals",
        "early_warning.tsv": "whether margin or coverage fall before accuracy does",
    },
    when=STUDY.has_examples(),
    condition="cells scored, or samples imported",
)
OUTPUTS.figures(
    "trends",
    {
        "trends": "slopes with confidence intervals",
    },
    shows=["trends.tsv"],
    when=STUDY.has_examples(),
    lacking=STUDY.lacks(trained=2, tokens=True),
    condition="as the table, with two checkpoints of a model with known tokens",
)
OUTPUTS.figures(
    "trends",
    {"early_warning": "falling accuracy, and signals that may fall before it"},
    shows=["early_warning.tsv", "metrics.parquet"],
    when=STUDY.has_examples(),
    lacking=STUDY.lacks(trained=3, tokens=True, answers=True),
    condition="as the table, with three checkpoints of a model with known tokens, and answers that are right or wrong",
)


localrules:
    trends,


rule trends:
    """Compute slopes, classes, turning points and early warnings from the metrics of every example."""
    input:
        examples=parts_of("examples"),
        metrics=METRICS,
    output:
        trends=report(
            f"{RESULTS}/trends.tsv", caption="../report/trends.rst", category="Trends"
        ),
        differences=report(
            f"{RESULTS}/trend_differences.tsv",
            caption="../report/trend_differences.rst",
            category="Trends",
        ),
        seeds=report(
            f"{RESULTS}/trend_seeds.tsv",
            caption="../report/trend_seeds.rst",
            category="Trends",
        ),
        seed_curves=f"{RESULTS}/seed_curves.tsv",
        early_warning=report(
            f"{RESULTS}/early_warning.tsv",
            caption="../report/early_warning.rst",
            category="Trends",
        ),
    log:
        f"logs/trends/{STUDY.name}.log",
    priority: COMMON
    params:
        examples=parts_of("examples"),  # rerun also when one is removed
        averaged=list(STUDY.averaged()),
        tolerance=TOLERANCE,
        replicates=REPLICATES,
        drawn={key: STUDY.config["regression"][key] for key in ("metric", "metrics")},
        metrics=STUDY.config["trajectories"]["metrics"],
        alpha=STUDY.config["trajectories"]["alpha"],
        equivalence_margin=STUDY.config["trends"]["equivalence_margin"],
        code=CODE.script("trends"),
    script:
        "../scripts/trends.py"
