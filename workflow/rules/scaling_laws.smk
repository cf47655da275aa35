"""
Scaling laws: loss against compute and over-training, downstream error against loss; predictions for large runs.

INPUTS   pinned files of a testbed (scaling_laws.testbed), or the study's own runs: metrics.parquet and the frozen
         task of the loss
OUTPUTS  resources/testbeds/{digest}/                       the files of the testbed, with checked hashes
         results/{study}/runs.parquet, tasks.tsv            one row per run and quantity; the averaged tasks
         results/{study}/predictions.tsv, fits.tsv, sensitivity.tsv, exponents.tsv, tradeoff.tsv, curves.tsv
         results/{study}/configurations.tsv                 the configuration search of a testbed
         results/{study}/scaling.txt                        own runs: predicted and actual values, and E, in words
         results/{study}/figures/scaling_*.{pdf,png}
RERUNS   when the pins (their digest is in the path), the metrics, the settings under `scaling_laws:` or the code change.
"""

SCALING_LAWS = STUDY.config.get("scaling_laws", {})
HAS_TESTBED, HAS_OWN_RUNS = "testbed" in SCALING_LAWS, "scored" in SCALING_LAWS
OUTPUTS.tables(
    "scaling_laws",
    {
        "runs.parquet": "one row per run and quantity",
        "tasks.tsv": "the tasks that are averaged",
        "predictions.tsv": "predicted and actual values of every run",
        "fits.tsv": "parameters of the laws, and whether they are identifiable",
        "sensitivity.tsv": "dependence of predictions on analysis choices",
        "exponents.tsv": "scaling exponents at each ratio of tokens to parameters",
        "tradeoff.tsv": "prediction error against the compute of the fitted runs",
        "curves.tsv": "the fitted curves that figures draw",
    },
    when=bool(SCALING_LAWS),
    condition="section `scaling_laws:`",
)
OUTPUTS.tables(
    "scaling_laws",
    {"configurations.tsv": "the configuration search"},
    when=HAS_TESTBED,
    condition="`scaling_laws.testbed`",
)
OUTPUTS.tables(
    "scaling_laws",
    {"scaling.txt": "predicted and actual values, in words"},
    when=HAS_OWN_RUNS,
    condition="`scaling_laws.scored`",
)
OUTPUTS.figures(
    "scaling_laws",
    {
        "scaling_laws": "loss against compute, with the fitted laws",
        "scaling_exponents": "scaling exponents at each ratio of tokens to parameters",
        "scaling_error": "downstream error against loss",
        "scaling_relative_error": "relative prediction error",
        "scaling_tradeoff": "prediction error against the compute of the fitted runs",
    },
    shows=["predictions.tsv", "exponents.tsv", "tradeoff.tsv", "curves.tsv"],
    when=bool(SCALING_LAWS),
    condition="section `scaling_laws:`",
)
OUTPUTS.figures(
    "scaling_laws",
    {"scaling_search": "the configuration search"},
    shows=["configurations.tsv"],
    when=HAS_TESTBED,
    condition="`scaling_laws.testbed`",
)

if HAS_TESTBED:
    from ebbtide.files import digest, file_sha256
    from ebbtide.statistics.scaling_laws.pins import find_pins

    try:
        PINS = find_pins(SCALING_LAWS["testbed"]["pins"])
    except EbbtideError as error:
        fail(error)
    TESTBED = f"resources/testbeds/{digest([SCALING_LAWS['testbed']['source'], file_sha256(PINS)])}"

    localrules:
        fetch_testbed,
        testbed_runs,
        configurations,

    rule fetch_testbed:
        """Fetch the files of the testbed from a mirror or the network, and check every hash."""
        output:
            testbed=directory(TESTBED),
        log:
            f"logs/fetch_testbed/{STUDY.name}.log",
        priority: FREEZING
        params:
            source=SCALING_LAWS["testbed"]["source"],
            pins=SCALING_LAWS["testbed"]["pins"],
        shell:
            "python -m ebbtide fetch-testbed --source {params.source:q} --pins {params.pins:q}"
            " --to {output.testbed:q} 2> {log:q}"

    rule testbed_runs:
        """Read the runs into one tidy table and add averages over tasks."""
        input:
            testbed=ancient(TESTBED),
        output:
            runs=f"{RESULTS}/runs.parquet",
            tasks=f"{RESULTS}/tasks.tsv",
        log:
            f"logs/testbed_runs/{STUDY.name}.log",
        priority: COMMON
        params:
            scaling_laws=SCALING_LAWS,
            testbed=TESTBED,  # its name contains the digest of the pins
            code=CODE.script("testbed_runs"),
        script:
            "../scripts/testbed_runs.py"

    rule configurations:
        """Pareto front, trend and bands of the configuration search."""
        input:
            testbed=ancient(TESTBED),
        output:
            configurations=report(
                f"{RESULTS}/configurations.tsv",
                caption="../report/configurations.rst",
                category="Scaling laws",
            ),
        log:
            f"logs/configurations/{STUDY.name}.log",
        priority: COMMON
        params:
            scaling_laws=SCALING_LAWS,
            testbed=TESTBED,  # its name contains the digest of the pins
            code=CODE.script("configurations"),
        script:
            "../scripts/configurations.py"


if HAS_OWN_RUNS:

    localrules:
        own_runs,
        scaling_laws_summary,

    rule own_runs:
        """Read losses and errors of the study's models into one tidy table of runs."""
        input:
            metrics=METRICS,
        output:
            runs=f"{RESULTS}/runs.parquet",
            tasks=f"{RESULTS}/tasks.tsv",
        log:
            f"logs/own_runs/{STUDY.name}.log",
        priority: COMMON
        params:
            chosen={
                "train_set": STUDY.name,
                "loss": SCALING_LAWS["loss"],
                "errors": SCALING_LAWS["scored"]["errors"],
            },
            code=CODE.script("own_runs"),
        script:
            "../scripts/own_runs.py"

    rule scaling_laws_summary:
        """Describe in words how accurate the predictions are, and whether E agrees with the known entropy."""
        input:
            predictions=f"{RESULTS}/predictions.tsv",
            fits=f"{RESULTS}/fits.tsv",
            text=ancient(STUDY.tasks[SCALING_LAWS["loss"]].frozen),
        output:
            summary=report(
                f"{RESULTS}/scaling.txt",
                caption="../report/scaling_laws_summary.rst",
                category="Scaling laws",
            ),
        log:
            f"logs/scaling_laws_summary/{STUDY.name}.log",
        priority: COMMON
        params:
            chain=f"loss_{SCALING_LAWS['loss']}",
            code=CODE.script("scaling_laws_summary"),
        script:
            "../scripts/scaling_laws_summary.py"


if SCALING_LAWS:

    localrules:
        scaling_laws,

    rule scaling_laws:
        """Fit the laws for every train set, predict every run, and quantify the uncertainty."""
        input:
            runs=f"{RESULTS}/runs.parquet",
            tasks=f"{RESULTS}/tasks.tsv",
        output:
            predictions=report(
                f"{RESULTS}/predictions.tsv",
                caption="../report/predictions.rst",
                category="Scaling laws",
            ),
            fits=report(
                f"{RESULTS}/fits.tsv",
                caption="../report/fits.rst",
                category="Scaling laws",
            ),
            sensitivity=report(
                f"{RESULTS}/sensitivity.tsv",
                caption="../report/sensitivity.rst",
                category="Scaling laws",
            ),
            exponents=f"{RESULTS}/exponents.tsv",
            tradeoff=f"{RESULTS}/tradeoff.tsv",
            curves=f"{RESULTS}/curves.tsv",
        log:
            f"logs/scaling_laws/{STUDY.name}.log",
        priority: COMMON
        params:
            scaling_laws=SCALING_LAWS,
            code=CODE.script("scaling_laws"),
        script:
            "../scripts/scaling_laws.py"
