"""
Figures: every figure of the study, drawn by one process.

INPUTS   the tables that the figures show
OUTPUTS  results/{study}/figures/{figure}.{pdf,png}
RERUNS   when the tables, titles, settings that a figure shows, what the audit drops, or the code of the figures
         change. Importing the drawing library costs as much as drawing a figure, so one job draws all of them.

Stages register their own figures; those here show the metrics themselves.
"""

OUTPUTS.figures(
    "figures",
    {
        "accuracy": "accuracy against training tokens, a line per size",
        "paper": "the metric of the regressions, in the form of the paper",
    },
    when=STUDY.has_metrics() and STUDY.has_tokens(),
    condition="training tokens known",
)
OUTPUTS.figures(
    "figures",
    {"heat": "accuracy as a map of sizes and checkpoints"},
    when=STUDY.has_metrics() and STUDY.has_chance(),
    condition="level of chance known",
)
# Tables that the figures of this study show, by the names that `scripts/plot.py` gives them.
SHOWN = {
    name: f"{RESULTS}/{file}"
    for name, file in {
        "metrics": "metrics.parquet",
        "robustness": "robustness.tsv",
        "alarms": "alarms.tsv",
        "trends": "trends.tsv",
        "early_warning": "early_warning.tsv",
        "forgetting_curves": "forgetting_curves.tsv",
        "scale_points": "scale_points.tsv",
        "scale_trends": "scale_trends.tsv",
        "predictions": "predictions.tsv",
        "exponents": "exponents.tsv",
        "tradeoff": "tradeoff.tsv",
        "curves": "curves.tsv",
        "configurations": "configurations.tsv",
    }.items()
    if OUTPUTS.has(file)
}


localrules:
    plot,


rule plot:
    """Draw every figure, or say in its place why it cannot be drawn."""
    input:
        **SHOWN,
    output:
        pdf=[OUTPUTS.figure(name, "pdf") for name in OUTPUTS.figure_names()],
        png=[
            report(
                OUTPUTS.figure(name, "png"),
                caption=f"../report/figures/{'scale' if name.startswith('scale_') else name}.rst",
                category="Figures",
            )
            for name in OUTPUTS.figure_names()
        ],
    log:
        f"logs/plot/{STUDY.name}.log",
    priority: COMMON
    params:
        titles=STUDY.config["titles"],
        regression=REGRESSION,
        alpha=STUDY.config["trajectories"]["alpha"],
        scaling_laws=SCALING_LAWS,
        dropped=STUDY.dropped(),
        code=CODE.script("plot"),
    script:
        "../scripts/plot.py"
