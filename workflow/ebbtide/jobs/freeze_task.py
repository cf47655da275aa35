"""Freeze one task: check its metrics, then write its requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.logs import log
from ebbtide.metrics import check_metrics
from ebbtide.metrics.generation import check_measured
from ebbtide.notices import worst_first
from ebbtide.tables import REQUESTS, write_parquet
from ebbtide.tasks.definition import load_task
from ebbtide.tasks.freezing import frozen
from ebbtide.tasks.notices import text_notices


def freeze_task(definition: str, to: str | Path, name: str | None = None) -> Mapping[str, Any]:
    """Freeze the task of a definition (YAML) into the file `to`; log its notices; return its footer.

    `name` chooses one of several formats. Raises `TaskError` for a metric that the kind of task does not
    have, so that nothing is scored in vain. Tasks of lm-evaluation-harness have metrics of their own, which
    are not checked.
    """
    task = load_task(definition, "--task", name)
    if "lm_eval" not in task.definition["source"]:
        check_metrics(task.definition.get("kind", "choice"), task.definition.get("metrics"), str(task.file))
        check_measured(task.definition, str(task.file))
    requests, footer = frozen(task)
    write_parquet(requests, to, REQUESTS, footer)
    for notice in worst_first(text_notices(requests, footer)):
        text = f"{notice.detail} {notice.remedy}".rstrip()
        log.warning("%s: %s: %s", notice.severity, task.name, text)
    return footer
