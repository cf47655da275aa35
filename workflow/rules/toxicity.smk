"""
Toxicity: regressions of classifier scores of generated texts on size, training and kind of prompt.

INPUTS   cells of the tasks of generation, their frozen requests
OUTPUTS  results/{study}/toxicity.tsv         one row per form of the regression and term
         results/{study}/figures/toxicity.{pdf,png}
RERUNS   when the cells, the grid, the settings under `toxicity:` or the code change.
"""

TOXICITY = STUDY.config.get("toxicity")
OUTPUTS.tables(
    "toxicity",
    {"toxicity.tsv": "regressions of toxicity on size, training and kind of prompt"},
    when=TOXICITY is not None,
    condition="section `toxicity:`",
)
OUTPUTS.figures(
    "toxicity",
    {"toxicity": "toxicity of each size beside the smallest"},
    shows=["toxicity.tsv"],
    when=TOXICITY is not None,
    lacking=STUDY.lacks(models=2, averages=False),
    condition="section `toxicity:`, two sizes",
)

if TOXICITY is not None:

    localrules:
        toxicity,

    rule toxicity:
        """Regress the scores of samples on size, training and kind of prompt."""
        input:
            requests=frozen_tasks(TOXICITY["tasks"]),
            cells=cells_on(TOXICITY["tasks"]),
        output:
            toxicity=report(
                f"{RESULTS}/toxicity.tsv",
                caption="../report/toxicity.rst",
                category="Toxicity",
            ),
        log:
            f"logs/toxicity/{STUDY.name}.log",
        priority: COMMON
        params:
            expected=expected_on(TOXICITY["tasks"]),
            toxicity=TOXICITY,
            alpha=STUDY.config["trajectories"]["alpha"],
            code=CODE.script("toxicity"),
        script:
            "../scripts/toxicity.py"
