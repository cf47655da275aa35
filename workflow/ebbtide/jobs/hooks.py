"""Hook at the start of a run: claim the results, and write the plans that scoring jobs and fetches read."""

import sys
import time
from typing import Any

from ebbtide.files import canonical_json, write_text
from ebbtide.jobs.leads import hint_path, hints
from ebbtide.jobs.progress import sweep
from ebbtide.jobs.snakemake_internals import jobs_to_run, on_failed_job
from ebbtide.jobs.unusable import unusable_cells
from ebbtide.jobs.weight_budget import WEIGHT_RULES, WeightBudget
from ebbtide.notices import Notice
from ebbtide.study.claim import claim_path
from ebbtide.study.study import Study


def on_start(study: Study, budget: WeightBudget, workflow: Any) -> list[Notice]:
    """Write whose results these are, the plan for the weights on disk, and a hint for each model.

    A hint lists the cells of a model that this run will score. Returns the notice about files of the store
    that cannot be used, which is also printed.

    These files are not inputs of rules, because adding a task must not rerun the others.
    """
    sweep()
    if study.claim["files"]:
        write_text(canonical_json(study.claim) + "\n", claim_path(study.name))
    wanted = [(w.model, w.checkpoint, w.task) for w in jobs_to_run(workflow, "score")]
    made = {(w.model, w.checkpoint) for rule in WEIGHT_RULES for w in jobs_to_run(workflow, rule)}
    write_text(canonical_json(budget.plan(made)), budget.plan_file)
    on_failed_job(budget.note_failure)
    for model, hint in hints(study, wanted, started=time.time()).items():
        write_text(canonical_json(hint), hint_path(model))
    notices = unusable_cells(study, wanted)
    for notice in notices:
        print(notice.detail, file=sys.stderr)
    return notices
