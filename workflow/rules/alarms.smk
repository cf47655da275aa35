"""
Alarms: every checkpoint against the one before, the best so far and a baseline, on the same examples.

INPUTS   results/{study}/examples/{model}/{checkpoint}-{expected}.parquet
OUTPUTS  results/{study}/alarms.tsv
         results/{study}/figures/{alarms,changes}.{pdf,png}
         target `check_alarms`: a line per alarm on the terminal, and the exit status: 1 at or above
         `alarms.fail_on`, else 0
RERUNS   when a checkpoint is new, the settings under `trajectories:` or `alarms:` or the code change. The target runs
         whenever it is named. It never fails itself, which would be reported as an error of the workflow: the hook
         `onsuccess` ends the run with the status (not with --no-hooks).
"""

OUTPUTS.tables(
    "alarms",
    {"alarms.tsv": "each checkpoint against others, on the same examples"},
    when=STUDY.has_examples(),
    condition="cells scored",
)
OUTPUTS.figures(
    "alarms",
    {
        "alarms": "alarms along training",
        "changes": "changes from checkpoint to checkpoint",
    },
    shows=["alarms.tsv"],
    when=STUDY.has_examples(),
    condition="cells scored",
)
# With an incomplete lock, no baseline can be found; nothing but locking and auditing runs then.
BASELINES = {} if PROBLEM else baselines(STUDY)


localrules:
    alarms,
    check_alarms,


rule alarms:
    """Compare checkpoints on the same examples: what fell, how surely, and what could not have been seen."""
    input:
        examples=parts_of("examples"),
        # The one checkpoint that all other models are compared with; none, if each has its own.
        baseline=[
            STUDY.part("examples", one)
            for one in {c for model, c in BASELINES.items() if c.model != model}
        ],
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
        examples=STUDY.parts("examples"),  # one less is a change, too
        # The other settings only choose what is reported.
        settings={
            **STUDY.config["trajectories"],
            **{
                key: STUDY.config["alarms"][key]
                for key in ("against", "family", "effects")
            },
        },
        baselines={m: c.name for m, c in BASELINES.items() if c.model == m},
        code=CODE.script("alarms"),
    script:
        "../scripts/alarms.py"


rule check_alarms:
    """Report what fell, worst first; the run then ends with the exit status that the study asks for."""
    input:
        alarms=f"{RESULTS}/alarms.tsv",
    log:
        f"logs/check_alarms/{STUDY.name}.log",
    params:
        checkpoints=STUDY.config["alarms"]["checkpoints"],
    script:
        "../scripts/check_alarms.py"
