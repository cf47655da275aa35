"""Freeze one task: check its metrics, then write its requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebbtide.metrics import check_metrics
from ebbtide.tables import REQUESTS, write_parquet
from ebbtide.tasks.definition import load_task
from ebbtide.tasks.freezing import frozen


def freeze_task(definition: str, to: str | Path) -> Mapping[str, Any]:
    """Write the frozen task of a definition (YAML); returns its footer.

    A metric that the kind of task does not have is refused here, before anything is scored. The metrics of a
    task of lm-evaluation-harness are its own, and are not checked.
    """
    task = load_task(definition, "--task")
    if "lm_eval" not in task.definition["source"]:
        check_metrics(task.definition.get("kind", "choice"), task.definition.get("metrics"), str(task.file))
    requests, footer = frozen(task)
    write_parquet(requests, to, REQUESTS, footer)
    return footer
