"""
Common: wiring only. The checked study, its register of outputs, wildcard constraints, and hooks.

Testable code is in the package. Parsing writes only a small cache, because the workflow is also parsed under `-n`
and in every job on a cluster.
"""

import os
import re
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path

PACKAGE = Path(workflow.basedir) / "workflow"
sys.path.insert(0, str(PACKAGE))  # the package of this checkout

from ebbtide.checkpoints.average import average_spec
from ebbtide.code_version import CodeVersions
from ebbtide.environment import require_library, share_with_jobs
from ebbtide.errors import EbbtideError
from ebbtide.files import canonical_json, full_disks
from ebbtide.jobs import cluster
from ebbtide.jobs.failures import Failures
from ebbtide.jobs.gpu_plan import GpuPlan
from ebbtide.jobs.hooks import on_start
from ebbtide.jobs.leads import COMMON, MissingCells, ScoreJobs, check_deleted_weights
from ebbtide.jobs.resources import memory_mb, minutes
from ebbtide.jobs.snakemake_internals import (
    escape_report,
    is_job,
    jobs_run_here,
    limit_resource,
    models_of_process,
    on_nothing_to_do,
    planned_rules,
    with_signature,
)
from ebbtide.jobs.stages import show_stages
from ebbtide.jobs.weight_budget import WeightBudget
from ebbtide.logs import share_terminal
from ebbtide.report.bundle.contents import STUDY_FILE, bundle_contents
from ebbtide.report.bundle.unpacking import (
    check_cells,
    directory_of,
    maker_notices,
    maker_of,
)
from ebbtide.report.end_of_run import (
    clear_gate,
    end_of_run,
    failed_run,
    gate_not_checked,
    nothing_to_do,
)
from ebbtide.report.paper.build import template_files
from ebbtide.report.stages_done import record_outputs
from ebbtide.scoring.scorer import SAME, VLLM
from ebbtide.statistics.same_tokens import tolerance_of
from ebbtide.study.arms import stated_runs
from ebbtide.study.checks import check_checkpoints, problem_of
from ebbtide.study.generation_backend import check_package_of
from ebbtide.study.load import load_study
from ebbtide.study.outputs import Outputs


def fail(message):
    """End the run with a message, without a traceback; status 1 belongs to alarms."""
    print(message, file=sys.stderr)
    sys.exit(2)


# With a bundle, all that follows happens in its directory, and its study is the configuration.
BUNDLE_MAKER = None  # the version of Ebbtide that made it

if "bundle" in config:
    try:
        BUNDLE = directory_of(
            str(config["bundle"]), workflow.configfiles, is_job=is_job(workflow)
        )
        BUNDLE_MAKER = maker_of(BUNDLE)
    except EbbtideError as error:
        fail(error)
    if not is_job(workflow):
        print(f"The results are in {BUNDLE}/, where paths begin.", file=sys.stderr)
    os.chdir(BUNDLE)  # `workdir:` would have no effect with --directory

    configfile: STUDY_FILE

    del config["bundle"]


# A job on a cluster parses the workflow again, for its own models only.
OWN_MODELS = models_of_process(workflow)

try:
    STUDY = load_study(config, workflow.configfiles, only=OWN_MODELS)
except EbbtideError as error:
    fail(error)

RESULTS = f"results/{STUDY.name}"
METRICS = f"{RESULTS}/metrics.parquet"
CELL = "results/scores/{model}/{checkpoint}/{task}.parquet"
OUTPUTS = Outputs(RESULTS)
CODE = CodeVersions(cache=Path(".snakemake/ebbtide_code.json"))
MISSING = MissingCells(STUDY)
SCORE_JOBS = ScoreJobs(STUDY, MISSING)
GPUS = GpuPlan(STUDY, SCORE_JOBS, planning=not is_job(workflow))
BUDGET = WeightBudget(STUDY, MISSING)
FAILURES = Failures(workflow)
STORE = STUDY.config["scoring"]["store"]
# Which models differ only by seed (statistics/replicates.py): a parameter of every rule that asks.
REPLICATES = {
    "stated": [
        asdict(run) for run in stated_runs(STUDY.models.values(), STUDY.imported)
    ],
    "named": STUDY.config.get("runs", {}).get("arms", {}),
}
TOLERANCE = tolerance_of(STUDY.config)  # of training tokens at which runs are compared
# Files of targets that are run by name: `rule all` does not make them, but they belong to the study.
BY_NAME = [
    f"{RESULTS}/{name}"
    for name in ("values.toml", "values.tex", "paper.pdf", "bundle.zip")
]
NOTICES = maker_notices(BUNDLE_MAKER) if BUNDLE_MAKER else []  # printed at the end
# Priorities: all tasks first, so that one load of weights scores them.
FREEZING, TRAINING = 1000, 10

limit_resource(workflow, "hub", BUDGET.downloads)
limit_resource(workflow, "converting", 1)
if GPUS.limit:
    limit_resource(workflow, "gpu", GPUS.limit)
escape_report()
share_with_jobs(STUDY.config["mirrors"])
share_terminal()
STAGES = show_stages(workflow)


def any_of(names):
    """Return a pattern that matches exactly these names; without names, it matches nothing."""
    return "|".join(sorted({re.escape(name) for name in names})) or "(?!)"


wildcard_constraints:
    model=any_of(STUDY.models),
    checkpoint=any_of(c.name for c in STUDY.checkpoints()),
    task=any_of(STUDY.tasks),
    expected="[0-9a-f]+",  # of metrics/{model}/{checkpoint}-{expected}, where step5 may be followed by -mean3


@cache
def problem():
    """Return why only the targets `lock` and `audit` can run (incomplete lock, finding of the audit), or None.

    A job on a cluster has none, because its run was planned.
    """
    if is_job(workflow):
        return None
    return (
        problem_of(lambda: check_checkpoints(STUDY))
        or problem_of(
            lambda: BUNDLE_MAKER and check_cells(STUDY, MISSING, BUNDLE_MAKER)
        )
        or problem_of(lambda: check_deleted_weights(STUDY))
        or problem_of(BUDGET.check)
    )


def require_checkpoints():
    """Exit with `problem`, if any. Input functions call this, so that `lock` and `audit` can run regardless."""
    if problem():
        fail(problem())


def checkpoint_of(wildcards):
    """Return the checkpoint of a job."""
    return STUDY.checkpoint(wildcards.model, wildcards.checkpoint)


@cache
def missing_package(task):
    """Return why the package that generates the texts of a task cannot be used, or None."""
    return problem_of(lambda: check_package_of(STUDY, task))


# Functions that Snakemake calls for every cell or checkpoint keep their signature with them.


@with_signature
def weights_of(wildcards):
    """Return the weights that a cell needs; none if it is copied from the store, so that nothing is fetched."""
    require_checkpoints()
    if jobs_run_here(workflow) and GPUS.problem:
        fail(GPUS.problem)
    missing = SCORE_JOBS.is_missing(
        wildcards.model, wildcards.checkpoint, wildcards.task
    )
    if missing and jobs_run_here(workflow) and missing_package(wildcards.task):
        fail(missing_package(wildcards.task))
    return ancient(BUDGET.directory(checkpoint_of(wildcards).marker)) if missing else []


@with_signature
def gpus_of(wildcards):
    """Return the GPUs of this machine that a scoring job takes; on a cluster, the profile requests them."""
    if not jobs_run_here(workflow):
        return 0
    return GPUS.of_job(wildcards.model, wildcards.checkpoint, wildcards.task)


@with_signature
def requests_of(wildcards):
    """Return the frozen task of a cell."""
    return ancient(STUDY.tasks[wildcards.task].frozen)


@with_signature
def marker_of(wildcards):
    """Return what exists when the weights of a cell can be loaded."""
    return checkpoint_of(wildcards).marker


@with_signature
def identity_of(wildcards):
    """Return the identity of a cell as text."""
    return canonical_json(STUDY.identity(checkpoint_of(wildcards), wildcards.task))


@with_signature
def memory_of(wildcards, attempt):
    """Return the memory of a scoring job in MB."""
    return memory_mb(STUDY, checkpoint_of(wildcards), attempt)


@with_signature
def minutes_of(wildcards, attempt):
    """Return the time limit of a scoring job."""
    return minutes(STUDY, checkpoint_of(wildcards), attempt)


@with_signature
def cells_of(wildcards):
    """Return the cells of one checkpoint, in the order of the configuration."""
    require_checkpoints()
    cell = CELL.format(
        model=wildcards.model, checkpoint=wildcards.checkpoint, task="{task}"
    )
    return [cell.format(task=task) for task in STUDY.tasks]


@with_signature
def expected_of(wildcards):
    """Return what the cells of a checkpoint must be, as text."""
    return canonical_json(STUDY.expected(checkpoint_of(wildcards)))


def paper_template(wildcards):
    """Return the template and the files beside it, for a study that has results."""
    if not STUDY.has_metrics():
        fail(
            f"{STUDY.file}: nothing is scored or imported, so there is no paper to write."
        )
    where = f"{STUDY.file}: paper.template"
    try:
        require_library("typst", "`snakemake paper`", "paper")
        return template_files(STUDY.config["paper"]["template"], where)
    except EbbtideError as error:
        fail(error)


@cache
def bundled():
    """Return what the bundle contains."""
    require_checkpoints()
    template = STUDY.config["paper"]["template"]
    try:
        require_library("rocrate", "`snakemake bundle`", "paper")
        return bundle_contents(
            STUDY,
            config,
            cells=[
                CELL.format(model=c.model, checkpoint=c.name, task=task)
                for c in STUDY.checkpoints()
                for task in STUDY.tasks
            ],
            imported=IMPORTED_FILES,
            testbed=TESTBED if HAS_TESTBED else "",
            template=paper_template(None) if template else (),
        )
    except EbbtideError as error:
        fail(error)


onstart:
    try:
        cluster.prepare(workflow)
        NOTICES.extend(on_start(STUDY, BUDGET, workflow))
        record_outputs(STUDY, OUTPUTS)
        clear_gate(STUDY, planned_rules(workflow))
    except EbbtideError as error:
        fail(error)  # a full disk, or a scheduler that forgets submissions


onsuccess:
    # Alarms set the exit status, but are not reported as a failure of the workflow.
    if status := end_of_run(STUDY, BUDGET, planned_rules(workflow), NOTICES):
        sys.exit(status)


def end_with_nothing_to_do():
    """Print the summary, and record the outputs if an earlier version has made them."""
    if not workflow.dryrun and Path(RESULTS).exists():
        record_outputs(STUDY, OUTPUTS)
    nothing_to_do(STUDY, planned_rules(workflow), dry_run=workflow.dryrun)


if not is_job(workflow):
    on_nothing_to_do(end_with_nothing_to_do)


onerror:
    # Snakemake also prints the logs of failed jobs, but not with --quiet.
    ending = failed_run(STUDY, FAILURES.lines(), STAGES.unfinished())
    print(*ending, sep="\n", file=sys.stderr)
    for line in full_disks(["logs", "results", "resources", STORE, ".snakemake"]):
        print(line, file=sys.stderr)
    if "check_alarms" in planned_rules(workflow):
        fail(gate_not_checked(STUDY, FAILURES.lines()))
