"""
Tasks: fetch pinned data, freeze it into requests. On the machine that runs Snakemake, which has a network.

INPUTS   workflow/tasks/{task}.yaml                        or a definition of your own
OUTPUTS  resources/sources/{sha256}/{file}                 pinned data, hash checked
         resources/tasks/frozen/{task}-{identity}.parquet    requests, by identity
         resources/tasks/{task}.parquet                      the same under the plain name
         resources/tasks/{task}.preview.tsv                  its first examples, to read
RERUNS   when the requests of this identity are missing: hashes and identities are in the names, and the wildcards
         match missing files only (see checkpoints.smk for why). A new title or comment changes nothing.
"""

OUTPUTS.files(
    "tasks",
    "resources/tasks/{task}.parquet",
    "the requests of a task, one row per example and choice",
    [f"resources/tasks/{task}.parquet" for task in STUDY.tasks],
)
OUTPUTS.files(
    "tasks",
    "resources/tasks/{task}.preview.tsv",
    "its first examples, as a model sees them",
    [f"resources/tasks/{task}.preview.tsv" for task in STUDY.tasks],
)


localrules:
    fetch,
    freeze,
    publish_task,
    preview,


rule fetch:
    """Bring a data file here: from a mirror, a path or the network; its sha256 must match."""
    input:
        definition=lambda wildcards: ancient(
            str(STUDY.task_of_data(wildcards.sha256).file)
        ),
    output:
        data="resources/sources/{sha256}/{file}",
    log:
        "logs/fetch/{sha256}/{file}.log",
    wildcard_constraints:
        sha256=any_of(
            t.source.sha256
            for t in STUDY.tasks.values()
            if t.data and not Path(t.data).exists()
        ),
    priority: FREEZING
    shell:
        "python -m ebbtide fetch --task {input.definition:q} --to {output.data:q} 2> {log:q}"


rule freeze:
    """Freeze a task into requests: one row per example and choice."""
    input:
        definition=lambda wildcards: ancient(str(STUDY.tasks[wildcards.task].file)),
        # Ancient: its hash is in its name.
        data=lambda wildcards: ancient(STUDY.tasks[wildcards.task].data or []),
    output:
        requests="resources/tasks/frozen/{task}-{identity}.parquet",
    log:
        "logs/freeze/{task}-{identity}.log",
    wildcard_constraints:
        # Only what is missing can be made: see checkpoints.smk.
        identity=any_of(
            t.identity for t in STUDY.tasks.values() if not Path(t.frozen).exists()
        ),
    priority: FREEZING
    shell:
        "python -m ebbtide freeze --task {input.definition:q} --to {output.requests:q} 2> {log:q}"


rule publish_task:
    """Copy the frozen task to its plain name."""
    input:
        requests=lambda wildcards: STUDY.tasks[wildcards.task].frozen,
    output:
        requests="resources/tasks/{task}.parquet",
    log:
        "logs/publish_task/{task}.log",
    priority: COMMON
    shell:
        "cp {input.requests:q} {output.requests:q}.part 2> {log:q}"
        " && mv {output.requests:q}.part {output.requests:q} 2>> {log:q}"


rule preview:
    """Show the first examples of a frozen task, as a model will see them."""
    input:
        requests="resources/tasks/{task}.parquet",
    output:
        preview=report(
            "resources/tasks/{task}.preview.tsv",
            caption="../report/preview.rst",
            category="Tasks",
        ),
    log:
        "logs/preview/{task}.log",
    priority: COMMON
    params:
        code=CODE.script("preview"),
    script:
        "../scripts/preview.py"
