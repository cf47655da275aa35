"""The results of a study as runs of an experiment tracker, one per model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ebbtide.errors import ConfigError
from ebbtide.exchange.specification import PARAMETERS
from ebbtide.exchange.trackers.points import left_out, points_of
from ebbtide.exchange.trackers.tracked_run import Alarm, TrackedRun
from ebbtide.files import digest
from ebbtide.study.study import Study
from ebbtide.tables import METRICS, read_frame, read_tsv

_SCORING = ("backend", "generation_backend", "dtype", "encoding", "bos", "truncation", "max_length")


def tracked_runs(study: Study) -> tuple[list[TrackedRun], list[str]]:
    """Return a run for every model with results, and sentences about what they lack.

    Raises
    ------
    ConfigError
        The study scores and imports nothing.
    CellError
        A table of its results is missing or damaged.
    TrackerError
        A metric has no usable name in trackers.
    """
    if not study.has_metrics():
        raise ConfigError(f"{study.file}: the study scores and imports nothing, so nothing can be published.")
    metrics = read_frame(f"results/{study.name}/metrics.parquet", METRICS)
    path = Path("results", study.name, "alarms.tsv")
    alarms = read_tsv(path) if path.exists() else None
    sentences = [] if alarms is not None else [f"{path} does not exist, so no alarms are published."]
    runs = []
    for model, rows in metrics.groupby("model", sort=False):
        runs.append(tracked_run(study, str(model), rows, alarms))
        sentences += [f"{model}: {sentence}." for sentence in left_out(rows)]
    return runs, sentences


def tracked_run(study: Study, model: str, metrics: pd.DataFrame, alarms: pd.DataFrame | None) -> TrackedRun:
    """Return the run of one model; `metrics` are its rows, `alarms` those of all models."""
    return TrackedRun(
        study=study.name,
        model=model,
        points=points_of(metrics),
        config=_config(study, model, metrics),
        identities=_identities(study, model),
        alarms=[] if alarms is None else list(alarms_of(alarms[alarms["model"] == model])),
    )


def alarms_of(rows: pd.DataFrame) -> Iterator[Alarm]:
    """Yield the alarms of a model in training order, without the parts of groups."""
    raised = rows[(rows["severity"] != "") & (rows["group"] == "")]
    for row in raised.sort_values(["step", "task", "metric", "against"], kind="stable").to_dict("records"):
        interval = "" if pd.isna(row["low"]) else f" [{row['low']:+.3g}, {row['high']:+.3g}]"
        until = f" until {row['allowed_until']}" if row["allowed_until"] else ""
        allowed = f"; allowed{until}: {row['allowed']}" if row["allowed"] else ""
        text = (
            f"{row['severity']}: {row['task']} {row['metric']} at {row['checkpoint']}: {row['value']:.3g}, "
            f"{row['change']:+.3g}{interval} against {row['against']} {row['reference']}, "
            f"p {row['p_adjusted']:.2g}{allowed}"
        )
        yield Alarm(str(row["checkpoint"]), int(row["step"]), str(row["severity"]), text)


def _config(study: Study, model: str, metrics: pd.DataFrame) -> dict[str, Any]:
    """Model, study, parameters and settings of scoring; what is unknown is not in it."""
    counts = {f"parameters_{name}": int(metrics[f"parameters_{name}"].max()) for name in PARAMETERS}
    sources = ", ".join(sorted(metrics["source"].unique()))
    own = {"study": study.name, "model": model, "source": sources, **{k: v for k, v in counts.items() if v}}
    if model not in study.models:
        return own
    scoring = {f"scoring_{name}": _plain(study.config["scoring"][name]) for name in _SCORING}
    row = study.models[model]
    arm = {"arm": row.arm} if row.arm else {}
    seed = {} if row.seed is None else {"seed": row.seed}
    return {**own, **arm, **seed, **scoring}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Mapping | list) or value is None else value


def _identities(study: Study, model: str) -> dict[str, str]:
    """Checkpoint → digest of the identities of its cells."""
    checkpoints = study.models[model].checkpoints if model in study.models else ()
    return {c.name: digest({task: study.identity(c, task) for task in study.tasks}) for c in checkpoints}
