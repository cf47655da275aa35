"""Cells as records of Every Eval Ever, schema version 0.3.0 (github.com/evaleval/every_eval_ever).

    {to}/data/{task}/{study}/{model}-{checkpoint}/{uuid}.json            metrics of a cell
    {to}/data/{task}/{study}/{model}-{checkpoint}/{uuid}_samples.jsonl   one line per example and metric

The path is that of its data store: collection, developer, model. A checkpoint is a model of its own, and the
study stands for the developer. The UUID follows from the identity of the cell, so equal results make equal
bytes.
"""

import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from ebbtide import __version__
from ebbtide.exchange.exported import (
    Exported,
    ExportedExample,
    examples_of,
    plain,
    undefined,
)
from ebbtide.exchange.specification import CheckpointRow
from ebbtide.files import atomic, canonical_json, write_text
from ebbtide.metrics.direction import find_metric, higher_is_better, lower_is_better, unit_of
from ebbtide.metrics.ranges import range_of

SCHEMA_VERSION = "0.3.0"
NO_SAMPLES = "without samples, because no metric says of an example that it is right or wrong"
_NOT_PORTABLE = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def export_every_eval_ever(
    cells: Sequence[Exported], checkpoint: CheckpointRow, to: Path, study: str
) -> Counter[str]:
    """Write the cells of one checkpoint below `to`, each file atomically; returns what is left out.

    Raises `CellError` if a cell and its requests do not have the same examples and choices.
    """
    left: Counter[str] = Counter()
    model = f"{checkpoint.model}-{checkpoint.name}"
    for cell in cells:
        record = {"cell": dict(cell.footer.get("identity", {})), "task": cell.task, "of": [study, model]}
        digest = hashlib.sha256(canonical_json(record).encode()).digest()
        name = uuid.UUID(bytes=digest[:16], version=4)
        directory = Path("data", *map(_portable, (cell.task, study, model)))
        document = _document(cell, checkpoint, model_id=f"{_portable(study)}/{_portable(model)}")
        samples = directory / f"{name}_samples.jsonl"
        reference = _write_samples(cell, document, to / samples)
        if reference:
            document["detailed_evaluation_results"] = {"file_path": samples.as_posix(), **reference}
        else:
            left[f"cells {NO_SAMPLES}"] += 1
        left += undefined(cell)
        write_text(
            json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            to / directory / f"{name}.json",
        )
    return left


def _document(cell: Exported, checkpoint: CheckpointRow, model_id: str) -> dict[str, Any]:
    seconds = str(int(cell.written.timestamp()))
    identity = cell.footer.get("identity", {})
    about = {
        "checkpoint": checkpoint.name,
        "step": checkpoint.step,
        "training_tokens": checkpoint.tokens if checkpoint.tokens or not checkpoint.step else None,
        **{f"parameters_{name}": count for name, count in checkpoint.parameters.items() if count},
        "weights": identity.get("weights"),
        "dtype": identity.get("dtype", cell.footer.get("dtype")),
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{cell.task}/{model_id}/{seconds}",
        "evaluation_timestamp": cell.written.isoformat(),
        "retrieved_timestamp": seconds,
        "source_metadata": {
            "source_name": "Ebbtide",
            "source_type": "evaluation_run",
            "source_organization_name": model_id.partition("/")[0],
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "ebbtide",
            "version": str(cell.footer.get("written", {}).get("version", __version__)),
        },
        "model_info": {
            "name": checkpoint.model,
            "id": model_id,
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                **{name: str(value) for name, value in about.items() if value is not None},
            },
        },
        "evaluation_results": [
            _result(cell, row) for row in cell.metrics.to_dict("records") if plain(row["value"]) is not None
        ],
    }


def _result(cell: Exported, row: Any) -> dict[str, Any]:
    metric = str(row["metric"])
    bounds = range_of(metric)
    details = {"chance": row["chance"], "n": row["n"]}
    found: dict[str, Any] = {
        "evaluation_result_id": metric,
        "evaluation_name": cell.task,
        "source_data": _source(cell),
        "metric_config": {
            "metric_id": metric,
            "metric_name": metric,
            "metric_kind": metric.partition("[")[0],
            "lower_is_better": lower_is_better(metric),
            "score_type": "continuous",
            "min_score": _bound(bounds.low),
            "max_score": _bound(bounds.high),
        },
        "score_details": {
            "score": float(row["value"]),
            "details": {name: str(value) for name, value in details.items() if plain(value) is not None},
        },
    }
    if unit := unit_of(metric):
        found["metric_config"]["metric_unit"] = "proportion" if unit == "share" else unit
    if plain(row["stderr"]) is not None:
        found["score_details"]["uncertainty"] = {
            "standard_error": {"value": float(row["stderr"])},
            "num_samples": int(row["n"]),
        }
    if cell.kind == "generation":
        decoding = cell.definition["decoding"]
        found["generation_config"] = {
            "generation_args": {name: decoding[name] for name in ("temperature", "top_p", "max_tokens")}
        }
    return found


def _bound(value: float) -> float | str:
    return value if abs(value) != float("inf") else "Infinity" if value > 0 else "-Infinity"


def _source(cell: Exported) -> dict[str, Any]:
    source = cell.definition.get("source") or {}
    details = {"task_identity": cell.version, "few_shot": cell.shots}
    known = {name: str(value) for name, value in details.items() if value not in (None, "")}
    found: dict[str, Any] = {"dataset_name": cell.task, "additional_details": known}
    if source.get("dataset"):
        return {
            **found,
            "source_type": "hf_dataset",
            "hf_repo": source["dataset"],
            "hf_split": source["split"],
        }
    return {**found, "source_type": "other"}


def _write_samples(cell: Exported, document: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """Write one line per example and metric that says right or wrong; returns the reference to the file."""
    metrics = set(cell.metrics["metric"])
    sha256, rows = hashlib.sha256(), 0
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for one in examples_of(cell):
            for sample in _samples(one, metrics, cell, document):
                # Only ASCII: readers that split at the line separators of Unicode exist.
                line = json.dumps(sample, allow_nan=False) + "\n"
                file.write(line)
                sha256.update(line.encode())
                rows += 1
    if not rows:
        path.unlink()
        return None
    return {
        "format": "jsonl",
        "hash_algorithm": "sha256",
        "checksum": sha256.hexdigest(),
        "total_rows": rows,
    }


def _samples(
    one: ExportedExample, metrics: set[str], cell: Exported, document: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    hashed = canonical_json([one.prompt, one.right])
    shared = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": document["evaluation_id"],
        "model_id": document["model_info"]["id"],
        "evaluation_name": cell.task,
        "sample_id": str(one.example),
        "sample_hash": hashlib.sha256(hashed.encode()).hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": one.prompt, "reference": one.right, "choices": one.choices or None},
        "metadata": {"loglikelihoods": json.dumps(one.loglikelihoods)} if one.loglikelihoods else {},
    }
    for metric, value in one.measured.items():
        better = higher_is_better(metric)
        if (
            metric in metrics
            and _says_right_or_wrong(metric, one)
            and better is not None
            and not isnan(value)
        ):
            yield {
                **shared,
                "evaluation_result_id": metric,
                "output": {"raw": one.answers(metric)},
                "answer_attribution": [_attribution(text, one, metric) for text in one.answers(metric)],
                "evaluation": {"score": value, "is_correct": value == float(better)},
            }


def _says_right_or_wrong(metric: str, one: ExportedExample) -> bool:
    """Whether a metric is 1 or 0 for each example; exact match is a mean over the samples of one."""
    registered = find_metric(metric)
    if registered is None:
        return False
    return registered.unit == "share" or (registered.name == "exact_match" and len(one.rows) == 1)


def _attribution(answer: str, one: ExportedExample, metric: str) -> dict[str, Any]:
    by = "generated text" if one.kind == "generation" else f"choice with the highest score of {metric}"
    return {
        "turn_idx": 0,
        "source": "output.raw",
        "extracted_value": answer,
        "extraction_method": by,
        "is_terminal": True,
    }


def _portable(name: str) -> str:
    """Return a name as a component of a path of the data store."""
    portable = _NOT_PORTABLE.sub("-", name).rstrip(". ")
    return f"{portable}-" if portable in ("", "data", "unknown") else portable
