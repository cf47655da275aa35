"""
Checkpoints: train the models of a local ladder; lock, audit and fetch those of the hub.

INPUTS   the recipe of a ladder; the lock beside the study
OUTPUTS  resources/checkpoints/{model}/{checkpoint}/                   Hugging Face layout, safetensors
         resources/checkpoints/{model}/{checkpoint}/trained-{id}.json    says that weights {id} are there
         resources/checkpoints/{model}/{checkpoint}/hub-{id}/            weights {id}, fetched
         results/{study}/checkpoint_audit.tsv                            findings about the hub's checkpoints
         the lock beside the study (target `lock`)                       not an output: a failure must not delete it
RERUNS   when a checkpoint of this identity is missing: the identity (corpus, recipe, size, step; digests of the
         hub's files) is in the name of the output, and the rule is there only when one is missing. Nothing else
         may plan it: Snakemake does not look at jobs below one that it plans already, and would not see that
         their cells are missing or stale, since score's inputs are ancient. One training rule per model: the
         steps to keep belong to the model. Fetched weights that are not kept are temporary: they go when all
         cells that wait for them are there, and come again when a new cell needs them.
"""

FETCHED = "resources/checkpoints/{model}/{checkpoint}/{id}"
OUTPUTS.files(
    "checkpoints",
    "resources/checkpoints/{model}/{checkpoint}/",
    "weights, tokenizer and configuration, made or fetched here",
)
OUTPUTS.tables(
    "checkpoints",
    {"checkpoint_audit.tsv": "findings about the hub's checkpoints"},
    when=bool(STUDY.hub),
    condition="checkpoints from a hub",
)


localrules:
    lock,
    audit,
    fetch_to_keep,
    fetch_to_pass,


for untrained in STUDY.untrained_models():

    rule:
        # Train one model; a killed run goes on from its last checkpoint.
        name:
            f"train_{untrained.name}"
        output:
            markers=[checkpoint.marker for checkpoint in untrained.checkpoints],
        log:
            f"logs/train/{untrained.name}.log",
        benchmark:
            f"logs/train/{untrained.name}.benchmark.tsv"
        # The widest model takes longest: first.
        priority: TRAINING + untrained.training["model"]["width"]
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            spec=canonical_json(untrained.training),
        shell:
            "python -m ebbtide train --spec {params.spec:q} --markers {output.markers:q} 2> {log:q}"


rule lock:
    """Resolve the hub's checkpoints to commits and digests. Needs a network; run it by name."""
    log:
        f"logs/lock/{STUDY.name}.log",
    params:
        study=[str(file) for file in workflow.configfiles],
    shell:
        "python -m ebbtide lock --study {params.study:q} 2> {log:q}"


rule audit:
    """List what is wrong or strange about the hub's checkpoints, by the lock alone."""
    output:
        audit=report(
            f"{RESULTS}/checkpoint_audit.tsv",
            caption="../report/checkpoint_audit.rst",
            category="Checkpoints",
        ),
    log:
        f"logs/audit/{STUDY.name}.log",
    priority: COMMON
    params:
        findings=[finding.row() for finding in STUDY.findings],
        code=CODE.script("audit"),
    script:
        "../scripts/audit.py"


# Two rules, because temporary is a property of a rule's output: weights that go, and weights that stay.
for kept, weights in [
    (False, temp(directory(FETCHED))),
    (True, directory(FETCHED)),
]:

    rule:
        # Bring the weights of one checkpoint here, each file checked against the lock.
        name:
            "fetch_to_keep" if kept else "fetch_to_pass"
        output:
            weights=weights,
        log:
            "logs/fetch_checkpoint/{model}/{checkpoint}-{id}.log",
        benchmark:
            "logs/fetch_checkpoint/{model}/{checkpoint}-{id}.benchmark.tsv"
        wildcard_constraints:
            id=any_of(BUDGET.absent(kept=kept)),
        priority: COMMON
        threads: 0  # it waits for room; what makes room needs the cores
        resources:
            hub=1,
        params:
            lock=STUDY.lock_file,
            plan=BUDGET.plan_file,
            options=lambda wildcards: BUDGET.options(wildcards.model),
        shell:
            "python -m ebbtide fetch-checkpoint --lock {params.lock:q} --model {wildcards.model:q}"
            " --checkpoint {wildcards.checkpoint:q} {params.options} --plan {params.plan:q}"
            " --to {output.weights:q} 2> {log:q}"
