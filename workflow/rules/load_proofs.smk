"""
Load proofs: does every checkpoint read fixed texts, and have tensors, as its neighbours in training do?

INPUTS   the load proofs in the cell store, which scoring jobs make when they load weights; the metrics of checkpoints
         as a sign that their cells are there
OUTPUTS  results/{study}/load_proofs.tsv     one row per model, checkpoint
         results/{study}/load_twins.tsv      one row per checkpoint of a model with a `twin`
RERUNS   when a checkpoint is measured, the grid, `audit.load_loss`, `audit.load_tensors`, `audit.allow` or the code
         change. A proof is no input: it is made once for weights that many studies share.
"""

from ebbtide.scoring.scorer import FAKE
from ebbtide.study.load_proofs import (
    proof_entries,
    proof_rules,
    twin_entries,
    twins_of,
)

OUTPUTS.tables(
    "load_proofs",
    {
        "load_proofs.tsv": "loss of every checkpoint on fixed texts, and what is wrong with its tensors"
    },
    when=bool(STUDY.models and STUDY.tasks),
    condition="cells scored",
)
OUTPUTS.tables(
    "load_proofs",
    {
        "load_twins.tsv": "differences between checkpoints and their twins in another format"
    },
    when=bool(STUDY.tasks and twins_of(STUDY.config["models"])),
    condition="a row of `models` with `twin`",
)


localrules:
    load_proofs,


rule load_proofs:
    """Judge the load proof of each checkpoint against its neighbours in training."""
    input:
        parts=parts_of("metrics"),
    output:
        proofs=report(
            f"{RESULTS}/load_proofs.tsv",
            caption="../report/load_proofs.rst",
            category="Checkpoints",
        ),
    log:
        f"logs/load_proofs/{STUDY.name}.log",
    priority: COMMON
    params:
        parts=parts_of("metrics"),  # rerun also when one is removed
        models=lambda wildcards: {
            name: proof_entries(STUDY, model) for name, model in STUDY.models.items()
        },
        store=STORE,
        rules=proof_rules(STUDY),
        fake=STUDY.config["scoring"]["backend"] == FAKE,
        code=CODE.script("load_proofs"),
    script:
        "../scripts/load_proofs.py"


if twins_of(STUDY.config["models"]):

    rule load_twins:
        """Compare checkpoints with the same ones in another format, by the texts of their load proofs."""
        input:
            parts=parts_of("metrics"),
        output:
            twins=report(
                f"{RESULTS}/load_twins.tsv",
                caption="../report/load_twins.rst",
                category="Checkpoints",
            ),
        log:
            f"logs/load_twins/{STUDY.name}.log",
        priority: COMMON
        localrule: True
        params:
            parts=parts_of("metrics"),  # rerun also when one is removed
            twins=twins_of(STUDY.config["models"]),
            models=lambda wildcards: twin_entries(STUDY),
            store=STORE,
            fake=STUDY.config["scoring"]["backend"] == FAKE,
            code=CODE.script("load_twins"),
        script:
            "../scripts/load_twins.py"
