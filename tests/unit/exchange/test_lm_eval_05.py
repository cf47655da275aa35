"""Results and samples of version 0.5 of lm-evaluation-harness, in the shape that 0.5.0.dev1 writes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ebbtide.errors import CellError
from ebbtide.exchange.imports import import_cells, import_results
from ebbtide.exchange.lm_eval_json import read_results
from ebbtide.exchange.plan import plan
from ebbtide.exchange.samples import read_samples
from lm_eval_files import Line, choice_line, generated_line, write_run

DATE = "2026-11-22T12-00-00.000000"
MODEL = {"pretrained": "my-lab/my-model", "revision": "step100"}


def nested(line: Line) -> Line:
    """A line of 0.4 as 0.5 writes it: a list of answers per request, and metrics that are integers."""
    answers = [[answer] for answer in line["filtered_resps"]]
    return {**line, "filtered_resps": answers, "acc": int(line["acc"])}


def document_line(number: int) -> Line:
    """A document of 0.5: a continuation without a context."""
    text = f"Document {number}."
    total = -10.0 - number
    return {
        "doc_id": number,
        "doc": {"text": text},
        "target": "0",
        "arguments": {"gen_args_0": {"arg_0": "", "arg_1": text}},
        "resps": [[[str(total), "False"]]],
        "filtered_resps": [[[str(total), "False"]]],
        "filter": "none",
        "metrics": ["word_perplexity", "bits_per_byte"],
        "word_perplexity": [total, 2],
        "bits_per_byte": [total, len(text)],
    }


def run(directory: Path, tasks: Mapping[str, Sequence[Line]], **more: Any) -> Path:
    return write_run(directory, MODEL, tasks, lm_eval_version="0.5.0.dev1", **more)


def in_format(task: str, form: str) -> dict[str, Any]:
    """The key of a results file that says in which format a task was asked."""
    return {"configs": {task: {"task": task, "formats": form, "_formats_selection": form}}}


def imported(directory: Path, **keys: Any) -> Any:
    row = {"format": "lm_eval_samples", "files": [f"{directory}/**/samples_*.jsonl"], **keys}
    return import_results([row]).metrics


def accuracy(table: Any, task: str) -> float:
    return float(table[(table["task"] == task) & (table["metric"] == "accuracy")]["value"].item())


def test_samples_are_those_of_0_4_with_one_more_list(tmp_path: Path) -> None:
    lines = [choice_line(number, number < 3) for number in range(4)]
    old, new = (
        read_samples(write_run(tmp_path / name, MODEL, {"arc": of}).with_name(f"samples_arc_{DATE}.jsonl"))
        for name, of in (("old", lines), ("new", list(map(nested, lines))))
    )
    assert new.rows.equals(old.rows) and new.requests.equals(old.requests)
    assert new.kind == old.kind == "choice"


def test_several_repeats_of_a_log_likelihood_are_refused(tmp_path: Path) -> None:
    line = nested(choice_line(0, True))
    line["filtered_resps"][0] *= 2
    path = run(tmp_path, {"arc": [line]}).with_name(f"samples_arc_{DATE}.jsonl")
    with pytest.raises(CellError, match=r"line 1: filtered_resps\[0\]: found .*, allowed: a log-likelihood"):
        read_samples(path)


def test_documents_are_continuations_without_a_context(tmp_path: Path) -> None:
    path = tmp_path / f"samples_prose_{DATE}.jsonl"
    path.write_text("".join(json.dumps(document_line(number)) + "\n" for number in range(3)))
    found = read_samples(path)
    assert found.kind == "rolling" and "greedy" in found.footer["unknown"]
    assert found.requests["continuation"].tolist() == [f"Document {n}." for n in range(3)]
    assert found.rows["loglikelihood"].tolist() == [-10, -11, -12]
    continuation = {**document_line(0), "metrics": ["acc"], "word_perplexity": -10.0, "bits_per_byte": 1.0}
    path.write_text(json.dumps(continuation) + "\n")
    assert read_samples(path).kind == "sequence"


def test_formats_of_one_task_are_tasks(tmp_path: Path) -> None:
    for form, right in (("mcqa", 3), ("cloze", 1)):
        lines = [nested(choice_line(number, number < right)) for number in range(4)]
        run(tmp_path / form, {"arc": lines}, **in_format("arc", form))
    run(tmp_path / "plain", {"arc": [nested(choice_line(number, False)) for number in range(4)]})
    table = imported(tmp_path)
    assert [accuracy(table, name) for name in ("arc@mcqa", "arc@cloze", "arc")] == [0.75, 0.25, 0]
    renamed = imported(tmp_path, tasks={"arc@mcqa": "arc_letters"})
    assert set(renamed["task"]) == {"arc_letters"} and accuracy(renamed, "arc_letters") == 0.75
    assert [m.task for m in read_results(next((tmp_path / "mcqa").glob("*.json"))).measured] == ["arc@mcqa"]
    cells = import_cells({"format": "lm_eval_samples", "files": [f"{tmp_path}/mcqa/*.jsonl"]})
    assert [cell.task for cell in cells] == ["arc@mcqa"]
    assert "lm_eval_results" not in plan([tmp_path]), "samples cover all tasks of the results"


def test_a_format_in_the_name_of_a_task_is_there_once(tmp_path: Path) -> None:
    path = run(tmp_path, {"arc@mcqa": [nested(choice_line(0, True))]}, **in_format("arc@mcqa", "mcqa"))
    assert [m.task for m in read_results(path).measured] == ["arc@mcqa"]


def test_tasks_of_a_group_lose_its_name(tmp_path: Path) -> None:
    parts = {"mmlu::law": [nested(choice_line(n, n < 1)) for n in range(4)]}
    parts["mmlu::art"] = [nested(choice_line(n, n < 3)) for n in range(4)]
    group = {"mmlu": {"acc,none": 0.5, "alias": "mmlu", "sample_count": {"acc,none": 8}}}
    path = run(tmp_path, parts, results=group, group_subtasks={"mmlu": list(parts)})
    results = read_results(path)
    assert results.parts() == {"mmlu": frozenset({"law", "art"})}
    table = imported(tmp_path)
    assert (accuracy(table, "law"), accuracy(table, "art")) == (0.25, 0.75)
    only = import_results([{"format": "lm_eval_results", "files": [str(path)]}]).metrics
    assert set(only["task"]) == {"mmlu"}
    each = import_results([{"format": "lm_eval_results", "files": [str(path)], "groups": "parts"}]).metrics
    assert set(each["task"]) == {"law", "art"}


def test_equal_names_in_two_groups_keep_the_groups(tmp_path: Path) -> None:
    tasks = {f"{group}::law": [nested(choice_line(0, group == "a"))] for group in "ab"}
    found = read_results(run(tmp_path, tasks)).measured
    assert {m.task: m.value for m in found} == {"a::law": 1, "b::law": 0}


def test_metrics_of_repeats_and_of_samples_get_our_names(tmp_path: Path) -> None:
    values = {"pass@1(exact_match),none": 0.5, "pass@3(exact_match),none": 0.75, "bpb,none": 1.5}
    path = run(tmp_path, {"sums": [{**generated_line(0), "scores_per_repeat": {}}]}, results={"sums": values})
    found = {m.metric: m.value for m in read_results(path).measured}
    assert found["pass_at_1"] == 0.5 and found["pass@3(exact_match)"] == 0.75
    assert found["gold_bits_per_byte"] == 1.5 and found["exact_match[filter=strict-match]"] == 1
    assert json.loads(path.read_text())["lm_eval_version"].startswith("0.5")
