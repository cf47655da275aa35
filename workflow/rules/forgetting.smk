"""
Forgetting: what became of each example through training; the regression of cells once more from single answers.

INPUTS   results/{study}/examples/…, frozen tasks, results/{study}/regressions.tsv
OUTPUTS  results/{study}/forgetting.tsv             model × task: always right, learned, forgotten, never; against noise
         results/{study}/forgotten_together.tsv     task: what all large models forget
         results/{study}/forgetting_curves.tsv      the same shares at each checkpoint
         results/{study}/forgotten_examples.tsv, forgotten_examples.html    which examples, and when
         results/{study}/figures/forgetting.{pdf,png}
         results/{study}/example_model.tsv          effects of size and tokens on single answers
RERUNS   when the metrics of examples, the settings or the code of trajectories change.
"""


localrules:
    example_model,
    forgetting,
    plot_forgetting,


rule forgetting:
    """Follow every example: when it is learned, when it is lost, and what noise alone would give."""
    input:
        examples=all_examples(),
        requests=[ancient(task.frozen) for task in STUDY.tasks.values()],
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
    conda:
        "../../envs/ebbtide.yaml"
    params:
        examples=all_examples(),  # one less is a change, too
        study=STUDY.name,
        tasks=list(STUDY.tasks),
        forgetting=STUDY.config["forgetting"],
        trajectories=STUDY.config["trajectories"],
        parameters=STUDY.config["regression"]["parameters"],
        code=code_digest("trajectories", "multiplicity", "forgotten_page", "templates"),
    script:
        "../scripts/forgetting.py"


rule plot_forgetting:
    """Draw the forgotten share over training, beside what flicker gives."""
    input:
        curves=f"{RESULTS}/forgetting_curves.tsv",
    output:
        pdf=f"{RESULTS}/figures/forgetting.pdf",
        png=report(
            f"{RESULTS}/figures/forgetting.png",
            caption="../report/plot_forgetting.rst",
            category="Figures",
        ),
    log:
        f"logs/plot_forgetting/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        parameters=STUDY.config["regression"]["parameters"],
        titles=STUDY.config["titles"],
        code=code_digest("figures", "abilities"),
    script:
        "../scripts/plot_forgetting.py"


rule example_model:
    """Fit size and tokens to single answers, and compare with the regression of cells."""
    input:
        examples=all_examples(),
        regressions=f"{RESULTS}/regressions.tsv",
    output:
        table=report(
            f"{RESULTS}/example_model.tsv",
            caption="../report/example_model.rst",
            category="Regressions",
        ),
    log:
        f"logs/example_model/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        examples=all_examples(),
        regression=STUDY.config["regression"],
        checkpoints=STUDY.config["regression"]["example_model"]["checkpoints"],
        code=code_digest("trajectories", "multiplicity"),
    script:
        "../scripts/example_model.py"
