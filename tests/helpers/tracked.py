"""Studies with made-up metrics, and what each tracker's own reader finds of them."""

import json
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ebbtide.study.study import Study
from ebbtide.study.tracked_runs import tracked_runs
from ebbtide.tables import METRICS, write_parquet, write_tsv
from planted_flips import write_study

Points = set[tuple[str, int, float]]


class Found(NamedTuple):
    """What a reader found of a run; `count` counts repeats."""

    points: Points
    count: int
    texts: str  # configuration, alarms and tags


def metrics(
    steps: Iterable[int],
    model: str = "a",
    names: Mapping[str, float] | None = None,
    tokens: int = 100,
    shift: float = 0.0,
) -> pd.DataFrame:
    """Rows of one model: for every step, each metric with its value, plus a thousandth of the step."""
    rows = [
        {
            **{"model": model, "checkpoint": f"step{step}", "step": step, "tokens": tokens * step},
            **{"parameters_total": 3, "parameters_non_embedding": 2, "parameters_active": 2},
            **{"parameters_nominal": 0, "task": "t", "metric": name, "value": value + step / 1000 + shift},
            **{"stderr": 0.1, "n": 24, "chance": 0.5, "source": "scored"},
        }
        for step in steps
        for name, value in (names or {"accuracy": 0.5, "margin": 3.0}).items()
    ]
    return pd.DataFrame(rows)


def alarms(step: int = 2, model: str = "a", **columns: Any) -> pd.DataFrame:
    """One alarm at a step, and the part of a group that belongs to it."""
    row = {
        **{"model": model, "task": "t", "metric": "accuracy", "group": "", "checkpoint": f"step{step}"},
        **{"step": step, "tokens": 100 * step, "against": "best", "reference": "step1", "value": 0.5},
        **{"reference_value": 0.9, "change": -0.4, "low": -0.6, "high": -0.2, "p": 1e-4, "p_adjusted": 2e-4},
        **{"severity": "severe", "allowed": "", "allowed_until": "", "note": "", **columns},
    }
    return pd.DataFrame([row, {**row, "group": "country=Peru", "severity": ""}])


def study_of(*tables: pd.DataFrame, alarms: pd.DataFrame | None = None) -> Study:
    """A study `s` of the models a, b and c in the working directory, with these rows as its metrics."""
    study = write_study()
    write_results("s", *tables, alarms=alarms)
    return study


def write_results(study: str, *tables: pd.DataFrame, alarms: pd.DataFrame | None = None) -> None:
    """Write the tables that are published."""
    write_parquet(pd.concat(tables, ignore_index=True), f"results/{study}/metrics.parquet", METRICS)
    if alarms is not None:
        write_tsv(alarms, f"results/{study}/alarms.tsv")


def key_of(study: Study, model: str = "a") -> str:
    """The key of a run."""
    return next(run.key for run in tracked_runs(study)[0] if run.model == model)


def _found(rows: Iterable[tuple[str, int, float]], texts: str) -> Found:
    listed = list(rows)
    axis = [row for row in listed if row[0] == "training_tokens"]  # in every row of a history
    return Found(set(listed), len(listed) - len(axis) + len(set(axis)), texts)


def read_tensorboard(directory: Path, study: Study, model: str) -> Found:
    """By TensorBoard's EventAccumulator."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(
        str(directory / study.name / model),
        size_guidance={"scalars": 0, "tensors": 0},
        purge_orphaned_data=True,
    )
    reader.Reload()
    rows = [(tag, e.step, e.value) for tag in reader.Tags()["scalars"] for e in reader.Scalars(tag)]
    texts = [
        f"{tag} {event.step} {event.tensor_proto.string_val[0].decode()}"
        for tag in reader.Tags()["tensors"]
        for event in reader.Tensors(tag)
    ]
    return _found(rows, "\n".join(texts))


def read_mlflow(directory: Path, study: Study, model: str, project: str = "ebbtide") -> Found:
    """By MLflow's client."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{directory / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(project)
    runs = [
        run
        for run in client.search_runs([experiment.experiment_id])
        if run.data.tags["mlflow.runName"] == f"{study.name}/{model}"
    ]
    [run] = runs
    assert run.info.status == "FINISHED"
    rows = [
        (m.key, m.step, m.value)
        for name in run.data.metrics
        for m in client.get_metric_history(run.info.run_id, name)
    ]
    return _found(rows, json.dumps([run.data.params, run.data.tags]))


def read_wandb(directory: Path, study: Study, model: str, project: str = "ebbtide") -> Found:
    """From the transaction logs of the newest run of the model, in the order of `wandb sync`."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows: list[tuple[str, int, float]] = []
    texts: list[str] = []
    last, run_id, summary = -1, "", dict[str, Any]()
    for file in sorted(directory.glob(f"wandb/offline-run-*-{key_of(study, model)}*/*.wandb")):
        records = [Record.FromString(data) for data in wandb_records(file)]
        [run] = [record.run for record in records if record.HasField("run")]
        if run.project != project:
            continue
        if run.run_id != run_id:  # of `--replace`
            rows, texts, last, run_id = [], [], -1, run.run_id
        assert run.display_name.startswith(f"{study.name}/{model}")
        assert any(r.HasField("exit") for r in records)
        texts += [str(run.tags), run.notes, *(item.value_json for item in run.config.update)]
        texts += [
            f"{r.metric.name or r.metric.glob_name} by {r.metric.step_metric}"
            for r in records
            if r.HasField("metric")
        ]
        for record in (r.summary for r in records if r.HasField("summary")):
            summary |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.update}
        for record in (r.history for r in records if r.HasField("history")):
            row = {item.nested_key[0] or item.key: json.loads(item.value_json) for item in record.item}
            assert row["_step"] == last + 1, "W&B needs rows whose numbers increase"
            last = row["_step"]
            step = row.pop("training_step")
            rows += [(k, step, v) for k, v in row.items() if k != "checkpoint" and not k.startswith("_")]
    for name, value in summary.items():
        of = {step: known for key, step, known in rows if key == name}
        assert not of or value == of[max(of)], f"summary of {name}"
    assert summary.keys() >= {name for name, *_ in rows}
    return _found(rows, "\n".join(texts))


def read_trackio(directory: Path, study: Study, model: str, project: str = "ebbtide") -> Found:
    """By Trackio's API, and the query that its dashboard makes."""
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    [run] = [run for run in trackio.Api().runs(project) if run.name == f"{study.name}/{model}"]
    rows = [
        (name, row["step"], value)
        for row in SQLiteStorage.get_logs(project, run.name, run_id=run.id)
        for name, value in row.items()
        if name not in ("step", "timestamp") and not isinstance(value, str)
    ]
    return _found(rows, json.dumps([run.config, run.alerts()]))


READERS = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "wandb": read_wandb,
    "trackio": read_trackio,
}


def wandb_records(file: Path) -> Iterator[bytes]:
    """Yield the records of a .wandb file: a header, and blocks of the log format of LevelDB.

    Raises `ValueError` for a damaged or incomplete one. (wandb itself has this reader in Go only.)
    """
    data, block = file.read_bytes(), 32768
    if data[:4] != b":W&B":
        raise ValueError("no header")
    position, parts = 7, b""
    while position < len(data):
        left = block - position % block
        if left < 7:
            position += left
            continue
        checksum, size, kind = struct.unpack("<IHB", data[position : position + 7])
        payload = data[position + 7 : position + 7 + size]
        if len(payload) < size or zlib.crc32(payload, zlib.crc32(bytes([kind]))) != checksum:
            raise ValueError(f"damaged at byte {position}")
        parts += payload
        if kind in (1, 4):  # a whole record, or its last part
            yield parts
            parts = b""
        position += 7 + size


def near(points: Points, expected: Points, tolerance: float = 0.0) -> bool:
    """Whether both have the same points; values within a tolerance."""
    pairs = list(zip(sorted(points), sorted(expected), strict=False))
    return len(points) == len(expected) and all(
        a[:2] == b[:2] and math.isclose(a[2], b[2], rel_tol=tolerance, abs_tol=0) for a, b in pairs
    )
