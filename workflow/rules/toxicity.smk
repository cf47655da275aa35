"""
Toxicity: regressions of classifier scores of generated texts on size, training and kind of prompt.

INPUTS   cells of the tasks of generation, and of continuations; their frozen requests
OUTPUTS  results/{study}/toxicity.tsv             one row per form of the regression and term
         results/{study}/toxic_continuations.tsv  with `continuations`: one row per checkpoint (or slope) and kind of prompt
         results/{study}/figures/toxicity.{pdf,png}, toxic_continuations.{pdf,png}
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

CONTINUATIONS = TOXICITY["continuations"] if TOXICITY is not None else None
OUTPUTS.tables(
    "toxicity",
    {"toxic_continuations.tsv": "log-odds of toxic against other continuations"},
    when=CONTINUATIONS is not None,
    condition="`toxicity.continuations`",
)
OUTPUTS.figures(
    "toxicity",
    {"toxic_continuations": "log-odds of toxic continuations along training"},
    shows=["toxic_continuations.tsv"],
    when=CONTINUATIONS is not None,
    condition="`toxicity.continuations`",
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


if CONTINUATIONS is not None:

    localrules:
        toxic_continuations,

    rule toxic_continuations:
        """Compare the log-likelihoods of toxic and other continuations that people wrote."""
        input:
            requests=frozen_tasks(CONTINUATIONS["tasks"]),
            cells=cells_on(CONTINUATIONS["tasks"]),
        output:
            continuations=report(
                f"{RESULTS}/toxic_continuations.tsv",
                caption="../report/toxic_continuations.rst",
                category="Toxicity",
            ),
        log:
            f"logs/toxic_continuations/{STUDY.name}.log",
        priority: COMMON
        params:
            expected=expected_on(CONTINUATIONS["tasks"]),
            toxicity=TOXICITY,
            alpha=STUDY.config["trajectories"]["alpha"],
            code=CODE.script("toxic_continuations"),
        script:
            "../scripts/toxic_continuations.py"
