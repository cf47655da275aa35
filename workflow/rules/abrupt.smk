"""
Abrupt abilities: does a share of right answers jump because the model does, or is it a threshold on something smooth?

INPUTS   results/{study}/examples/{model}/{checkpoint}-{expected}.parquet, results/{study}/metrics.parquet for sizes
OUTPUTS  results/{study}/abrupt.tsv         two rows (outcome, log-probability) per task over sizes, and per model over tokens
         results/{study}/abrupt_points.tsv  one row per point of these curves
         results/{study}/figures/abrupt.{pdf,png}
RERUNS   when metrics, the grid, arms and seeds, the settings under `trajectories:` or `abrupt:`, or the code change.
"""

ABRUPT = STUDY.config.get("abrupt")
OUTPUTS.tables(
    "abrupt",
    {
        "abrupt.tsv": "whether abilities are abrupt, or thresholds on something smooth",
        "abrupt_points.tsv": "right answers and log-probabilities over sizes and over training",
    },
    when=ABRUPT is not None and STUDY.has_examples(),
    condition="section `abrupt:`",
)
OUTPUTS.figures(
    "abrupt",
    {"abrupt": "right answers and log-probabilities over sizes"},
    shows=["abrupt.tsv", "abrupt_points.tsv"],
    when=ABRUPT is not None and STUDY.has_examples(),
    lacking=STUDY.lacks(models=2, averages=False),
    condition="section `abrupt:`, two sizes",
)

if ABRUPT is not None:

    localrules:
        abrupt,

    rule abrupt:
        """Compare the curves of right answers and of their log-probabilities."""
        input:
            examples=parts_of("examples", without=STUDY.averaged()),
            metrics=METRICS,
        output:
            verdicts=report(
                f"{RESULTS}/abrupt.tsv",
                caption="../report/abrupt.rst",
                category="Abrupt abilities",
            ),
            points=f"{RESULTS}/abrupt_points.tsv",
        log:
            f"logs/abrupt/{STUDY.name}.log",
        priority: COMMON
        params:
            examples=parts_of("examples", without=STUDY.averaged()),  # rerun also when one is removed
            replicates=REPLICATES,
            tasks=ABRUPT["tasks"],
            alpha=STUDY.config["trajectories"]["alpha"],
            code=CODE.script("abrupt"),
        script:
            "../scripts/abrupt.py"
