"""Cells in the file formats of lm-evaluation-harness 0.4, for tools that read them.

    {to}/{model}__{checkpoint}/results_{checkpoint}.json            every task of one checkpoint
    {to}/{model}__{checkpoint}/samples_{task}_{checkpoint}.jsonl    one line per example

File names contain the checkpoint instead of the date, so equal results make equal bytes. What lm-eval's
format lacks is stored in `ebbtide` blocks, so importing the files again loses nothing, but for
tasks of kind generation, of which only metrics come back. Metrics that are NaN are omitted, because JSON has
no NaN. Generated texts that the cells do not keep are null.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ebbtide.exchange.exported import Exported, defined, examples_of, json_line, plain, undefined
from ebbtide.exchange.lm_eval_json import OWN
from ebbtide.exchange.names import OUTPUT_TYPE, theirs
from ebbtide.exchange.specification import CheckpointRow
from ebbtide.files import atomic, write_text
from ebbtide.metrics.direction import higher_is_better
from ebbtide.tasks.generation.pipelines import with_pipeline

# Columns that its format has.
_IN_LM_EVAL = ("example", "context", "continuation", "loglikelihood", "text", "targets")


def export_lm_eval(
    cells: Sequence[Exported], checkpoint: CheckpointRow, to: Path, study: str
) -> Counter[str]:
    """Write the cells of one checkpoint below `to`; returns what is left out. See `export_checkpoint`."""
    del study
    export_checkpoint(cells, checkpoint, to)
    return sum((undefined(cell) for cell in cells), Counter())


def export_checkpoint(cells: Sequence[Exported], checkpoint: CheckpointRow, to: str | Path) -> list[Path]:
    """Write the cells of one checkpoint below `to`, atomically; returns the files, results first.

    Raises `CellError` if a cell and its requests do not have the same examples and choices.
    """
    directory = Path(to) / f"{checkpoint.model}__{checkpoint.name}"
    suffix = checkpoint.name.replace("_", "-")  # lm-eval's tools split names at the last underscore
    hashes, written, logged = {}, [], {}
    for cell in cells:
        path = directory / f"samples_{cell.task}_{suffix}.jsonl"
        of_examples = hashlib.sha256()
        with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            for sample in samples(cell):
                file.write(json_line(sample))
                of_examples.update(
                    (sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"]).encode()
                )
                logged[cell.task] = sample["metrics"]
        hashes[cell.task] = of_examples.hexdigest()
        written.append(path)
    results = directory / f"results_{suffix}.json"
    write_text(
        json.dumps(results_document(cells, checkpoint, hashes, logged), indent=2, ensure_ascii=False), results
    )
    return [results, *written]


def samples(cell: Exported) -> Iterator[dict[str, Any]]:
    """Samples of a cell, one per example, in the order of the requests."""
    for position, one in enumerate(examples_of(cell)):
        yield _sample(cell, position, one.rows, one.measured)


def _sample(
    cell: Exported, position: int, rows: Sequence[Mapping[str, Any]], measured: Mapping[str, float]
) -> dict[str, Any]:
    example = rows[0]["example"]
    gold = [row["choice"] for row in rows if row.get("gold") and row.get("role", "choice") == "choice"]
    kept = [{k: plain(v) for k, v in row.items() if k not in _IN_LM_EVAL} for row in rows]
    own = {
        "example": example,
        "kind": cell.kind,
        "unknown": list(cell.footer.get("unknown", [])),
        "rows": kept,
    }
    doc: dict[str, Any] = {"prompt": rows[0]["context"]}
    metrics = {theirs(name): plain(value) for name, value in measured.items()}
    if cell.kind == "generation":
        doc |= {"targets": json.loads(rows[0].get("targets", "[]")), OWN: own}
        target = doc["targets"][0] if doc["targets"] else ""
        arguments: list[list[Any]] = [[rows[0]["context"], _until(cell)]]
        texts = [row.get("text") for row in rows]
        answers: list[Any] = [texts]
        responses = [texts]
    else:
        doc |= {"choices": [row["continuation"] for row in rows], OWN: own}
        rolling = cell.kind == "rolling"
        if cell.kind == "choice":
            target = str(gold[0] if len(gold) == 1 else gold)
        else:
            target = rows[gold[0] if gold else 0]["continuation"]
        arguments = [[r["continuation"]] if rolling else [r["context"], r["continuation"]] for r in rows]
        answers = [
            str(r["loglikelihood"]) if rolling else [str(r["loglikelihood"]), str(bool(r["greedy"]))]
            for r in rows
        ]
        responses = [[answer] for answer in answers]
    if cell.kind == "rolling":
        metrics |= {
            name: [rows[0]["loglikelihood"], rows[0]["bytes"]]
            for name in ("byte_perplexity", "bits_per_byte")
        }
    return {
        "doc_id": int(example) if str(example).isdecimal() else position,
        "doc": doc,
        "target": target,
        "arguments": {
            f"gen_args_{i}": {f"arg_{j}": text for j, text in enumerate(texts)}
            for i, texts in enumerate(arguments)
        },
        "resps": responses,
        "filtered_resps": answers,
        "filter": "none",
        "metrics": list(metrics),
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(arguments[0][0]),
        "target_hash": _hash(target),
        **metrics,
    }


def _until(cell: Exported) -> dict[str, Any]:
    """The settings of decoding under lm-eval's names."""
    decoding = cell.definition["decoding"]
    return {
        "until": list(decoding["stop"]),
        "max_gen_toks": decoding["max_tokens"],
        "do_sample": decoding["temperature"] > 0,
        **{name: decoding[name] for name in ("temperature", "top_p", "top_k")},
    }


def results_document(
    cells: Sequence[Exported],
    checkpoint: CheckpointRow,
    hashes: Mapping[str, str],
    logged: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """The results of one checkpoint in lm-eval's format.

    `hashes` are digests of the samples by task, `logged` the metrics in the samples by task.
    """
    footer = cells[0].footer
    identity = footer.get("identity", {})
    return {
        "results": {cell.task: _values(cell) for cell in cells},
        "group_subtasks": {},
        "configs": {cell.task: _config(cell, logged[cell.task]) for cell in cells},
        "versions": {cell.task: cell.version for cell in cells},
        "n-shot": {cell.task: int((cell.definition.get("few_shot") or {}).get("k", 0)) for cell in cells},
        "higher_is_better": {
            cell.task: {theirs(m): higher_is_better(m) for m in cell.metrics["metric"]} for cell in cells
        },
        "n-samples": {cell.task: dict.fromkeys(("original", "effective"), _examples(cell)) for cell in cells},
        "config": {
            "model": OWN,
            "model_args": f"pretrained={checkpoint.model},revision={checkpoint.name}",
            "model_num_parameters": checkpoint.parameters["total"],
            "model_dtype": identity.get("dtype", footer.get("dtype", "")),
            "model_revision": checkpoint.name,
            "model_sha": identity.get("weights", ""),
            "batch_size": None,
            "limit": None,
        },
        "task_hashes": dict(hashes),
        "model_source": OWN,
        "model_name": checkpoint.model,
        "model_name_sanitized": checkpoint.model,
        OWN: {
            "model": checkpoint.model,
            "checkpoint": checkpoint.name,
            "step": checkpoint.step,
            "tokens": checkpoint.tokens,
            "parameters": dict(checkpoint.parameters),
            "chance": {cell.task: _chances(cell) for cell in cells},
            "n": {cell.task: _counts(cell) for cell in cells},
        },
    }


def _values(cell: Exported) -> dict[str, Any]:
    values: dict[str, Any] = {"name": cell.task, "alias": cell.task, "sample_len": _examples(cell)}
    for row in defined(cell):
        name, pipeline = with_pipeline(theirs(str(row["metric"])))
        values[f"{name},{pipeline}"] = row["value"]
        values[f"{name}_stderr,{pipeline}"] = "N/A" if math.isnan(row["stderr"]) else row["stderr"]
    return values


def _config(cell: Exported, logged: Sequence[str]) -> dict[str, Any]:
    return {
        "task": cell.task,
        "output_type": OUTPUT_TYPE.get(cell.kind, "multiple_choice"),
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "{{choices}}",
        "target_delimiter": "",
        "num_fewshot": int((cell.definition.get("few_shot") or {}).get("k", 0)),
        "metric_list": [{"metric": name} for name in logged],
        "metadata": {"version": cell.version, "kind": cell.kind, "definition": dict(cell.definition)},
    }


def _chances(cell: Exported) -> dict[str, float]:
    known = cell.metrics[cell.metrics["chance"].notna()]
    return dict(zip(known["metric"], known["chance"], strict=True))


def _counts(cell: Exported) -> dict[str, int]:
    """Numbers of examples that differ from the task's: those of groups."""
    fewer = cell.metrics[cell.metrics["n"] != _examples(cell)]
    return {metric: int(n) for metric, n in zip(fewer["metric"], fewer["n"], strict=True)}


def _examples(cell: Exported) -> int:
    return int(cell.requests["example"].nunique())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
