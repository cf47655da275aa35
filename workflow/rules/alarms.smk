"""
Alarms: every checkpoint against the one before, the best so far and a baseline, on the same examples.

INPUTS   results/{study}/examples/{model}/{checkpoint}-{expected}.parquet
OUTPUTS  results/{study}/alarms.tsv
         results/{study}/figures/{alarms,changes}.{pdf,png}
         target `alarms`: a line per alarm on the terminal, and the exit status: 1 at or above `alarms.fail`, else 0
RERUNS   when a checkpoint is new, the settings under `trajectories:` or `alarms:` or the code change. The target runs
         whenever it is named. It never fails itself, which would be told as an error of the workflow: the hook
         `onsuccess` ends the run with the status (not with --no-hooks).
"""


localrules:
    alarms,
    compare,
    plot_alarms,
    plot_changes,


rule compare:
    """Compare checkpoints on the same examples: what fell, how surely, and what could not have been seen."""
    input:
        examples=all_examples(),
        baseline=baseline_elsewhere(),
    output:
        alarms=report(
            f"{RESULTS}/alarms.tsv",
            caption="../report/alarms.rst",
            category="Alarms",
        ),
    log:
        f"logs/compare/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        examples=all_examples(),  # one less is a change, too
        settings={**STUDY.config["trajectories"], **comparing()},
        baselines=own_baselines(),
        code=code_digest("trajectories", "multiplicity", "metrics", "tables"),
    script:
        "../scripts/compare.py"


rule plot_alarms:
    """Draw alarms along training, a row per task and model."""
    input:
        alarms=f"{RESULTS}/alarms.tsv",
    output:
        pdf=f"{RESULTS}/figures/alarms.pdf",
        png=report(
            f"{RESULTS}/figures/alarms.png",
            caption="../report/plot_alarms.rst",
            category="Alarms",
        ),
    log:
        f"logs/plot_alarms/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        titles=STUDY.config["titles"],
        code=code_digest("figures", "abilities"),
    script:
        "../scripts/plot_alarms.py"


rule plot_changes:
    """Draw the changes from checkpoint to checkpoint as a map."""
    input:
        alarms=f"{RESULTS}/alarms.tsv",
    output:
        pdf=f"{RESULTS}/figures/changes.pdf",
        png=report(
            f"{RESULTS}/figures/changes.png",
            caption="../report/plot_changes.rst",
            category="Alarms",
        ),
    log:
        f"logs/plot_changes/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        alpha=STUDY.config["trajectories"]["alpha"],
        titles=STUDY.config["titles"],
        code=code_digest("figures", "abilities"),
    script:
        "../scripts/plot_changes.py"


rule alarms:
    """Say what fell, worst first; the run then ends with the exit status that the study asks for."""
    input:
        alarms=f"{RESULTS}/alarms.tsv",
        figure=f"{RESULTS}/figures/alarms.png",
        pdf=f"{RESULTS}/figures/alarms.pdf",
    log:
        f"logs/alarms/{STUDY.name}.log",
    conda:
        "../../envs/ebbtide.yaml"
    params:
        checkpoints=STUDY.config["alarms"]["checkpoints"],
    script:
        "../scripts/alarms.py"
