"""Cells as logs of Inspect (inspect.aisi.org.uk), version 2 of its format, as JSON.

    {to}/inspect/{model}__{checkpoint}/{time}_{task}_{id}.json

Inspect lists only logs whose names begin with a time: that of scoring. The id follows from the identity of
the cell, so equal results make equal bytes.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

from ebbtide.exchange.exported import Exported, ExportedExample, defined, examples_of, plain, undefined
from ebbtide.exchange.specification import CheckpointRow
from ebbtide.files import digest, write_text

FORMAT_VERSION = 2
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.-]+")  # Inspect splits names at underscores


def export_inspect(
    cells: Sequence[Exported], checkpoint: CheckpointRow, to: Path, study: str
) -> Counter[str]:
    """Write a log per cell of one checkpoint below `to`, each atomically; returns what is left out.

    Raises `CellError` if a cell and its requests do not have the same examples and choices.
    """
    left: Counter[str] = Counter()
    for cell in cells:
        time = cell.written.astimezone(UTC)
        identity = dict(cell.footer.get("identity", {}))
        name = digest({"cell": identity, "of": [study, checkpoint.model, checkpoint.name, cell.task]})[:22]
        file = f"{time:%Y-%m-%dT%H-%M-%S}+00-00_{_NOT_IN_NAMES.sub('-', cell.task)}_{name}.json"
        directory = to / "inspect" / f"{checkpoint.model}__{checkpoint.name}"
        document = _log(cell, checkpoint, study, name)
        write_text(
            json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", directory / file
        )
        left += undefined(cell)
    return left


def _log(cell: Exported, checkpoint: CheckpointRow, study: str, name: str) -> dict[str, Any]:
    time = cell.written.astimezone(UTC).isoformat(timespec="seconds")
    samples = [_sample(one) for one in examples_of(cell)]
    tokens = checkpoint.tokens if checkpoint.tokens or not checkpoint.step else None
    return {
        "version": FORMAT_VERSION,
        "status": "success",
        "eval": {
            "eval_id": name,
            "run_id": name,
            "created": time,
            "task": cell.task,
            "task_id": cell.version or cell.task,
            "task_version": cell.version or 0,
            "dataset": {
                "name": cell.task,
                "samples": len(samples),
                "sample_ids": [sample["id"] for sample in samples],
                "shuffled": False,
            },
            "model": f"ebbtide/{checkpoint.model}-{checkpoint.name}",
            "config": {"epochs": 1},
            "packages": {"ebbtide": str(cell.footer.get("written", {}).get("version", ""))},
            "metadata": {
                "study": study,
                "model": checkpoint.model,
                "checkpoint": checkpoint.name,
                "step": checkpoint.step,
                "training_tokens": tokens,
                "parameters": {name: count for name, count in checkpoint.parameters.items() if count},
                "identity": dict(cell.footer.get("identity", {})),
                "few_shot": cell.shots,
            },
        },
        "plan": {"name": "loglikelihoods" if cell.kind != "generation" else "generation", "steps": []},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": _scores(cell),
        },
        "stats": {"started_at": time, "completed_at": time},
        "samples": samples,
    }


def _scores(cell: Exported) -> list[dict[str, Any]]:
    """Return the metrics of a cell, each as a score of one scorer, with its mean and standard error."""
    found = []
    for row in defined(cell):
        values = {"mean": row["value"], "stderr": row["stderr"], "chance": row["chance"]}
        known = {name: plain(float(value)) for name, value in values.items()}
        metrics = {n: {"name": n, "value": value} for n, value in known.items() if value is not None}
        name = str(row["metric"])
        found.append({"name": name, "scorer": name, "scored_samples": int(row["n"]), "metrics": metrics})
    return found


def _sample(one: ExportedExample) -> dict[str, Any]:
    answers = one.answers()
    choices = [
        {"message": {"role": "assistant", "content": text}, "stop_reason": "unknown"} for text in answers
    ]
    scores: dict[str, dict[str, Any]] = {}
    for metric, value in one.measured.items():
        if plain(value) is not None:
            answer = one.answers(metric)
            scores[metric] = {"value": value, **({"answer": answer[0]} if answer else {})}
    metadata: dict[str, Any] = {"loglikelihoods": one.loglikelihoods} if one.loglikelihoods else {}
    if not one.choices and one.loglikelihoods and one.kind != "rolling":
        metadata["continuations"] = [str(row["continuation"]) for row in one.rows]
    return {
        "id": str(one.example),
        "epoch": 1,
        "input": one.prompt,
        **({"choices": one.choices} if one.choices else {}),
        "target": one.right,
        "output": {"model": "ebbtide", "choices": choices, "completion": "".join(answers[:1])},
        "scores": scores,
        "metadata": metadata,
    }
