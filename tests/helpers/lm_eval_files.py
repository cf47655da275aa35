"""Results and samples as lm-evaluation-harness writes them, made for tests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def choice_line(number: int, right: bool, *, context: str = "", delimiter: str = " ") -> Line:
    """A sample of two choices; the first is right, and preferred if `right`."""
    scores = (-1.0, -2.0 - number / 1000) if right else (-2.0 - number / 1000, -1.0)
    return {
        "doc_id": number,
        "doc": {"question": f"Question {number}?"},
        "target": "0",
        "arguments": {
            f"gen_args_{i}": {"arg_0": f"{context}Question {number}?", "arg_1": f"{delimiter}{word}"}
            for i, word in enumerate(("yes", "no"))
        },
        "resps": [[[str(score), "False"]] for score in scores],
        "filtered_resps": [[str(score), "False"] for score in scores],
        "filter": "none",
        "metrics": ["acc"],
        "acc": float(right),
    }


def generated_line(number: int) -> Line:
    """A sample of generated text."""
    return {
        "doc_id": number,
        "doc": {"question": f"What is {number} + 1?"},
        "target": str(number + 1),
        "arguments": {"gen_args_0": {"arg_0": f"What is {number} + 1?", "arg_1": {"until": ["\n"]}}},
        "resps": [[str(number + 1)]],
        "filtered_resps": [str(number + 1)],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "exact_match": 1.0,
    }


def write_run(
    directory: Path,
    model_args: str | Mapping[str, Any],
    tasks: Mapping[str, Sequence[Line]],
    *,
    date: str = "2026-11-22T12-00-00.000000",
    results: Mapping[str, Mapping[str, Any]] | None = None,
    **document: Any,
) -> Path:
    """Write the samples of each task, and results with their accuracies; returns the results file.

    `results` are further values by task; `document` are further keys of the file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    values: dict[str, dict[str, Any]] = {}
    for task, lines in tasks.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (directory / f"samples_{task}_{date}.jsonl").write_text(text)
        metric = "acc,none" if "acc" in lines[0] else "exact_match,strict-match"
        key = metric.partition(",")[0]
        values[task] = {metric: sum(line[key] for line in lines) / len(lines), "alias": task}
    for task, of_task in (results or {}).items():
        values.setdefault(task, {}).update(of_task)
    content = {
        "results": values,
        "n-shot": dict.fromkeys(values, 0),
        "n-samples": {t: {"original": len(lines), "effective": len(lines)} for t, lines in tasks.items()},
        "config": {"model": "hf", "model_args": model_args},
        **document,
    }
    path = directory / f"results_{date}.json"
    path.write_text(json.dumps(content))
    return path


def curve_lines(count: int, right: int, **more: Any) -> list[Line]:
    """Samples of which the first `right` are answered rightly."""
    return [choice_line(number, number < right, **more) for number in range(count)]
