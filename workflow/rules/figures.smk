"""
Figures: draw the figures of each stage in one process.

INPUTS   the tables that the figures show
OUTPUTS  results/{study}/figures/{figure}.{pdf,png}
RERUNS   when the tables, the titles, the settings that figures use, the dropped checkpoints or the code change. One job
         draws all figures of a stage, because importing the drawing library takes as long as drawing one.

Stages register their own figures, and the tables that these show. Figures that a study cannot have, as is known before
anything runs, are not registered: page, paper and a notice give the reason. Reasons that only the tables tell are drawn
as a sentence, because Snakemake has no optional outputs; page and paper print them as text, too.
"""

for stage, figures in OUTPUTS.figures_by_stage().items():

    rule:
        # Draw the figures of one stage, or placeholders with the reason why they cannot be drawn.
        name:
            f"plot_{stage}"
        input:
            **OUTPUTS.figure_tables(stage),
        output:
            pdf=[OUTPUTS.figure(figure, "pdf") for figure in figures],
            png=[
                report(
                    OUTPUTS.figure(figure, "png"),
                    caption=f"../report/figures/{'scale' if figure.startswith('scale_') else figure}.rst",
                    category="Figures",
                )
                for figure in figures
            ],
        log:
            f"logs/plot_{stage}/{STUDY.name}.log",
        priority: COMMON
        localrule: True
        params:
            titles=STUDY.config["titles"],
            regression=REGRESSION,
            alpha=STUDY.config["trajectories"]["alpha"],
            runs=RUNS,
            scaling_laws=SCALING_LAWS,
            share_y=STUDY.config["figures"]["share_y"],
            width=STUDY.config["figures"]["width"],
            dropped=STUDY.dropped(),
            published_points=STUDY.published_points(),
            code=CODE.script("plot"),
        script:
            "../scripts/plot.py"
