"""
Scores: per-choice log-likelihoods of one (model, checkpoint, task) cell.

INPUTS   weights of the checkpoint if the cell is not in the store, and the frozen task (both ancient: content counts,
         not dates)
OUTPUTS  results/scores/{model}/{checkpoint}/{task}.parquet
RERUNS   when the cell is missing or its identity changes: weights, tokenizer, task, dtype, encoding,
         BOS and truncation policy, maximum length, version of the scoring maths. Not when code, plots or dates change. A cell that
         the store holds is copied, not scored.

One job per cell, one load of weights per checkpoint: see `ebbtide.jobs.score_cell`.
"""


rule score:
    """Score one task with one checkpoint: one row per example and choice."""
    input:
        weights=lambda wildcards: weights_for(wildcards),
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
    conda:
        "../../envs/ebbtide.yaml"
    threads: 1
    resources:
        slot=1,  # in a group: one cell after another, the first loads the weights for all
        mem_mb=score_memory_mb,
        runtime=score_minutes,
    params:
        checkpoint=lambda wildcards: STUDY.checkpoint(
            wildcards.model, wildcards.checkpoint
        ).marker,
        identity=lambda wildcards: canonical_json(
            STUDY.identity(
                STUDY.checkpoint(wildcards.model, wildcards.checkpoint), wildcards.task
            )
        ),
    shell:
        "python -m ebbtide score --model {params.checkpoint:q} --requests {input.requests:q}"
        " --identity {params.identity:q} --hint resources/ahead/{wildcards.model}.json"
        " --threads {threads} --to {output.cell:q} 2> {log:q}"
