"""
Figures: draw all figures of the study in one process.

INPUTS   the tables that the figures show
OUTPUTS  results/{study}/figures/{figure}.{pdf,png}
RERUNS   when the tables, the titles, the settings that figures use, the dropped checkpoints or the code change. One job
         draws all figures, because importing the drawing library takes as long as drawing one.

Stages register their own figures, and the tables that these show. The figures registered here show the metrics.
"""

OUTPUTS.figures(
    "figures",
    {
        "accuracy": "accuracy against training tokens, one line per model size",
        "paper": "the metric of the regressions, in the layout of the paper",
    },
    shows=["metrics.parquet"],
    when=STUDY.has_metrics() and STUDY.has_tokens(),
    condition="training tokens known",
)
OUTPUTS.figures(
    "figures",
    {"heat": "accuracy as a heat map of model sizes and checkpoints"},
    shows=["metrics.parquet"],
    when=STUDY.has_metrics() and STUDY.has_chance(),
    condition="chance level known",
)


localrules:
    plot,


rule plot:
    """Draw every figure, or a placeholder with the reason why it cannot be drawn."""
    input:
        **OUTPUTS.figure_tables(),
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
