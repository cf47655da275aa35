"""
Fairness: error rates of yes-or-no answers by group, their ratios, and what a condition changes.

INPUTS   results/{study}/examples/{model}/{checkpoint}-{expected}.parquet, frozen tasks for groups, cells for shots
OUTPUTS  results/{study}/fairness.tsv         one row per model, checkpoint, task of a condition, and of the reference
         results/{study}/fairness_spread.tsv  one row per model, checkpoint, condition, quantity: spread over its tasks
         results/{study}/figures/fairness.{pdf,png}
RERUNS   when metrics, the grid, the settings under `fairness:` or the code change.
"""

FAIRNESS = STUDY.config.get("fairness")
OUTPUTS.tables(
    "fairness",
    {
        "fairness.tsv": "error rates by group, their ratios, and what a condition changes",
        "fairness_spread.tsv": "their spread over draws of shots",
    },
    when=FAIRNESS is not None and STUDY.has_examples(),
    condition="section `fairness:`",
)
OUTPUTS.figures(
    "fairness",
    {"fairness": "accuracy and ratios of error rates over sizes"},
    shows=["fairness.tsv"],
    when=FAIRNESS is not None and STUDY.has_examples(),
    lacking=STUDY.lacks(models=2, averages=False),
    condition="section `fairness:`, two sizes",
)

if FAIRNESS is not None:

    COMPARED = list(
        dict.fromkeys(t for of in FAIRNESS["conditions"].values() for t in of)
    )

    localrules:
        fairness,

    rule fairness:
        """Compute error rates by group from the answers to every example."""
        input:
            examples=parts_of("examples", without=STUDY.averaged()),
            requests=frozen_tasks(COMPARED),
            cells=cells_on(COMPARED),
        output:
            fairness=report(
                f"{RESULTS}/fairness.tsv",
                caption="../report/fairness.rst",
                category="Fairness",
            ),
            spread=f"{RESULTS}/fairness_spread.tsv",
        log:
            f"logs/fairness/{STUDY.name}.log",
        priority: COMMON
        params:
            examples=parts_of("examples", without=STUDY.averaged()),  # rerun also when one is removed
            tasks=COMPARED,
            expected=expected_on(COMPARED),
            fairness=FAIRNESS,
            alpha=STUDY.config["trajectories"]["alpha"],
            code=CODE.script("fairness"),
        script:
            "../scripts/fairness.py"
