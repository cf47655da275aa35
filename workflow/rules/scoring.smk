"""
Scoring: per-choice log-likelihoods of one (model, checkpoint, task) cell.

INPUTS   weights of the checkpoint if the cell is not in the store, and the frozen task (both ancient, because only
         their content matters)
OUTPUTS  results/scores/{model}/{checkpoint}/{task}.parquet
RERUNS   when the cell is missing or its identity changes: weights, tokenizer, task, dtype, encoding, BOS and
         truncation policy, maximum length, scoring version. Not when other code, plots or dates change. A cell in
         the store is copied, not scored.

There is one job per cell, but weights are loaded once per checkpoint: see `jobs.score_cell`.
"""

OUTPUTS.files(
    "scoring",
    CELL,
    "log-likelihoods of one cell, one row per example and choice; shared by the studies of a checkout",
    # Cells are targets, so that a deleted cell is made again.
    lambda: [
        CELL.format(model=c.model, checkpoint=c.name, task=task)
        for c in STUDY.checkpoints()
        for task in STUDY.tasks
    ],
)


rule score:
    """Score one task with one checkpoint: one row per example and choice."""
    input:
        weights=weights_of,
        requests=requests_of,
    output:
        cell=CELL,
    log:
        "logs/score/{model}/{checkpoint}/{task}.log",
    benchmark:
        "logs/score/{model}/{checkpoint}/{task}.benchmark.tsv"
    priority:
        lambda wildcards: SCORE_JOBS.priority(
            wildcards.model, wildcards.checkpoint, wildcards.task
        )
    group:
        "checkpoint"
    threads: 1
    resources:
        slot=1,  # cells of a group run one after another; the first loads the weights for all
        gpu=gpus_of if GPUS.limit else 0,
        mem_mb=memory_of,
        runtime=minutes_of,
    params:
        checkpoint=marker_of,
        identity=identity_of,
    shell:
        "python -m ebbtide score --model {params.checkpoint:q} --requests {input.requests:q}"
        " --identity {params.identity:q} --hint resources/ahead/{wildcards.model}.json"
        " --threads {threads} --to {output.cell:q} 2> {log:q}"
