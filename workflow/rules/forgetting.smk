"""
Forgetting: follow each example through training.

INPUTS   results/{study}/metrics.parquet, results/{study}/examples/…, results/{study}/imported/examples,
         texts of frozen tasks and imported samples
OUTPUTS  results/{study}/forgetting.tsv             model × task: shares of examples always right, learned, forgotten and
                                                    never right, compared with noise
         results/{study}/forgotten_together.tsv     task: examples that all large models forget
         results/{study}/forgetting_curves.tsv      the same shares at each checkpoint
         results/{study}/forgotten_examples.tsv, forgotten_examples.html    forgotten examples, and when
         results/{study}/figures/forgetting.{pdf,png}
RERUNS   when the metrics of examples, the settings under `forgetting:` or `trajectories:`, arms and seeds, or the code change.
"""

OUTPUTS.tables(
    "forgetting",
    {
        "forgetting.tsv": "shares of examples always right, learned, forgotten and never right, compared with noise",
        "forgotten_together.tsv": "examples that all large models forget",
        "forgetting_curves.tsv": "the same shares at each checkpoint",
        "forgotten_examples.tsv": "forgotten examples, and when they were forgotten",
        "forgotten_examples.html": "the same as a page to browse",
    },
    when=STUDY.has_examples(),
    condition="cells scored, or samples imported",
)
OUTPUTS.figures(
    "forgetting",
    {"forgetting": "share of forgotten examples, and the share expected from noise"},
    shows=["forgetting.tsv", "forgetting_curves.tsv"],
    when=STUDY.has_examples(),
    lacking=STUDY.lacks(trained=2, answers=True, averages=False),
    condition="as the table, with two trained checkpoints of a model, and answers that are right or wrong",
)


localrules:
    forgetting,


rule forgetting:
    """Find when each example is learned and forgotten, and how much noise alone would produce."""
    input:
        metrics=METRICS,
        examples=parts_of("examples", without=STUDY.averaged()),
        requests=[ancient(task.frozen) for task in STUDY.tasks.values()],
        imported=[STUDY.imports("requests")] if STUDY.has_samples() else [],
    output:
        summary=report(
            f"{RESULTS}/forgetting.tsv",
            caption="../report/forgetting.rst",
            category="Forgetting",
        ),
        together=report(
            f"{RESULTS}/forgotten_together.tsv",
            caption="../report/forgotten_together.rst",
            category="Forgetting",
        ),
        curves=f"{RESULTS}/forgetting_curves.tsv",
        examples=f"{RESULTS}/forgotten_examples.tsv",
        page=report(
            f"{RESULTS}/forgotten_examples.html",
            caption="../report/forgotten_examples.rst",
            category="Forgetting",
        ),
    log:
        f"logs/forgetting/{STUDY.name}.log",
    priority: COMMON
    params:
        examples=parts_of("examples", without=STUDY.averaged()),  # rerun also when one is removed
        study=STUDY.name,
        forgetting=STUDY.config["forgetting"],
        trajectories=STUDY.config["trajectories"],
        averaged=list(STUDY.averaged()),
        replicates=REPLICATES,
        parameters=REGRESSION["parameters"],
        code=CODE.script("forgetting"),
    script:
        "../scripts/forgetting.py"
