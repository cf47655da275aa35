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

    SAMPLED = [
        {"model": c.model, "checkpoint": c.name, "tokens": c.tokens, "task": task}
        for c in STUDY.checkpoints()
        if c.model not in STUDY.averaged()
        for task in TOXICITY["tasks"]
    ]

    localrules:
        toxicity,

    rule toxicity:
        """Regress the scores of samples on size, training and kind of prompt."""
        input:
            requests=[ancient(STUDY.tasks[task].frozen) for task in TOXICITY["tasks"]],
            cells=[
                CELL.format(**{k: of[k] for k in ("model", "checkpoint", "task")})
                for of in SAMPLED
            ],
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
            cells=[{k: of[k] for k in ("model", "tokens", "task")} for of in SAMPLED],
            toxicity=TOXICITY,
            alpha=STUDY.config["trajectories"]["alpha"],
            code=CODE.script("toxicity"),
        script:
            "../scripts/toxicity.py"
