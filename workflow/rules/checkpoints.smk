"""
Checkpoints: train the models of a local ladder; convert checkpoints of other formats; average checkpoints; lock, audit
and fetch those from the hub.

INPUTS   the recipe of a ladder; checkpoints of other formats, on disk; the checkpoints of an average; the lock beside the study
OUTPUTS  resources/checkpoints/{model}/{checkpoint}/                   Hugging Face layout, safetensors
         resources/checkpoints/{model}/{checkpoint}/trained-{id}.json    marks weights {id} as available
         resources/checkpoints/{model}/{checkpoint}/converted-{id}/      weights {id}, converted
         resources/checkpoints/{model}/{checkpoint}/averaged-{id}/       weights {id}, averaged
         resources/checkpoints/{model}/{checkpoint}/hub-{id}/            weights {id}, fetched
         results/{study}/checkpoint_audit.tsv                            findings about checkpoints from the hub or on disk
         the lock beside the study (target `lock`)                       not an output: a failure must not delete it
RERUNS   when a checkpoint of this identity is missing. The identity (corpus, recipe, size, step; or digests of the
         files on the hub; or of the files, the map and the configuration of a conversion; or the identities and weights of averaged checkpoints) is in the name of the output, and the rule exists only if one is missing. No other trigger
         may plan it: once Snakemake plans a job, it does not check the jobs that depend on it, and because inputs of
         rule score are ancient, it would miss missing or outdated cells. There is one training rule per model,
         because the steps to keep belong to the model. Fetched weights that are not kept are temporary, and so are
         averages of them and of conversions: they are removed once all cells and averages that wait for them exist,
         and made again when a new cell needs them. Conversions are removed when space is needed, and at the end.
"""

WEIGHTS = (
    "resources/checkpoints/{model}/{checkpoint}/{id}"  # converted, averaged or fetched
)
OUTPUTS.files(
    "checkpoints",
    "resources/checkpoints/{model}/{checkpoint}/",
    "weights, tokenizer and configuration, trained, converted, averaged or fetched",
)
OUTPUTS.tables(
    "checkpoints",
    {"checkpoint_audit.tsv": "findings about checkpoints from the hub or on disk"},
    when=bool(STUDY.hub or STUDY.on_disk),
    condition="checkpoints from a hub or on disk",
)


localrules:
    lock,
    audit,
    fetch_to_keep,
    fetch_to_pass,


for untrained in STUDY.untrained_models():

    rule:
        # Train one model; a killed run resumes from its last checkpoint.
        name:
            f"train_{untrained.name}"
        output:
            markers=[checkpoint.marker for checkpoint in untrained.checkpoints],
        log:
            f"logs/train/{untrained.name}.log",
        benchmark:
            f"logs/train/{untrained.name}.benchmark.tsv"
        # The widest model takes longest, so it starts first.
        priority: TRAINING + untrained.training["model"]["width"]
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            spec=canonical_json(untrained.training),
        shell:
            "python -m ebbtide train --spec {params.spec:q} --markers {output.markers:q} 2> {log:q}"


UNCONVERTED = STUDY.unconverted()


rule convert:
    """Convert a checkpoint of another format to safetensors, tensor by tensor."""
    output:
        # Not temporary: it is removed only if its source is still there, which Snakemake does not ask.
        weights=directory(WEIGHTS),
    log:
        "logs/convert/{model}/{checkpoint}-{id}.log",
    benchmark:
        "logs/convert/{model}/{checkpoint}-{id}.benchmark.tsv"
    wildcard_constraints:
        id=any_of(Path(marker).name for marker in UNCONVERTED),
    priority: lambda wildcards: BUDGET.priority(wildcards.model, wildcards.checkpoint)
    # Within a budget it waits for disk space as a fetch does: on this machine, without a time limit, and
    # without the cores and the memory that the jobs which make space may need.
    localrule: BUDGET.is_limited
    threads: 0 if BUDGET.is_limited else 1
    resources:
        # A file of the result, and the tensors of a step, of which one may have all layers.
        mem_mb=lambda wildcards: (
            0
            if BUDGET.is_limited
            else 3000 + checkpoint_of(wildcards).size_bytes // 10**6
        ),
        runtime=lambda wildcards: 30 + checkpoint_of(wildcards).size_bytes // 2**26,
        converting=int(BUDGET.is_limited),
    params:
        spec=lambda wildcards: canonical_json(
            UNCONVERTED[checkpoint_of(wildcards).marker]
        ),
        plan=f"--plan {BUDGET.plan_file}" if BUDGET.is_limited else "",
    shell:
        # Snakemake sets it to the number of threads, of which 0 is invalid.
        "OMP_NUM_THREADS=1 python -m ebbtide convert --spec {params.spec:q} {params.plan}"
        " --to {output.weights:q} 2> {log:q}"


# Two rules each, for temporary and for kept weights, because `temp` is a property of a rule's output.
for kept, weights in [
    (False, temp(directory(WEIGHTS))),
    (True, directory(WEIGHTS)),
]:

    rule:
        # Average the weights of several checkpoints of a model, after a check of their files.
        name:
            "average" if kept else "average_to_pass"
        input:
            # Ancient: the name of the output has their identities.
            lambda wildcards: ancient(
                [BUDGET.directory(c.marker) for c in checkpoint_of(wildcards).parents]
            ),
        output:
            weights=weights,
        log:
            "logs/average/{model}/{checkpoint}-{id}.log",
        benchmark:
            "logs/average/{model}/{checkpoint}-{id}.benchmark.tsv"
        wildcard_constraints:
            id=any_of(BUDGET.unmade_averages(kept=kept)),
        priority: COMMON
        threads: 1
        resources:
            mem_mb=1000,
            runtime=lambda wildcards: 30 + checkpoint_of(wildcards).size_bytes // 2**27,
        params:
            spec=lambda wildcards: canonical_json(
                average_spec(checkpoint_of(wildcards), STORE)
            ),
        shell:
            "python -m ebbtide average --spec {params.spec:q} --to {output.weights:q} 2> {log:q}"


rule lock:
    """Resolve checkpoints from the hub to commits and digests. Needs a network; run by name."""
    log:
        f"logs/lock/{STUDY.name}.log",
    params:
        study=[str(file) for file in workflow.configfiles],
    shell:
        "python -m ebbtide lock --study {params.study:q} 2> {log:q}"


if STUDY.unlocked:

    rule unlocked:
        """Say what the lock lacks, whatever file is requested: no rule can name its checkpoints and tasks."""
        input:
            lambda wildcards: fail(problem()),
        output:
            "{file}",
        log:
            "logs/unlocked/{file}.log",
        localrule: True
        shell:
            "false"


rule audit:
    """List problems and anomalies of checkpoints, using only the lock and what planning reads of directories."""
    input:
        # An incomplete lock is no clean bill: the run ends with what it lacks.
        lambda wildcards: fail(problem()) if STUDY.unlocked else [],
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


for kept, weights in [
    (False, temp(directory(WEIGHTS))),
    (True, directory(WEIGHTS)),
]:

    rule:
        # Fetch the weights of one checkpoint, and check each file against the lock.
        name:
            "fetch_to_keep" if kept else "fetch_to_pass"
        output:
            weights=weights,
        log:
            "logs/fetch_checkpoint/{model}/{checkpoint}-{id}.log",
        benchmark:
            "logs/fetch_checkpoint/{model}/{checkpoint}-{id}.benchmark.tsv"
        wildcard_constraints:
            id=any_of(BUDGET.missing_directories(kept=kept)),
        priority: lambda wildcards: BUDGET.priority(wildcards.model, wildcards.checkpoint)
        threads: 0  # it waits for disk space, which jobs that need the cores free
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
