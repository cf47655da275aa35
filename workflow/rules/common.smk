"""
Common: wiring only. The study, checked; lists of targets; constraints of wildcards.

Whatever can be tested lives in the package.
"""

import re
import sys
import time
from glob import glob
from pathlib import Path

sys.path.insert(
    0, str(Path(workflow.basedir) / "workflow")
)  # the package of this checkout

from snakemake.exceptions import WorkflowError

from ebbtide.environment import share_with_jobs
from ebbtide.errors import EbbtideError
from ebbtide.logs import last_words, share_terminal
from ebbtide.files import canonical_json, digest, file_sha256, write_text
from ebbtide.checkpoints.hub.audit import allowed_duplicates
from ebbtide.checkpoints.hub.disk import remove
from ebbtide.checkpoints.model_series import catalogued
from ebbtide.jobs.leads import COMMON, Leads, hint_path, hints
from ebbtide.code_version import code_digest
from ebbtide.jobs.weight_budget import Stream
from ebbtide.statistics.scaling_laws.pins import find_pins
from ebbtide.study.checks import baselines, check_checkpoints
from ebbtide.study.load import load_study
from ebbtide.tasks.shots import imported_tasks, shots_of

# Targets that look at the hub's checkpoints, and may run when nothing else can.
LOOKING = {"lock", "audit"} & set(sys.argv[1:])

try:
    STUDY = load_study(config, workflow.configfiles)
    STREAM = Stream(STUDY)
    STREAM.tidy()
    if not LOOKING:
        check_checkpoints(STUDY)
        STREAM.check()
except EbbtideError as error:
    sys.exit(str(error))  # the sentence alone, no traceback

RESULTS = f"results/{STUDY.name}"
SCALING_TABLES = [
    "predictions.tsv",
    "fits.tsv",
    "sensitivity.tsv",
    "exponents.tsv",
    "tradeoff.tsv",
]
SCALING_FIGURES = [
    "scaling_laws",
    "scaling_exponents",
    "scaling_error",
    "scaling_relative_error",
    "scaling_tradeoff",
]
CELL = "results/scores/{model}/{checkpoint}/{task}.parquet"
TABLES = ["regressions.tsv", "verdicts.tsv", "table.txt", "table.tex"]
TABLES += ["regressions_raw.tsv"] * (STUDY.config["regression"]["form"] != "raw")
TABLES += [
    "robustness.tsv",
    "robustness_verdicts.tsv",
    "audit_cells.tsv",
    "summary.txt",
]
# Without training tokens there is no axis to draw accuracy against.
# And without a level of chance, the map has no colours.
FIGURES = ["accuracy", "paper", "robustness"] * STUDY.has_tokens()
FIGURES += ["heat"] * STUDY.has_chance()
# What follows single examples needs cells; imported results are means.
if any(STUDY.checkpoints()):
    TABLES += ["alarms.tsv", "trends.tsv", "trend_differences.tsv", "early_warning.tsv"]
    TABLES += ["forgetting.tsv", "forgotten_together.tsv", "forgetting_curves.tsv"]
    TABLES += ["forgotten_examples.tsv", "forgotten_examples.html", "example_model.tsv"]
    FIGURES += ["alarms", "changes", "trends", "early_warning", "forgetting"]
if not STUDY.has_metrics():
    TABLES, FIGURES = [], []
if "scaling_trends" in STUDY.config and STUDY.has_metrics():
    TABLES += ["scale_points.tsv", "scale_trends.tsv"]
    FIGURES += [f"scale_{metric}" for metric in STUDY.config["scaling_trends"]["metrics"]]
if "scaling_laws" in STUDY.config:
    # A search of configurations comes with a testbed alone, a known source with text of one's own.
    if "testbed" in STUDY.config["scaling_laws"]:
        SCALING_TABLES.append("configurations.tsv")
        SCALING_FIGURES.append("scaling_search")
    else:
        SCALING_TABLES.append("scaling.txt")
    TABLES += SCALING_TABLES
    FIGURES += SCALING_FIGURES
LEADS = Leads(STUDY)
BASELINES = baselines(STUDY) if not LOOKING else {}
FETCHED = "resources/checkpoints/{model}/{checkpoint}/{id}"
WEIGHTS_PLAN = "resources/ahead/weights.json"
FREEZING, TRAINING = (
    1000,
    10,
)  # priorities: all tasks before weights, so that one load scores all

# The limit of rules that take resource `hub`; --resources hub=N has the last word.
if "hub" not in workflow.global_resources:
    workflow.global_resources["hub"] = STREAM.downloads

share_with_jobs(STUDY.config["mirrors"])
share_terminal()


def any_of(names):
    """A pattern for exactly these names; without any, one that nothing matches."""
    return "|".join(sorted({re.escape(name) for name in names})) or "(?!)"


def untrained_models():
    """Models of local ladders that lack a checkpoint."""
    models = (model for model in STUDY.models.values() if model.training)
    return [m for m in models if not all(Path(c.marker).exists() for c in m.checkpoints)]


wildcard_constraints:
    model=any_of(STUDY.models),
    checkpoint=any_of(c.name for c in STUDY.checkpoints()),
    task=any_of(STUDY.tasks),
    # Only what is missing can be made: see checkpoints.smk.
    identity=any_of(
        t.identity for t in STUDY.tasks.values() if not Path(t.frozen).exists()
    ),
    sha256=any_of(
        t.source.sha256
        for t in STUDY.tasks.values()
        if t.data and not Path(t.data).exists()
    ),


localrules:
    all,


def all_tasks():
    """The frozen tasks under their plain names."""
    return [f"resources/tasks/{task}.parquet" for task in STUDY.tasks]


def task_of_data(sha256):
    """A task that uses the data file of this hash."""
    return next(
        t for t in STUDY.tasks.values() if t.source and t.source.sha256 == sha256
    )


def data_of(task):
    """The fetched data of a task; nothing for a generated one. Ancient: its hash is in its name."""
    return ancient(STUDY.tasks[task].data) if STUDY.tasks[task].data else []


def weights_for(wildcards):
    """The weights that a cell waits for: none if it is only copied, so that nothing is fetched for it."""
    if not LEADS.is_missing(wildcards.model, wildcards.checkpoint, wildcards.task):
        return []
    if LOOKING:
        try:
            check_checkpoints(STUDY)
        except EbbtideError as error:
            raise WorkflowError(str(error))
    return ancient(STUDY.checkpoint(wildcards.model, wildcards.checkpoint).marker)


def measured(what, checkpoint):
    """`metrics` or `examples` of one checkpoint; the digest of what its cells must be is in the name."""
    expected = digest(STUDY.expected(checkpoint))
    return f"{RESULTS}/{what}/{checkpoint.model}/{checkpoint.name}-{expected}.parquet"


def all_parts():
    """Metrics of every checkpoint."""
    return [measured("metrics", checkpoint) for checkpoint in STUDY.checkpoints()]


def all_examples():
    """Metrics of every example of every checkpoint."""
    return [measured("examples", checkpoint) for checkpoint in STUDY.checkpoints()]


def own_baselines():
    """Model → name of the checkpoint of its own training that later ones are compared with."""
    return {model: one.name for model, one in BASELINES.items() if one.model == model}


def baseline_elsewhere():
    """Examples of the one checkpoint that all other models are compared with; none, if each has its own."""
    found = {one for model, one in BASELINES.items() if one.model != model}
    return [measured("examples", one) for one in found]


def comparing():
    """Settings of the comparison; the others only choose what is said of it."""
    return {
        key: STUDY.config["alarms"][key] for key in ("against", "family", "effects")
    }


def imported_files():
    """Files of results that something else has scored."""
    patterns = [p for row in STUDY.imported for p in row.get("files", [])]
    return sorted({file for p in patterns for file in glob(p, recursive=True)})


def imported_sources():
    """Pinned files of imported results, fetched. Ancient: their hashes are in their names."""
    return [ancient(source.fetched) for source in STUDY.sources().values()]


def published_values():
    """The table of a paper's printed values, if the study names one."""
    published = STUDY.config["regression"]["published"]
    return [published] if published else []


def states(files):
    """Name, size and time of files."""
    found = [(file, Path(file).stat()) for file in files]
    return [[file, status.st_size, status.st_mtime_ns] for file, status in found]


def all_figures():
    """Every figure, for print (PDF) and for screens (PNG)."""
    return expand(
        "{results}/figures/{figure}.{format}",
        results=RESULTS,
        figure=FIGURES,
        format=["pdf", "png"],
    )


def score_memory_mb(wildcards, attempt):
    """Memory of a scoring job: Python, torch, weights in float32 (in float64 to verify); more at each try."""
    weights = STUDY.checkpoint(wildcards.model, wildcards.checkpoint).size_bytes
    copies = 3 + 4 * bool(STUDY.config["scoring"]["rescore_examples"])
    return attempt * (2000 + copies * weights // 2**20)


def score_minutes(wildcards, attempt):
    """Minutes for one cell: its share of an hour, and more for large weights. A submission gets the sum."""
    weights = STUDY.checkpoint(wildcards.model, wildcards.checkpoint).size_bytes
    return attempt * max(5, (60 + 10 * weights // 2**30) // len(STUDY.tasks))


def cells_of(model, checkpoint):
    """Cells of one checkpoint, in the order of the config."""
    return [
        CELL.format(model=model, checkpoint=checkpoint, task=task)
        for task in STUDY.tasks
    ]


def all_cells():
    """Every cell of the grid. `all` lists them, so that a deleted cell is made again."""
    return [cell for c in STUDY.checkpoints() for cell in cells_of(c.model, c.name)]


STARTED = time.time()


onsuccess:
    # Snakemake removes temporary outputs of its own jobs; these are what an earlier, killed run left.
    for weights in STREAM.passed() if not LOOKING else []:
        remove(weights)
    if "scaling.txt" in TABLES and Path(f"{RESULTS}/scaling.txt").exists():
        print(Path(f"{RESULTS}/scaling.txt").read_text(encoding="utf-8"))
    # Alarms are no failure of the workflow; they end the run with a status, and without the noise of an error.
    if any(job.rule.name == "alarms" for job in workflow.dag.jobs):
        from ebbtide.statistics.alarms.lines import fails, read_alarms

        settings = STUDY.config["alarms"]
        if fails(
            read_alarms(f"{RESULTS}/alarms.tsv"),
            settings["fail_on"],
            settings["checkpoints"],
        ):
            sys.exit(1)


onerror:
    # Snakemake shows the logs of failed jobs too, but not with --quiet.
    print(*last_words("logs", since=STARTED), sep="\n", file=sys.stderr)


onstart:
    # Which cells this run will score: a hint for scoring ahead, read by rule `score`.
    wanted = [
        (job.wildcards.model, job.wildcards.checkpoint, job.wildcards.task)
        for job in workflow.dag.needrun_jobs()
        if job.rule.name == "score"
    ]
    write_text(canonical_json(STREAM.plan()), WEIGHTS_PLAN)
    for model, hint in hints(STUDY, wanted, started=time.time()).items():
        write_text(canonical_json(hint), hint_path(model))
