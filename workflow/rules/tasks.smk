"""
Tasks: fetch pinned data and freeze it into requests, on the machine that runs Snakemake, which has a network.

INPUTS   workflow/tasks/{task}.yaml                        or a definition of your own (with formats, of several tasks)
OUTPUTS  resources/sources/{digest}/{file}                   pinned data, with a checked sha256 or md5
         resources/tasks/frozen/{task}-{identity}.parquet    requests, by identity
         resources/tasks/{task}.parquet                      the same by name
         resources/tasks/{task}.preview.tsv                  the first examples as text
RERUNS   when the requests of this identity are missing. Hashes and identities are in the names, and wildcards match
         only missing files (checkpoints.smk has the reason). A new title or comment reruns nothing.
"""

OUTPUTS.files(
    "tasks",
    "resources/tasks/{task}.parquet",
    "the requests of a task, one row per example and choice",
    lambda: [f"resources/tasks/{task}.parquet" for task in STUDY.tasks],
)
OUTPUTS.files(
    "tasks",
    "resources/tasks/{task}.preview.tsv",
    "its first examples, as the model reads them",
    lambda: [f"resources/tasks/{task}.preview.tsv" for task in STUDY.tasks],
)


localrules:
    fetch,
    freeze,
    publish_task,
    preview,


rule fetch:
    """Fetch a data file from a mirror, a path or the network, and check its digest."""
    input:
        definition=lambda wildcards: ancient(
            str(STUDY.task_of_data(wildcards.digest).file)
        ),
    output:
        data="resources/sources/{digest}/{file}",
    log:
        "logs/fetch/{digest}/{file}.log",
    wildcard_constraints:
        digest=any_of(
            t.source.digest
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
        # Ancient, because the hash is in its name.
        data=lambda wildcards: ancient(STUDY.tasks[wildcards.task].data or []),
    output:
        requests="resources/tasks/frozen/{task}-{identity}.parquet",
    log:
        "logs/freeze/{task}-{identity}.log",
    wildcard_constraints:
        # Only missing files: see checkpoints.smk.
        identity=any_of(
            t.identity for t in STUDY.tasks.values() if not Path(t.frozen).exists()
        ),
    priority: FREEZING
    shell:
        "python -m ebbtide freeze --task {input.definition:q} --name {wildcards.task:q} --to {output.requests:q}"
        " 2> {log:q}"


rule publish_task:
    """Copy the frozen task to a path without its identity."""
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
    """Write the first examples of a frozen task, as the model reads them."""
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
