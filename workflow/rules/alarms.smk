"""
Alarms: compare every checkpoint with its predecessor, the best so far and a baseline, on the same examples.

INPUTS   results/{study}/examples/{model}/{checkpoint}-{expected}.parquet, results/{study}/imported/examples
OUTPUTS  results/{study}/alarms.tsv
         results/{study}/figures/{alarms,changes}.{pdf,png}
         target `check_alarms`: one line per alarm on the terminal; exit status 1 for an alarm at or above
         `alarms.fail_on`, else 0
RERUNS   when checkpoints are added, or the settings under `trajectories:` or `alarms:` or the code change. The target
         runs whenever it is named. Its job never fails, because Snakemake would report an error of the workflow.
         Instead, the hook `onsuccess` sets the exit status (not with --no-hooks).
"""

OUTPUTS.tables(
    "alarms",
    {"alarms.tsv": "comparisons of each checkpoint with others, on the same examples"},
    when=STUDY.has_examples(),
    condition="cells scored, or samples imported",
)
OUTPUTS.figures(
    "alarms",
    {
        "alarms": "alarms along training",
        "changes": "changes from checkpoint to checkpoint",
    },
    shows=["alarms.tsv"],
    when=STUDY.has_examples(),
    condition="cells scored, or samples imported",
)


localrules:
    alarms,
    check_alarms,


rule alarms:
    """Compare checkpoints on the same examples: drops, their significance, and minimum detectable effects."""
    input:
        examples=parts_of("examples"),
    output:
        alarms=report(
            f"{RESULTS}/alarms.tsv",
            caption="../report/alarms.rst",
            category="Alarms",
        ),
    log:
        f"logs/alarms/{STUDY.name}.log",
    priority: COMMON
    params:
        examples=STUDY.parts("examples"),  # rerun also when one is removed
        # The other settings only affect the report.
        settings={
            **STUDY.config["trajectories"],
            **{
                key: STUDY.config["alarms"][key]
                for key in ("against", "family", "effects")
            },
        },
        baseline=STUDY.config["alarms"]["baseline"],
        file=STUDY.file,
        code=CODE.script("alarms"),
    script:
        "../scripts/alarms.py"


rule check_alarms:
    """Report alarms, worst first; the run ends with the exit status that `alarms.fail_on` sets."""
    input:
        alarms=f"{RESULTS}/alarms.tsv",
    log:
        f"logs/check_alarms/{STUDY.name}.log",
    params:
        checkpoints=STUDY.config["alarms"]["checkpoints"],
    script:
        "../scripts/check_alarms.py"
