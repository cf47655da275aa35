"""
Provenance: how the cells of each checkpoint were made, and what they cost.

INPUTS   results/{study}/metrics/{model}/{checkpoint}-{expected}.parquet, whose footers have the facts of the cells
OUTPUTS  results/{study}/provenance.tsv     one row per model, checkpoint
         results/{study}/cost.tsv           one row for the study, and one per model
RERUNS   when a checkpoint is measured, the grid, the origin of weights, the settings under `cost:` or the code
         change.
"""

from ebbtide.study.origins import origins

OUTPUTS.tables(
    "provenance",
    {
        "provenance.tsv": "weights, versions, devices, tokens, time and cost of every checkpoint",
        "cost.tsv": "cost of the study and of each model, and of one more checkpoint",
    },
    when=bool(STUDY.models and STUDY.tasks),
    condition="cells scored",
)


localrules:
    provenance,


rule provenance:
    """Sum the facts and costs of the cells by checkpoint, by model, and over the study."""
    input:
        parts=parts_of("metrics"),
    output:
        provenance=report(
            f"{RESULTS}/provenance.tsv",
            caption="../report/provenance.rst",
            category="Provenance and cost",
        ),
        cost=report(
            f"{RESULTS}/cost.tsv",
            caption="../report/cost.rst",
            category="Provenance and cost",
        ),
    log:
        f"logs/provenance/{STUDY.name}.log",
    priority: COMMON
    params:
        parts=parts_of("metrics"),  # rerun also when one is removed
        origins=lambda wildcards: origins(STUDY),
        cost=STUDY.config.get("cost"),
        code=CODE.script("provenance"),
    script:
        "../scripts/provenance.py"
