"""
Regression: the metric of each task on log10 parameters × log10 tokens, per task; verdicts; the same model for single answers.

INPUTS   results/{study}/metrics.parquet, a paper's printed values, results/{study}/examples/…
OUTPUTS  results/{study}/regressions.tsv       in the form set in the study, p adjusted over all tests
         results/{study}/regressions_raw.tsv   raw form, in addition to the standardised one
         results/{study}/table.{txt,tex}       regressions.tsv formatted for a paper
         results/{study}/verdicts.tsv
         results/{study}/robustness.tsv        every regression with one analysis choice changed at a time
         results/{study}/robustness_verdicts.tsv
         results/{study}/example_model.tsv     effects of size and tokens on single answers
         results/{study}/figures/robustness.{pdf,png}
Averages of checkpoints are in no regression: they are made of other rows. Where models differ only by seed, sizes are
compared, and not models.
RERUNS   when the metrics, the settings under `regression:`, titles, arms and seeds, or the code of the statistics change.
"""

# The settings that every rule reads; `example_model` belongs to its own rule.
REGRESSION = {
    k: v for k, v in STUDY.config["regression"].items() if k != "example_model"
}
OUTPUTS.tables(
    "regression",
    {
        "regressions.tsv": "a regression per task and metric, p adjusted over all tests",
        "verdicts.tsv": "the verdict on each task",
        "table.txt": "the regressions, formatted for a paper",
        "table.tex": "the same for LaTeX",
        "robustness.tsv": "every regression with one analysis choice changed at a time",
        "robustness_verdicts.tsv": "which verdicts hold under every choice",
    },
    when=STUDY.has_metrics(),
    condition="anything scored or imported",
)
OUTPUTS.tables(
    "regression",
    {"regressions_raw.tsv": "the same regressions in raw form"},
    when=STUDY.has_metrics() and REGRESSION["form"] != "raw",
    condition="`regression.form: standardised`",
)
OUTPUTS.tables(
    "regression",
    {"example_model.tsv": "the same regressions, fitted to single answers"},
    when=STUDY.has_examples(),
    condition="cells scored, or samples imported",
)
OUTPUTS.figures(
    "regression",
    {"robustness": "the interaction term of every regression under every choice"},
    shows=["robustness.tsv"],
    when=STUDY.has_metrics(),
    lacking=STUDY.lacks_regression(),
    condition="two sizes, and five trained checkpoints together",
)


localrules:
    regress,
    robustness,
    example_model,


rule regress:
    """Fit one regression per task and metric, give a verdict on each task, and format the table for a paper."""
    input:
        metrics=METRICS,
        published=[REGRESSION["published"]] if REGRESSION["published"] else [],
    output:
        regressions=report(
            f"{RESULTS}/regressions.tsv",
            caption="../report/regressions.rst",
            category="Regression",
        ),
        raw=(
            report(
                f"{RESULTS}/regressions_raw.tsv",
                caption="../report/regressions_raw.rst",
                category="Regression",
            )
            if REGRESSION["form"] != "raw"
            else []
        ),
        verdicts=report(
            f"{RESULTS}/verdicts.tsv",
            caption="../report/verdicts.rst",
            category="Regression",
        ),
        text=report(
            f"{RESULTS}/table.txt",
            caption="../report/table.rst",
            category="Regression",
        ),
        tex=f"{RESULTS}/table.tex",
    log:
        f"logs/regress/{STUDY.name}.log",
    priority: COMMON
    params:
        study=STUDY.name,
        regression=REGRESSION,
        tolerance=TOLERANCE,
        replicates=REPLICATES,
        averaged=list(STUDY.averaged()),
        titles=STUDY.config["titles"],
        code=CODE.script("regress"),
    script:
        "../scripts/regress.py"


rule robustness:
    """Fit every regression again with one choice changed at a time, and report which verdicts hold."""
    input:
        metrics=METRICS,
    output:
        robustness=report(
            f"{RESULTS}/robustness.tsv",
            caption="../report/robustness.rst",
            category="Regression",
        ),
        verdicts=report(
            f"{RESULTS}/robustness_verdicts.tsv",
            caption="../report/robustness_verdicts.rst",
            category="Regression",
        ),
    log:
        f"logs/robustness/{STUDY.name}.log",
    priority: COMMON
    params:
        regression=REGRESSION,
        replicates=REPLICATES,
        averaged=list(STUDY.averaged()),
        code=CODE.script("robustness"),
    script:
        "../scripts/robustness.py"


rule example_model:
    """Fit effects of size and tokens to single answers, and compare with the regressions of cells."""
    input:
        metrics=METRICS,
        examples=parts_of("examples", without=STUDY.averaged()),
        regressions=f"{RESULTS}/regressions.tsv",
    output:
        table=report(
            f"{RESULTS}/example_model.tsv",
            caption="../report/example_model.rst",
            category="Regression",
        ),
    log:
        f"logs/example_model/{STUDY.name}.log",
    priority: COMMON
    params:
        examples=parts_of("examples", without=STUDY.averaged()),
        regression=REGRESSION,
        replicates=REPLICATES,
        averaged=list(STUDY.averaged()),
        most_checkpoints=STUDY.config["regression"]["example_model"]["checkpoints"],
        code=CODE.script("example_model"),
    script:
        "../scripts/example_model.py"
