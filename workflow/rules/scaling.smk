"""
Scaling laws: of loss in compute and over-training, of downstream error in loss; their predictions of large runs.

INPUTS   pinned files of a testbed, named in scaling.testbed; or runs scored here, see scored_runs.smk
OUTPUTS  resources/testbeds/{digest}/                       the files, hashes checked
         results/{study}/runs.parquet, tasks.tsv            one row per run and quantity; which tasks are averaged
         results/{study}/predictions.tsv, fits.tsv, sensitivity.tsv, exponents.tsv, tradeoff.tsv, curves.tsv
         results/{study}/configurations.tsv                 the configuration search
         results/{study}/figures/scaling_*.{pdf,png}
RERUNS   when the pins (their digest is in the name), the settings under `scaling:` or the code change.
"""

SCALING = STUDY.config.get("scaling_laws")
if "testbed" in (SCALING or {}):
    try:
        PINS = find_pins(SCALING["testbed"]["pins"])
        TESTBED = f"resources/testbeds/{digest([SCALING['testbed']['source'], file_sha256(PINS)])}"
    except EbbtideError as error:
        sys.exit(str(error))

    localrules:
        fetch_testbed,
        runs,
        configurations,

    rule fetch_testbed:
        """Bring the testbed's files here: from a mirror or the network; every hash must match."""
        output:
            testbed=directory(TESTBED),
        log:
            f"logs/fetch_testbed/{STUDY.name}.log",
        priority: FREEZING
        conda:
            "../../envs/ebbtide.yaml"
        params:
            source=SCALING["testbed"]["source"],
            pins=SCALING["testbed"]["pins"],
        shell:
            "python -m ebbtide fetch-testbed --source {params.source:q} --pins {params.pins:q}"
            " --to {output.testbed:q} 2> {log:q}"

    rule runs:
        """Read the runs into one tidy table, and add the averages over tasks."""
        input:
            testbed=ancient(TESTBED),
        output:
            runs=f"{RESULTS}/runs.parquet",
            tasks=f"{RESULTS}/tasks.tsv",
        log:
            f"logs/runs/{STUDY.name}.log",
        priority: COMMON
        conda:
            "../../envs/ebbtide.yaml"
        params:
            scaling=SCALING,
            code=code_digest("scaling"),
        script:
            "../scripts/runs.py"

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
        conda:
            "../../envs/ebbtide.yaml"
        params:
            scaling=SCALING,
            code=code_digest("scaling"),
        script:
            "../scripts/configurations.py"


if SCALING:

    localrules:
        scaling,
        scaling_figures,

    rule scaling:
        """Fit the laws of every train set, predict every run, and say how far to believe it."""
        input:
            runs=f"{RESULTS}/runs.parquet",
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
            f"logs/scaling/{STUDY.name}.log",
        priority: COMMON
        conda:
            "../../envs/ebbtide.yaml"
        params:
            scaling=SCALING,
            code=code_digest("scaling"),
        script:
            "../scripts/scaling.py"

    rule scaling_figures:
        """Draw the laws, their exponents, errors of prediction, the search and the trade-off."""
        input:
            predictions=f"{RESULTS}/predictions.tsv",
            exponents=f"{RESULTS}/exponents.tsv",
            tradeoff=f"{RESULTS}/tradeoff.tsv",
            curves=f"{RESULTS}/curves.tsv",
            configurations=(
                f"{RESULTS}/configurations.tsv" if "testbed" in SCALING else []
            ),
        output:
            pdf=expand("{results}/figures/{f}.pdf", results=RESULTS, f=SCALING_FIGURES),
            png=[
                report(
                    f"{RESULTS}/figures/{figure}.png",
                    caption=f"../report/{figure}.rst",
                    category="Scaling laws",
                )
                for figure in SCALING_FIGURES
            ],
        log:
            f"logs/scaling_figures/{STUDY.name}.log",
        priority: COMMON
        conda:
            "../../envs/ebbtide.yaml"
        params:
            scaling=SCALING,
            code=code_digest("figures", "abilities"),
        script:
            "../scripts/scaling_figures.py"
