"""
Compute trends: training compute of published models over time, the share of academia, and a timeline of large models.

INPUTS   resources/sources/{sha256}/{file}          the pinned table of models (compute_trends.source)
OUTPUTS  results/{study}/compute_models.tsv         one row per model of the table, and why trends leave it out
         results/{study}/compute_trends.tsv         one row per sector: growth and doubling time
         results/{study}/academia.tsv               one row per month, rule, number of robustness iterations
         results/{study}/timeline.tsv               one row per large model
         results/{study}/figures/{compute_trends,academia,timeline}.{pdf,png}
RERUNS   when the pin (the sha256 is in the path), the settings under `compute_trends:` or the code change.
"""

COMPUTE_TRENDS = STUDY.config.get("compute_trends")
OUTPUTS.tables(
    "compute_trends",
    {
        "compute_models.tsv": "the models of the table, and why trends leave some out",
        "compute_trends.tsv": "growth and doubling time of training compute by sector",
        "academia.tsv": "share of academia among models over time",
        "timeline.tsv": "large models by day of publication",
    },
    when=COMPUTE_TRENDS is not None,
    condition="section `compute_trends:`",
)
OUTPUTS.figures(
    "compute_trends",
    {
        "compute_trends": "training compute over time, with a line and doubling time per sector",
        "academia": "share of academia among models over time",
        "timeline": "large models by day of publication",
    },
    shows=["compute_models.tsv", "compute_trends.tsv", "academia.tsv", "timeline.tsv"],
    when=COMPUTE_TRENDS is not None,
    condition="section `compute_trends:`",
)

if COMPUTE_TRENDS is not None:

    localrules:
        compute_trends,

    rule compute_trends:
        """Fit growth by sector, smooth the share of academia, and choose the models of the timeline."""
        input:
            # Ancient: its hash is in its name.
            table=ancient(STUDY.table_of_models().fetched),
        output:
            models=f"{RESULTS}/compute_models.tsv",
            trends=report(
                f"{RESULTS}/compute_trends.tsv",
                caption="../report/compute_trends.rst",
                category="Compute trends",
            ),
            academia=f"{RESULTS}/academia.tsv",
            timeline=f"{RESULTS}/timeline.tsv",
        log:
            f"logs/compute_trends/{STUDY.name}.log",
        priority: COMMON
        params:
            compute_trends=COMPUTE_TRENDS,
            code=CODE.script("compute_trends"),
        script:
            "../scripts/compute_trends.py"
