"""
Scoring: per-choice log-likelihoods of one (model, checkpoint, task) cell.

INPUTS   weights of the checkpoint if the cell is not in the store, and the frozen task (both ancient: content counts,
         not dates)
OUTPUTS  results/scores/{model}/{checkpoint}/{task}.parquet
RERUNS   when the cell is missing or its identity changes: weights, tokenizer, task, dtype, encoding, BOS and
         truncation policy, maximum length, version of the scoring maths. Not when code, plots or dates change.
         A cell that the store holds is copied, not scored.

One job per cell, one load of weights per checkpoint: see `jobs.score_cell`.
"""

OUTPUTS.files(
    "scoring",
    CELL,
    "log-likelihoods of one cell, one row per example and choice; shared by the studies of a checkout",
    # Listed, so that a deleted cell is made again.
    [
        CELL.format(model=c.model, checkpoint=c.name, task=task)
        for c in STUDY.checkpoints()
        for task in STUDY.tasks
    ],
)


def cells_of(wildcards):
    """Cells of one checkpoint, in the order of the config."""
    require_checkpoints()
    return expand(CELL, task=STUDY.tasks, **wildcards)


def weights_of(wildcards):
    """The weights that a cell waits for: none if it is only copied, so that nothing is fetched for it."""
    require_checkpoints()
    if not LEADS.is_missing(wildcards.model, wildcards.checkpoint, wildcards.task):
        return []
    return ancient(checkpoint_of(wildcards).marker)


def checkpoint_of(wildcards):
    """The checkpoint of a job."""
    return STUDY.checkpoint(wildcards.model, wildcards.checkpoint)


def score_memory(wildcards, attempt):
    """Memory of a scoring job (MB)."""
    rescoring = bool(STUDY.config["scoring"]["rescore_examples"])
    return memory_mb(checkpoint_of(wildcards), rescoring=rescoring, attempt=attempt)


def score_minutes(wildcards, attempt):
    """Wall time of a scoring job (minutes)."""
    return minutes(checkpoint_of(wildcards), tasks=len(STUDY.tasks), attempt=attempt)


rule score:
    """Score one task with one checkpoint: one row per example and choice."""
    input:
        weights=weights_of,
        requests=lambda wildcards: ancient(STUDY.tasks[wildcards.task].frozen),
    output:
        cell=CELL,
    log:
        "logs/score/{model}/{checkpoint}/{task}.log",
    benchmark:
        "logs/score/{model}/{checkpoint}/{task}.benchmark.tsv"
    priority: lambda wildcards: LEADS.priority(wildcards.model, wildcards.checkpoint, wildcards.task)
    group:
        "checkpoint"
    threads: 1
    resources:
        slot=1,  # in a group: one cell after another, the first loads the weights for all
        mem_mb=score_memory,
        runtime=score_minutes,
    params:
        checkpoint=lambda wildcards: checkpoint_of(wildcards).marker,
        identity=lambda wildcards: canonical_json(
            STUDY.identity(checkpoint_of(wildcards), wildcards.task)
        ),
    shell:
        "python -m ebbtide score --model {params.checkpoint:q} --requests {input.requests:q}"
        " --identity {params.identity:q} --hint resources/ahead/{wildcards.model}.json"
        " --threads {threads} --to {output.cell:q} 2> {log:q}"
