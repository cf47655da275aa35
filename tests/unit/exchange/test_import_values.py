"""Imported values that cannot be, and files that are damaged: one sentence each."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebbtide.errors import CellError, ConfigError
from ebbtide.exchange.imports import import_metrics, import_results
from ebbtide.metrics.ranges import range_of
from lm_eval_files import choice_line, curve_lines, generated_line, write_run

ARGS = "pretrained=lab/m,revision=step1"


def results(directory: Path, values: dict[str, Any]) -> dict[str, Any]:
    path = directory / "results.json"
    path.write_text(json.dumps({"results": {"t": values}, "config": {"model_args": ARGS}}))
    return {"format": "lm_eval_results", "files": [str(path)]}


def sentence(row: dict[str, Any]) -> str:
    with pytest.raises(CellError) as error:
        import_metrics(row)
    return str(error.value.args[0])


def test_percentages_are_refused_and_a_key_divides_them(tmp_path: Path) -> None:
    row = results(tmp_path, {"acc,none": 45.3, "acc_stderr,none": 1.2})
    assert sentence(row) == (
        f"{row['files'][0]}: task t: acc,none (accuracy): found 45.3, allowed: 0 to 1. If it is a "
        "percentage, list accuracy under imported.percent, or divide the values by 100."
    )
    [found] = import_metrics({**row, "percent": ["accuracy"]}).to_dict("records")
    assert (found["value"], found["stderr"]) == (pytest.approx(0.453), pytest.approx(0.012))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"acc,none": 0.4, "acc_stderr,none": -1},
            "acc,none (accuracy): found a standard error of -1, allowed: 0 to 0.5",
        ),
        (
            {"acc,none": 0.4, "acc_stderr,none": 1.2},
            "found a standard error of 1.2, allowed: 0 to 0.5. If it is in perc",
        ),
        ({"acc,none": -0.1}, "acc,none (accuracy): found -0.1, allowed: 0 to 1. Correct the file"),
        ({"acc,none": 453.0}, "found 453, allowed: 0 to 1. Correct the file"),
        ({"perplexity,none": -3}, "perplexity,none (sequence_perplexity): found -3, allowed: at least 1"),
        (
            {"word_perplexity,none": 0.5},
            "word_perplexity,none (word_perplexity): found 0.5, allowed: at least 1",
        ),
        ({"bits_per_byte,none": -0.2}, "bits_per_byte,none (bits_per_byte): found -0.2, allowed: at least 0"),
        ({"mc2": 1.5}, "mc2: found 1.5, allowed: 0 to 1"),
        ({"exact_match,strict-match": 88}, "(exact_match[filter=strict-match]): found 88, allowed: 0 to 1"),
        (
            {"acc,none": 0.4, "acc_stderr,none": 0.9},
            "found a standard error of 0.9, allowed: 0 to 0.5. If it is in percent, divide it by 100",
        ),
        (
            {"acc_norm": 1.0000001},
            "acc_norm (accuracy_per_character): found 1.0000001, allowed: 0 to 1. Correct the file",
        ),
        ({"acc,none": "0.45"}, "results: no task has a metric that is a number (results.t.acc,none is not)"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert message in sentence(results(tmp_path, values))


@pytest.mark.parametrize(
    ("keys", "detail"),
    [
        ({"percent": ["acuracy"]}, "imported[0].percent: found 'acuracy', which no imported result has"),
        ({"chance": {"tt": 0.25}}, "imported[0].chance: found 'tt', which no imported result has"),
        ({"n": {"tt": 100}}, "imported[0].n: found 'tt', which no imported result has"),
        ({"metrics": {"acc": "correct"}, "percent": ["accuracy"]}, "imported[0].percent: found 'accuracy'"),
        (
            {"percent": ["accuracy"]},
            "imported[0].percent: 1 of 1 values of accuracy are at most 1 % (the first: m, step1, task t: ",
        ),
    ],
)
def test_keys_without_effect_and_shares_called_percentages(
    keys: dict[str, Any], detail: str, tmp_path: Path
) -> None:
    row = results(tmp_path, {"acc,none": 0.45})
    warnings = [n for n in import_results([{**row, **keys}]).notices if n.severity == "warning"]
    assert len(warnings) == 1
    assert warnings[0].detail.startswith(detail)
    clean = {"chance": {"t": 0.25}, "n": {"t": 100}, "metrics": {"acc": "accuracy"}}
    assert [n for n in import_results([{**row, **clean}]).notices if n.severity == "warning"] == []


def test_results_beside_samples_with_another_accuracy(tmp_path: Path) -> None:
    for name, results_of in (("same", None), ("other", {"t": {"acc,none": 0.9}})):
        write_run(tmp_path / name, ARGS, {"t": curve_lines(8, 4)}, results=results_of)
        row = {"format": "lm_eval_samples", "files": [f"{tmp_path}/{name}/samples_*"]}
        found = [n for n in import_results([row]).notices if n.severity == "warning"]
        assert len(found) == (name == "other")
    assert ": the accuracy of the samples is 0.5, but " in found[0].detail
    assert found[0].detail.endswith(" beside them has 0.9; that of the samples is used.")


def test_ties_in_samples_are_said_as_in_scored_cells(tmp_path: Path) -> None:
    tied = [{**line, "filtered_resps": [["-1.0", "False"]] * 2, "acc": 1.0} for line in curve_lines(8, 8)]
    write_run(tmp_path, ARGS, {"t": tied})
    row = {"format": "lm_eval_samples", "files": [f"{tmp_path}/samples_*"]}
    [notice] = [n for n in import_results([row]).notices if n.kind == "tied"]
    assert (notice.severity, notice.checkpoint, notice.task, notice.count) == ("warning", "step1", "t", 8)
    assert "accuracy is 1.000, with ties as wrong answers 0.000, with random answers 0.500" in notice.detail


def test_possible_values_and_unknown_errors_are_kept(tmp_path: Path) -> None:
    values = {"acc,none": 1.0, "acc_stderr,none": "N/A", "bleu,none": 31.5, "ppl": 12.0, "margin": -3.0}
    assert len(import_metrics(results(tmp_path, values))) == 4


def test_ranges_follow_from_the_register() -> None:
    names = (
        "accuracy[part=1]",
        "loss",
        "perplexity",
        "margin",
        "brier",
        "rmse",
        "f1",
        "acc_x",
        "accuracy_ratio[g=a/b]",
    )
    assert [str(range_of(name)) for name in names] == [
        *("0 to 1", "at least 0", "at least 1", "any number", "0 to 2", "at least 0", "any number", "0 to 1"),
        "at least 0",
    ]


def test_percentages_of_tables_are_refused_with_their_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("model,step,task,value\nm,1,t,0.5\nm,2,t,52.5\n")
    columns = {name: name for name in ("model", "step", "task", "value")}
    row = {"format": "table", "files": [str(path)], "columns": columns, "metric": "accuracy"}
    assert sentence(row).startswith(
        f"{path}: row 2: task t: value (accuracy): found 52.5, allowed: 0 to 1. If it is a percentage, list"
    )
    path.write_text("model,step,task,value\nm,1,t,50\nm,2,t,52.5\n")
    assert import_metrics({**row, "percent": ["accuracy"]})["value"].tolist() == [0.5, 0.525]


def samples(directory: Path, change: Callable[[str], bytes]) -> dict[str, Any]:
    write_run(directory, ARGS, {"t": curve_lines(4, 2)})
    [path] = directory.glob("samples_*.jsonl")
    path.write_bytes(change(path.read_text()))
    return {"format": "lm_eval_samples", "files": [f"{directory}/samples_*.jsonl"]}


def with_line(**keys: Any) -> Callable[[str], bytes]:
    return lambda text: (text + json.dumps({**choice_line(9, True), **keys}) + "\n").encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text[:-30].encode(),
            "line 4 is not JSON (.*), and the file does not end with a line break, so",
        ),
        (lambda text: b"", "contains no samples. Remove it from files, or evaluate again"),
        (lambda text: text.encode("utf-16"), "is not UTF-8 (.*). Convert it to UTF-8"),
        (
            lambda text: text.replace("yes", "é").encode("latin-1"),
            "is not UTF-8 (.*0xe9.*). Convert it to UTF-8",
        ),
        (
            lambda text: text.replace('"doc_id": 1', '"doc_id": "\\ud83d"').encode(),
            r"line 2: doc_id: found '\\ud83d', half of a",
        ),
        (
            lambda text: text.replace("Question 1?", "\\ud83d").encode(),
            r"line 2: arguments\[0\]: found '\\ud83d', half of a",
        ),
        (
            lambda text: (text + text.splitlines()[0] + "\n").encode(),
            r"line 5: doc_id 0 occurs twice (also in .*line 1)",
        ),
        (
            with_line(filtered_resps=[["nan", "False"], ["-1", "False"]]),
            "line 5: .*allowed: a finite log-likelihood",
        ),
        (
            with_line(filtered_resps=[["-inf", "False"], ["-1", "False"]]),
            "line 5: .*allowed: a finite log-likelihood",
        ),
        (
            with_line(filtered_resps=[[0.5, False], [-1.0, False]]),
            "line 5: .*a log-likelihood of at most 0, because",
        ),
        (with_line(target="9" * 5000, acc=None), "line 5: target: found '9"),
        (with_line(target="[" * 300 + "]" * 300, acc=None), r"line 5: target: found '\[\["),
    ],
)
def test_damaged_samples(change: Any, message: str, tmp_path: Path) -> None:
    found = sentence(samples(tmp_path, change))
    assert re.search(message.replace("(", r"\(").replace(")", r"\)"), found), found


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    assert len(import_metrics(samples(tmp_path, lambda text: text.encode("utf-8-sig"))))


def test_samples_that_lack_examples_are_said(tmp_path: Path) -> None:
    row = samples(tmp_path, lambda text: "".join(text.splitlines(keepends=True)[:3]).encode())
    [said] = [n for n in import_results([row]).notices if n.kind == "dropped"]
    assert "has 3 examples, but the results beside it are of 4" in said.detail
    assert (said.severity, said.model, said.task, said.count) == ("warning", "m", "t", 1)


def test_generated_samples_in_a_glob_are_skipped_with_their_count(tmp_path: Path) -> None:
    generated = [generated_line(n) for n in range(3)]
    write_run(tmp_path, ARGS, {"t": curve_lines(4, 2), "gsm8k": generated, "aime": generated})
    row = {"format": "lm_eval_samples", "files": [f"{tmp_path}/samples_*.jsonl"]}
    found = import_results([row])
    assert set(found.metrics["task"]) == {"t"}
    [said] = [n for n in found.notices if n.kind == "dropped"]
    assert said.detail.startswith(
        "imported[0]: 2 files of samples skipped, because generated text has no log-lik"
    )
    assert said.count == 2
    with pytest.raises(CellError, match="Only tasks of type multiple_choice"):
        import_metrics({**row, "tasks": {"gsm8k": "gsm8k"}})
    with pytest.raises(
        CellError, match=r"samples of generated text only \(.*gsm8k.*Set format: lm_eval_results"
    ):
        import_metrics({**row, "files": [f"{tmp_path}/samples_gsm8k*.jsonl"]})


def test_other_filters_of_samples_are_said(tmp_path: Path) -> None:
    lines = curve_lines(2, 1)
    write_run(tmp_path, ARGS, {"t": [*lines, *({**line, "filter": "other"} for line in lines)]})
    notices = import_results(
        [{"format": "lm_eval_samples", "files": [f"{tmp_path}/samples_*.jsonl"]}]
    ).notices
    assert any("only the first filter is read; left out: other" in n.detail for n in notices)


def test_names_of_tasks_are_no_paths() -> None:
    row = {"format": "lm_eval_results", "files": ["x"], "tasks": {"t": "../t"}}
    with pytest.raises(ConfigError, match=r"tasks\.t: found '\.\./t'"):
        import_metrics(row)


def test_an_entry_that_rows_share_has_an_effect_if_one_of_them_uses_it(tmp_path: Path) -> None:
    """Rows of one YAML anchor repeat each other's entries."""
    shared = {"chance": {"t": 0.25, "typo": 0.5}, "n": {"t": 100}, "percent": []}
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    one, other = results(folders[0], {"acc,none": 0.45}), results(folders[1], {"acc,none": 0.45})
    rows = [{**one, **shared}, {**other, **shared, "tasks": {"t": "u"}}]
    found = [n for n in import_results(rows).notices if n.kind == "unused"]
    assert [(n.detail, n.count) for n in found] == [
        (
            "imported[0].chance: found 'typo', which no imported result has, so it has no effect; "
            "imported: t, u.",
            2,
        )
    ]
    rows[1]["chance"] = {"t": 0.5}  # another value, which only this row has
    assert any(n.detail.startswith("imported[1].chance: found 't'") for n in import_results(rows).notices)
