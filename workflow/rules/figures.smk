"""
Figures: every figure of the study, drawn by one process.

INPUTS   the tables that the figures show
OUTPUTS  results/{study}/figures/{figure}.{pdf,png}
RERUNS   when the tables, titles, settings that a figure shows, what the audit drops, or the code of the figures
         change. Importing the drawing library costs as much as drawing a figure, so one job draws all of them.

Stages register their own figures, with the tables that these show; those here show the metrics themselves.
"""

OUTPUTS.figures(
    "figures",
    {
        "accuracy": "accuracy against training tokens, a line per size",
        "paper": "the metric of the regressions, in the form of the paper",
    },
    shows=["metrics.parquet"],
    when=STUDY.has_metrics() and STUDY.has_tokens(),
    condition="training tokens known",
)
OUTPUTS.figures(
    "figures",
    {"heat": "accuracy as a map of sizes and checkpoints"},
    shows=["metrics.parquet"],
    when=STUDY.has_metrics() and STUDY.has_chance(),
    condition="level of chance known",
)


localrules:
    plot,


rule plot:
    """Draw every figure, or say in its place why it cannot be drawn."""
    input:
        **OUTPUTS.shown(),
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
