"""
Flips: which examples broke? The examples that changed between the two checkpoints of every alarm.

INPUTS   results/{study}/alarms.tsv, results/{study}/examples/…, results/{study}/imported/examples,
         texts of frozen tasks and imported samples, and the cells of the alarms in results/scores/
OUTPUTS  results/{study}/flips.parquet      pair of checkpoints × example that changed: texts, answers before and after
         results/{study}/flips.tsv          pair of checkpoints: how many examples changed, and in which groups
         results/{study}/flip_groups.tsv    pair × level of a group: how many changed
RERUNS   when the alarms, the metrics of examples, the settings under `flips:`, a measuring key of a task or the code
         change. Cells are not inputs, because a job would have one for every cell of the grid; their metrics are.
         `ebbtide flips` lists the examples of any two checkpoints without this rule.
"""

OUTPUTS.tables(
    "flips",
    {
        "flips.parquet": "examples that changed between the checkpoints of an alarm, with texts and answers",
        "flips.tsv": "how many examples changed in each of these pairs, and in which groups",
        "flip_groups.tsv": "the same by level of each group",
    },
    when=STUDY.has_examples(),
    condition="cells scored, or samples imported",
)


localrules:
    flips,


rule flips:
    """List the examples that changed between the checkpoints of each alarm."""
    input:
        alarms=f"{RESULTS}/alarms.tsv",
        examples=parts_of("examples"),
        requests=[ancient(task.frozen) for task in STUDY.tasks.values()],
        imported=[STUDY.imports("requests")] if STUDY.has_samples() else [],
    output:
        examples=f"{RESULTS}/flips.parquet",
        pairs=report(
            f"{RESULTS}/flips.tsv",
            caption="../report/flips.rst",
            category="Flips",
        ),
        groups=f"{RESULTS}/flip_groups.tsv",
    log:
        f"logs/flips/{STUDY.name}.log",
    priority: COMMON
    params:
        examples=parts_of("examples"),  # rerun also when one is removed
        measuring={name: task.measuring for name, task in STUDY.tasks.items()},
        tolerance=TOLERANCE,
        most=STUDY.config["flips"]["examples"],
        averaged=STUDY.averaged(),
        code=CODE.script("flips"),
    script:
        "../scripts/flips.py"
