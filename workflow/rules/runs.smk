"""
Runs: arms (such as data mixtures) compared run by run, with seeds as replicates.

INPUTS   results/{study}/metrics.parquet, results/{study}/examples/{model}/{checkpoint}-{expected}.parquet
OUTPUTS  results/{study}/run_arms.tsv           one row per model that takes part: its arm, size and seed
         results/{study}/run_differences.tsv    one row per arm, task or suite, size, checkpoint: the difference
         results/{study}/run_verdicts.tsv       one row per arm, task or suite, size: wins, loses, equivalent, undecided
         results/{study}/run_sentences.tsv      one sentence per arm and size, for the summary
         results/{study}/seeds.tsv              noise of examples, checkpoints and seeds, and how many seeds are needed
         results/{study}/run_notices.tsv        what notices.tsv says about the comparison
         results/{study}/figures/{run_matrix,run_curves}.{pdf,png}
RERUNS   when the metrics, the grid, arms or seeds of models, the settings under `runs:` or the code change. Only for
         studies with a section `runs:`; of a single arm, only its seeds.
"""

from ebbtide.study.arms import Run, are_compared

RUNS = STUDY.config.get("runs")
HAS_RUNS = RUNS is not None and STUDY.has_metrics()
COMPARES_RUNS = HAS_RUNS and are_compared(
    RUNS["arms"], [Run(**run) for run in REPLICATES["stated"]]
)
OUTPUTS.tables(
    "runs",
    {
        "run_arms.tsv": "the arm, size and seed of each model that is compared",
        "seeds.tsv": "noise of examples, checkpoints and seeds, and the number of seeds that a difference needs",
        "run_notices.tsv": "what was defaulted, dropped or not compared in the comparison of runs",
    },
    when=HAS_RUNS,
    condition="section `runs:`",
)
OUTPUTS.tables(
    "runs",
    {
        "run_differences.tsv": "differences between arms at each common checkpoint and over the last ones",
        "run_verdicts.tsv": "which arm wins, by task or suite and size, and how many tokens it saves",
        "run_sentences.tsv": "the verdicts of each arm and size in a sentence",
    },
    when=COMPARES_RUNS,
    condition="section `runs:` with two arms",
)
OUTPUTS.figures(
    "runs",
    {
        "run_matrix": "differences between arms by task and size, coloured by their evidence"
    },
    shows=["run_verdicts.tsv"],
    when=COMPARES_RUNS,
    condition="section `runs:` with two arms",
)
OUTPUTS.figures(
    "runs",
    {"run_curves": "differences between arms over training, with their intervals"},
    shows=["run_differences.tsv"],
    when=COMPARES_RUNS,
    lacking=STUDY.lacks(tokens=True, averages=False),
    condition="section `runs:` with two arms, and known training tokens",
)

if HAS_RUNS:

    localrules:
        runs,

    rule runs:
        """Compare the arms of the study with the reference, and estimate the noise of seeds."""
        input:
            metrics=METRICS,
            examples=parts_of("examples", without=STUDY.averaged()),
            seed_sd=(
                [RUNS["seed_sd"]["table"]]
                if "table" in (RUNS["seed_sd"] or {})
                else []
            ),
        output:
            **{
                name: report(
                    f"{RESULTS}/run_{name}.tsv",
                    caption=f"../report/run_{name}.rst",
                    category="Runs",
                )
                for name in (
                    "arms",
                    *(("differences", "verdicts", "sentences") * COMPARES_RUNS),
                )
            },
            seeds=report(
                f"{RESULTS}/seeds.tsv",
                caption="../report/seeds.rst",
                category="Runs",
            ),
            notices=f"{RESULTS}/run_notices.tsv",
        log:
            f"logs/runs/{STUDY.name}.log",
        priority: COMMON
        params:
            examples=parts_of("examples", without=STUDY.averaged()),  # rerun also when one is removed
            averaged=list(STUDY.averaged()),
            models=REPLICATES["stated"],
            settings=RUNS,
            code=CODE.script("runs"),
        script:
            "../scripts/runs.py"
