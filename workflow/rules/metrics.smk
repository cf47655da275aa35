"""
Metrics: means over examples, computed from cells.

INPUTS   cells, frozen tasks, imported results (files, or pinned sources)
OUTPUTS  resources/sources/{sha256}/{file}                                 a pinned file of imported results
         results/{study}/metrics/{model}/{checkpoint}-{expected}.parquet   one checkpoint
         results/{study}/examples/{model}/{checkpoint}-{expected}.parquet  the same, example by example
         results/{study}/metrics.parquet                                   all checkpoints, one row per metric
         results/{study}/result_audit.tsv                                  suspicious results; often only a header
RERUNS   when a cell is new, the grid changes, or the code of the metrics or of the audit changes. `expected` is a
         digest of the identities that the cells must have, so outdated tables are not used even if Snakemake's own
         records are lost.
"""

from glob import glob

from ebbtide.checkpoints.findings import allowed_duplicates

# The tables of single checkpoints are targets, so that missing ones are made again.
OUTPUTS.files(
    "metrics",
    "results/{study}/metrics/{model}/{checkpoint}-{expected}.parquet",
    "metrics of one checkpoint",
    STUDY.parts("metrics"),
)
OUTPUTS.files(
    "metrics",
    "results/{study}/examples/{model}/{checkpoint}-{expected}.parquet",
    "metrics of every example of one checkpoint",
    STUDY.parts("examples"),
)
OUTPUTS.tables(
    "metrics",
    {
        "metrics.parquet": "one row per model, checkpoint, task and metric",
        "result_audit.tsv": "equal results at different steps; checkpoints that deviate from their neighbours; ties",
    },
    when=STUDY.has_metrics(),
    condition="anything scored or imported",
)
OUTPUTS.figures(
    "metrics",
    {
        "curves": "the metrics of the study along training, one line per model size",
        "paper": "the same, in the layout of the paper",
        "heat": "the same, as a heat map of model sizes and checkpoints",
    },
    shows=["metrics.parquet"],
    when=STUDY.has_metrics(),
    condition="anything scored or imported",
)
IMPORTED_FILES = sorted(
    {
        f
        for row in STUDY.imported
        for p in row.get("files", [])
        for f in glob(p, recursive=True)
    }
)


localrules:
    audit_results,
    fetch_imported,
    metrics,


rule measure:
    """Measure all tasks of one checkpoint. On a cluster, groups its cells into one submission."""
    input:
        cells=cells_of,
        requests=[ancient(task.frozen) for task in STUDY.tasks.values()],
    output:
        metrics=f"{RESULTS}/metrics/{{model}}/{{checkpoint}}-{{expected}}.parquet",
        examples=f"{RESULTS}/examples/{{model}}/{{checkpoint}}-{{expected}}.parquet",
    log:
        f"logs/measure/{STUDY.name}/{{model}}/{{checkpoint}}-{{expected}}.log",
    priority: COMMON
    group:
        "checkpoint"
    threads: 1
    resources:
        slot=0,
        mem_mb=1000,
        runtime=5,
    params:
        expected=lambda wildcards: canonical_json(
            STUDY.expected(checkpoint_of(wildcards))
        ),
        code=CODE.module("metrics.measure"),
    shell:
        "python -m ebbtide measure --cells {input.cells:q} --requests {input.requests:q}"
        " --expected {params.expected:q} --to {output.metrics:q}"
        " --examples {output.examples:q} 2> {log:q}"


rule fetch_imported:
    """Fetch a pinned file of imported results and check its sha256."""
    output:
        table="resources/sources/{sha256}/{file}",
    log:
        "logs/fetch_imported/{sha256}/{file}.log",
    wildcard_constraints:
        # Only missing files; rule fetch fetches files that are also data of a task.
        sha256=any_of(
            sha256
            for sha256, source in STUDY.sources().items()
            if not Path(source.fetched).exists()
            and source.fetched not in [task.data for task in STUDY.tasks.values()]
        ),
    priority: COMMON
    params:
        source=lambda wildcards: STUDY.sources()[wildcards.sha256].text,
    shell:
        "python -m ebbtide fetch --source {params.source:q} {wildcards.sha256} --to {output.table:q}"
        " 2> {log:q}"


rule metrics:
    """Concatenate the metrics of all checkpoints and imported metrics into one long table."""
    input:
        parts=parts_of("metrics"),
        imported=IMPORTED_FILES,
        # Ancient: their hashes are in their names.
        sources=[ancient(source.fetched) for source in STUDY.sources().values()],
    output:
        metrics=METRICS,
    log:
        f"logs/metrics/{STUDY.name}.log",
    priority: COMMON
    params:
        parts=STUDY.parts("metrics"),  # rerun also when one is removed
        imported=STUDY.config["imported"],
        # Rerun also when a file is added or removed, whatever its date.
        files=[
            [f, Path(f).stat().st_size, Path(f).stat().st_mtime_ns]
            for f in IMPORTED_FILES
        ],
        code=CODE.script("metrics"),
    script:
        "../scripts/metrics.py"


rule audit_results:
    """Find equal results at different steps, and checkpoints that deviate from their neighbours."""
    input:
        metrics=METRICS,
        parts=parts_of("metrics"),
    output:
        audit=report(
            f"{RESULTS}/result_audit.tsv",
            caption="../report/result_audit.rst",
            category="Checkpoints",
        ),
    log:
        f"logs/audit_results/{STUDY.name}.log",
    priority: COMMON
    params:
        parts=STUDY.parts("metrics"),
        allowed=allowed_duplicates(STUDY.findings),
        code=CODE.script("audit_results"),
    script:
        "../scripts/audit_results.py"
