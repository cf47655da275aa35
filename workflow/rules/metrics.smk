"""
Metrics: means over examples, computed from cells.

INPUTS   cells, frozen tasks, imported results (files, or pinned sources)
OUTPUTS  resources/sources/{sha256}/{file}                                 a pinned file of imported results
         results/{study}/imported/metrics.parquet                          metrics of all imported results
         results/{study}/imported/{examples,requests}/                     imported samples, as examples and their texts
         results/{study}/metrics/{model}/{checkpoint}-{expected}.parquet   one checkpoint
         results/{study}/examples/{model}/{checkpoint}-{expected}.parquet  the same, example by example
         results/{study}/metrics.parquet                                   all checkpoints, one row per metric
         results/{study}/result_audit.tsv                                  suspicious results; often only a header
RERUNS   when a cell is new, the grid changes, or the code of the metrics or of the audit changes. `expected` is a
         digest of the identities that the cells must have, so outdated tables are not used even if Snakemake's own
         records are lost.
"""

from ebbtide.checkpoints.findings import allowed_duplicates
from ebbtide.exchange.specification import files_read

# The tables of single checkpoints are targets, so that missing ones are made again.
OUTPUTS.files(
    "metrics",
    "results/{study}/metrics/{model}/{checkpoint}-{expected}.parquet",
    "metrics of one checkpoint",
    lambda: STUDY.parts("metrics"),
)
OUTPUTS.files(
    "metrics",
    "results/{study}/examples/{model}/{checkpoint}-{expected}.parquet",
    "metrics of every example of one checkpoint",
    lambda: STUDY.parts("examples"),
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
        "paper": "the metrics of the study along training, in the layout of the paper",
        "heat": "the metrics of the study as a heat map of model sizes and checkpoints",
    },
    shows=[
        "metrics.parquet",
        *(["seed_curves.tsv"] if STUDY.has_examples() else []),
    ],
    when=STUDY.has_metrics(),
    condition="anything scored or imported",
)
OUTPUTS.files(
    "metrics",
    "results/{study}/imported/metrics.parquet",
    "metrics of all imported results, and the notices of the import",
    lambda: [STUDY.imports("metrics.parquet")] if STUDY.imported else [],
    condition="results imported",
)
OUTPUTS.files(
    "metrics",
    "results/{study}/imported/examples",
    "metrics of every example of imported samples, in the format of scored cells",
    condition="samples imported",
)
IMPORTED_FILES = files_read(STUDY.imported)


localrules:
    audit_results,
    fetch_imported,
    import_results,
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
        expected=expected_of,
        code=CODE.module("metrics.measure"),
    shell:
        "python -m ebbtide measure --cells {input.cells:q} --requests {input.requests:q}"
        " --expected {params.expected:q} --to {output.metrics:q}"
        " --examples {output.examples:q} 2> {log:q}"


rule fetch_imported:
    """Fetch a pinned file of imported results, or a table of models, and check its sha256."""
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


rule import_results:
    """Read imported results once: their metrics, and of samples also every example and its texts."""
    input:
        files=IMPORTED_FILES,
        # Ancient: their hashes are in their names.
        sources=[
            ancient(source.fetched) for source in STUDY.imported_sources().values()
        ],
        # Examples with the same texts as those of a frozen task have their names.
        frozen=[
            ancient(task.frozen)
            for task in STUDY.tasks.values()
            if STUDY.has_samples()
        ],
    output:
        metrics=STUDY.imports("metrics.parquet"),
        examples=directory(STUDY.imports("examples")),
        requests=directory(STUDY.imports("requests")),
    log:
        f"logs/import_results/{STUDY.name}.log",
    priority: COMMON
    params:
        imported=STUDY.config["imported"],
        # Rerun also when a file is added or removed, whatever its date.
        files=[
            [f, Path(f).stat().st_size, Path(f).stat().st_mtime_ns]
            for f in IMPORTED_FILES
        ],
        code=CODE.script("import_results"),
    script:
        "../scripts/import_results.py"


rule metrics:
    """Concatenate the metrics of all checkpoints and imported metrics into one long table."""
    input:
        parts=parts_of("metrics"),
        imported=[STUDY.imports("metrics.parquet")] if STUDY.imported else [],
        # Only to find examples that cannot be compared.
        examples=parts_of("examples") if STUDY.has_samples() else [],
    output:
        metrics=METRICS,
    log:
        f"logs/metrics/{STUDY.name}.log",
    priority: COMMON
    params:
        parts=parts_of("metrics"),  # rerun also when one is removed
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
        parts=parts_of("metrics"),
        allowed=allowed_duplicates(STUDY.findings),
        code=CODE.script("audit_results"),
    script:
        "../scripts/audit_results.py"
