"""
Alarms: compare every checkpoint with its predecessor, the best so far and a baseline, on the same examples.

INPUTS   results/{study}/examples/{model}/{checkpoint}-{expected}.parquet, results/{study}/imported/examples
         results/{study}/metrics.parquet, for sizes and what was not compared; frozen tasks with groups
OUTPUTS  results/{study}/alarms.tsv
         results/{study}/not_compared.tsv
         results/{study}/figures/{alarms,changes}.{pdf,png}
         target `check_alarms`: one line per drop on the terminal; exit status 1 for an alarm at or above
         `alarms.fail_on` that `alarms.allow` does not list, 2 if nothing was compared or a job failed, else 0
         results/{study}/gate/                   its reports: gate.md, junit.xml, slack.json, gate.json
RERUNS   when checkpoints are added, or arms, seeds, the settings under `trajectories:` or `alarms:` or the code change. The target
         runs whenever it is named, because allowed alarms expire. Its job never fails, because Snakemake would report an error of the workflow.
         Instead, the hook `onsuccess` sets the exit status (not with --no-hooks).
"""

OUTPUTS.tables(
    "alarms",
    {
        "alarms.tsv": "comparisons of each checkpoint with others, on the same examples",
        "not_compared.tsv": "models, checkpoints and tasks without comparisons, and why",
    },
    when=STUDY.has_examples(),
    condition="cells scored, or samples imported",
)
OUTPUTS.figures(
    "alarms",
    {"alarms": "alarms along training"},
    shows=["alarms.tsv"],
    when=STUDY.has_examples(),
    lacking=STUDY.lacks(trained=2),
    condition="as alarms.tsv, with two trained checkpoints of a model",
)
OUTPUTS.figures(
    "alarms",
    {"changes": "changes from checkpoint to checkpoint"},
    shows=["alarms.tsv"],
    when=STUDY.has_examples() and "predecessor" in STUDY.config["alarms"]["against"],
    lacking=STUDY.lacks(trained=2),
    condition="the same, with `predecessor` in `alarms.against`",
)
OUTPUTS.files(
    "alarms",
    "results/{study}/gate/{gate.md,junit.xml,slack.json,gate.json}",
    "reports of the gate: for a pull request, for CI, for Slack, and for other programs",
    condition="target `check_alarms`",
)
WITH_GROUPS = {
    n: task for n, task in STUDY.tasks.items() if task.definition.get("groups")
}


localrules:
    alarms,
    check_alarms,


rule alarms:
    """Compare checkpoints on the same examples: drops, their significance, and minimum detectable effects."""
    input:
        examples=parts_of("examples"),
        metrics=[METRICS] if STUDY.has_metrics() else [],
        with_groups=[ancient(task.frozen) for task in WITH_GROUPS.values()],
    output:
        alarms=report(
            f"{RESULTS}/alarms.tsv",
            caption="../report/alarms.rst",
            category="Alarms",
        ),
        not_compared=f"{RESULTS}/not_compared.tsv",
    log:
        f"logs/alarms/{STUDY.name}.log",
    priority: COMMON
    params:
        examples=parts_of("examples"),  # rerun also when one is removed
        # The other settings only affect the report.
        settings={
            **STUDY.config["trajectories"],
            **{
                key: STUDY.config["alarms"][key]
                for key in ("against", "family", "effects", "allow")
            },
        },
        with_groups=list(WITH_GROUPS),
        baseline=STUDY.config["alarms"]["baseline"],
        averaged=STUDY.averaged(),
        tolerance=TOLERANCE,
        replicates=REPLICATES,
        file=STUDY.file,
        code=CODE.script("alarms"),
    script:
        "../scripts/alarms.py"


rule check_alarms:
    """Report drops, worst first; the run ends with the exit status that `alarms.fail_on` sets."""
    input:
        alarms=f"{RESULTS}/alarms.tsv",
        not_compared=f"{RESULTS}/not_compared.tsv",
        flips=f"{RESULTS}/flips.parquet",
    log:
        f"logs/check_alarms/{STUDY.name}.log",
    params:
        study=STUDY.name,
        settings=STUDY.config["alarms"],
        offensive=STUDY.offensive_tasks(),
        reports=f"{RESULTS}/gate",  # no outputs, which would be up to date
    script:
        "../scripts/check_alarms.py"
