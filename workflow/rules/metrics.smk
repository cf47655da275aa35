"""
Metrics: means over examples, from cells alone.

INPUTS   cells, frozen tasks, results of others (files, or pinned sources)
OUTPUTS  resources/sources/{sha256}/{file}                                 a pinned file of imported results
         results/{study}/metrics/{model}/{checkpoint}-{expected}.parquet   one checkpoint
         results/{study}/examples/{model}/{checkpoint}-{expected}.parquet  the same, example by example
         results/{study}/metrics.parquet                                   all: long, one row per metric
         results/{study}/audit_cells.tsv                                   what looks wrong; often only a header
RERUNS   when a cell is new, the grid changes, or the code of the metrics or of the audit changes. `expected` is a
         digest of the identities that the cells must have, so that also without Snakemake's records nothing stale
         passes.
"""


localrules:
    audit_cells,
    fetch_imported,
    metrics,


rule measure:
    """Measure all tasks of one checkpoint. Ties its cells into one submission on a cluster."""
    input:
        cells=lambda wildcards: cells_of(wildcards.model, wildcards.checkpoint),
        requests=[ancient(task.frozen) for task in STUDY.tasks.values()],
    output:
        metrics=f"{RESULTS}/metrics/{{model}}/{{checkpoint}}-{{expected}}.parquet",
        examples=f"{RESULTS}/examples/{{model}}/{{checkpoint}}-{{expected}}.parquet",
    log:
        f"logs/measure/{STUDY.name}/{{model}}/{{checkpoint}}-{{expected}}.log",
    priority: COMMON
    group:
        "checkpoint"
    conda:
        "../../envs/ebbtide.yaml"
    threads: 1
    resources:
        slot=0,
        mem_mb=1000,
        runtime=5,
    params:
        expected=lambda wildcards: canonical_json(
            STUDY.expected(STUDY.checkpoint(wildcards.model, wildcards.checkpoint))
        ),
        code=code_digest("metrics", "lm_eval_tasks", "cells", "tables"),
    shell:
        "python -m ebbtide measure --cells {input.cells:q} --requests {input.requests:q}"
        " --expected {params.expected:q} --to {output.metrics:q}"
        " --examples {output.examples:q} 2> {log:q}"


rule fetch_imported:
    """Bring a pinned file of imported results here; its sha256 must match."""
    output:
        table="resources/sources/{sha256}/{file}",
    log:
        "logs/fetch_imported/{sha256}/{file}.log",
    wildcard_constraints:
        # Only what is missing can be made, and what is a task's data is brought by rule fetch.
        sha256=any_of(
            sha256
            for sha256, source in STUDY.sources().items()
            if not Path(source.fetched).exists()
            and source.fetched not in [task.data for task in STUDY.tasks.values()]
        ),
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        source=lambda wildcards: STUDY.sources()[wildcards.sha256].text,
    shell:
        "python -m ebbtide fetch --source {params.source:q} {wildcards.sha256} --to {output.table:q}"
        " 2> {log:q}"


rule metrics:
    """Put the metrics of all checkpoints, and those imported, into one long table."""
    input:
        parts=all_parts(),
        imported=imported_files(),
        sources=imported_sources(),
    output:
        metrics=f"{RESULTS}/metrics.parquet",
    log:
        f"logs/metrics/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        parts=all_parts(),  # one less is a change, too
        imported=STUDY.config["imported"],
        files=states(imported_files()),  # an old file that comes, or one that goes, is a change, too
        code=code_digest("tables", "exchange", "sources"),
    script:
        "../scripts/metrics.py"


rule audit_cells:
    """Look for equal results at different steps, and for checkpoints unlike their neighbours."""
    input:
        metrics=f"{RESULTS}/metrics.parquet",
        parts=all_parts(),
    output:
        audit=report(
            f"{RESULTS}/audit_cells.tsv",
            caption="../report/audit_cells.rst",
            category="Checkpoints",
        ),
    log:
        f"logs/audit_cells/{STUDY.name}.log",
    priority: COMMON
    conda:
        "../../envs/ebbtide.yaml"
    params:
        parts=all_parts(),
        allowed=allowed_duplicates(STUDY.findings),
        code=code_digest("cell_audit"),
    script:
        "../scripts/audit_cells.py"
