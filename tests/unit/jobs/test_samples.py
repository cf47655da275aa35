"""Cells of generated texts: scored by the worker, checked, measured, and without the texts."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tiny
from ebbtide.arrow import columns_of
from ebbtide.cells import store
from ebbtide.cells.cell import check_cell, read_cell, write_cell
from ebbtide.cells.inspection import Requests, inspect
from ebbtide.cells.samples import SAMPLES, per_row, with_choices
from ebbtide.checkpoints.directory import identities
from ebbtide.errors import CellError, ScoringError, TaskError
from ebbtide.jobs import worker
from ebbtide.jobs.encoded_tasks import EncodedTasks
from ebbtide.jobs.freeze_task import freeze_task
from ebbtide.jobs.loaded import Loaded
from ebbtide.jobs.progress import CellProgress
from ebbtide.jobs.score_files import score_requests_file
from ebbtide.logs import Progress
from ebbtide.metrics import measured
from ebbtide.metrics.chosen import main_metric
from ebbtide.metrics.measure import measure_cell, read_examples
from ebbtide.metrics.of_cell import examples_of
from ebbtide.scoring import fake
from ebbtide.statistics.flips.answers import answers_of
from ebbtide.statistics.flips.texts import read_texts
from ebbtide.statistics.small_evaluation.evaluate import read_run
from ebbtide.tables import REQUESTS, read_footer, read_parquet, write_parquet
from ebbtide.tasks.freezing import frozen
from ebbtide.tasks.generation.classifiers import CLASSIFIERS, Classifier, fixed
from task_data import define

ROWS = [{"prompt": f"the {word} child", "answer": ["the", "is"]} for word in ("old", "young", "tall")]
DECODING = {"max_tokens": 12, "samples": 4, "temperature": 1.0, "stop": [" and"]}
KEYS: dict[str, Any] = {"kind": "generation", "fields": {"target": "answer"}, "decoding": DECODING}
WHERE = {"model": "m", "checkpoint": "c", "step": 1, "tokens": 1, "parameters_nominal": 0}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A classifier that fails on texts of fewer than 10 characters, and gives 0.75 to others."""

    def scores(texts: Any) -> np.ndarray:
        return np.array([np.nan if len(text) < 10 else 0.75 for text in texts])

    monkeypatch.setitem(CLASSIFIERS, "half", fixed(Classifier("half", "2", "abc", scores)))
    yield


def job(backend: str = "fake", number: int = 0, **keys: Any) -> dict[str, Any]:
    """The job of a cell of a task with these keys; its requests are frozen."""
    requests, record = frozen(define(ROWS, **{**KEYS, **keys}))
    path = Path(f"{record['identity']}.parquet")
    write_parquet(requests, path, REQUESTS, record)
    directory = Path(f"checkpoint-{backend}-{number}").resolve()
    if not directory.exists():
        tiny.hollow_checkpoint(directory, number) if backend == "fake" else tiny.checkpoint(directory)
    weights, tokenizer = identities(directory)
    identity = tiny.identity(record["identity"], weights=weights, tokenizer=tokenizer)
    return {
        "name": "m/c/t",
        "checkpoint": str(directory / "config.json"),
        "requests": str(path),
        "identity": identity | ({"backend": "fake"} if backend == "fake" else {}),
        "cells": "cells",
        "hint": None,
        "threads": 1,
    }


def score(asked: dict[str, Any]) -> Path:
    """Score a cell as a worker does; its path in the store."""
    Path("cells").mkdir(exist_ok=True)
    state = Loaded(1), EncodedTasks("cells"), CellProgress(Progress())
    worker._scored(worker.Work(asked, {"rescore_examples": 2}, *state), asked)
    return store.path_of("cells", asked["identity"])


def rewrite(rows: pa.Table, to: str, asked: dict[str, Any], footer: dict[str, Any]) -> None:
    """Write a cell with other rows, as if a worker had computed them."""
    own = {name: value for name, value in footer.items() if name not in ("kind", "content_sha256")}
    write_cell(rows, to, asked["identity"], own)


def requests_of(asked: dict[str, Any]) -> Requests:
    sha256 = read_footer(asked["requests"], REQUESTS)["content_sha256"]
    return Requests(read_parquet(asked["requests"], REQUESTS), sha256)


def test_a_cell_has_a_row_per_sample_and_says_how_it_was_made() -> None:
    asked = job()
    path = score(asked)
    rows, footer = read_cell(path, asked["identity"], requests_of(asked).sha256)
    assert rows.column("sample").to_pylist() == [0, 1, 2, 3] * 3
    assert rows.column("example").to_pylist() == [name for name in "012" for _ in range(4)]
    assert set(rows.column("ended").to_pylist()) <= {"stop", "eos", "length"}
    assert footer["decoding"] == {
        **DECODING,
        "top_p": 1,
        "top_k": 0,
        "seed": 0,
        "keep_text": False,
    }
    assert footer["requests"] == 3 and footer["generated_tokens"] == sum(rows.column("tokens").to_pylist())
    assert "samples are not rescored" in footer["not_rescored"] and "verified" not in footer
    assert footer["end_tokens"] == [fake.byte_tokenizer().eos]
    assert inspect(path, asked["identity"], requests_of(asked)) is None
    assert not list(Path("cells").glob("encoded/*")), "prompts are not kept in tokens"


def test_texts_are_nowhere_unless_they_are_kept() -> None:
    kept = score(job(decoding={**DECODING, "keep_text": True}))
    texts = set(check_cell(kept)[0].column("text").to_pylist()) - {""}
    assert len(texts) > 5
    kept.unlink()
    bare = score(job())
    # The samples differ, because the cells do; but all are made of these words.
    words = [word.encode() for word in fake.WORDS if len(word) > 3]
    for path in [path for path in Path("cells").rglob("*") if path.is_file()]:
        table = pq.read_table(path)  # columns are compressed in the bytes of the file
        inside = [table.schema.metadata, *(table.column(name).to_pylist() for name in table.column_names)]
        for content in (path.read_bytes(), repr(inside).encode()):
            assert not [word for word in words if word in content], path
    assert len(set(check_cell(bare)[0].column("text_sha256").to_pylist())) > 1


def test_a_sample_depends_on_its_cell_prompt_and_number() -> None:
    first = check_cell(score(job()))[0]
    shutil.rmtree("cells")
    again = check_cell(score(job()))[0]
    assert all(again.column(name).equals(first.column(name)) for name in ("text_sha256", "loglikelihood"))
    other = check_cell(score(job(decoding={**DECODING, "seed": 1})))[0]
    weights = check_cell(score(job(number=1)))[0]
    for rows in (other, weights):
        assert not rows.column("text_sha256").equals(first.column("text_sha256"))


def test_classifiers_are_recorded_with_the_texts_that_they_could_not_score(half: None) -> None:
    asked = job(texts={"classifiers": ["half"]})
    path = score(asked)
    rows, footer = check_cell(path)
    scores = rows.column("score_half").to_numpy()
    short = np.array(rows.column("characters").to_pylist()) < 10
    assert 0 < short.sum() < 12
    assert np.isnan(scores[short]).all() and (scores[~short] == 0.75).all()
    assert footer["classifiers"] == {"half": {"version": "2", "digest": "abc", "failed": int(short.sum())}}
    expected = {"task": "t", "identity": asked["identity"], "measuring": {}}
    notices = measure_cell(path, asked["requests"], WHERE, expected).notices
    [one] = [notice for notice in notices if notice.kind == "dropped"]
    assert one.severity == "warning" and one.count == short.sum()
    assert one.detail.startswith(f"{short.sum()} of 12 texts could not be scored by half and do not count")


LETTER = {"function": "regex", "regex_pattern": "[a-z]"}
PIPELINES: list[dict[str, Any]] = [  # not in the order of the alphabet
    {"name": "vote", "filters": [LETTER, {"function": "majority_vote"}]},
    {"name": "first", "filters": [{"function": "regex", "regex_pattern": r"\w+"}]},
]


def test_a_cell_has_a_column_of_matches_per_pipeline() -> None:
    texts = {"pipelines": PIPELINES, "exact_match": {"regexes_to_ignore": ["(?<=^.).+"]}}
    asked = job(texts=texts)
    path = score(asked)
    rows, footer = check_cell(path)
    assert "exact" not in rows.column_names
    vote, first = (rows.column(f"exact[filter={one['name']}]").to_numpy().reshape(3, 4) for one in PIPELINES)
    assert np.isfinite(first).all() and 0 < first.mean() < 1
    assert np.isnan(vote[:, 1:]).all() and np.isfinite(vote[:, 0]).all()
    expected = {"task": "t", "identity": asked["identity"], "measuring": {}}
    found = measure_cell(path, asked["requests"], WHERE, expected)
    values = dict(zip(found.metrics["metric"], found.metrics["value"], strict=True))
    assert values["exact_match[filter=first]"] == values["pass_at_1[filter=first]"] == first.mean()
    assert values["exact_match[filter=vote]"] == vote[:, 0].mean()
    assert main_metric(found.metrics["metric"]) == "exact_match[filter=vote]", "the first"
    assert found.examples is not None and "exact_match[filter=vote]" in found.examples
    x, _ = read_examples(path, asked["requests"], expected)
    answers = answers_of(x, "exact_match[filter=vote]")
    assert answers.values.tolist() == vote[:, 0].tolist()
    number = rows.column_names.index("exact[filter=vote]")
    rewrite(
        rows.set_column(number, "exact[filter=vote]", pa.array(np.full(12, 0.5))),
        "bad.parquet",
        asked,
        footer,
    )
    with pytest.raises(CellError, match=r"exact\[filter=vote\]: found 0.5 \(example 0, sample 0; 12 of 12"):
        check_cell("bad.parquet")


def test_a_single_pipeline_changes_the_name_of_metrics_not_the_cell() -> None:
    asked = job(texts={"pipelines": PIPELINES[1:]})
    path = score(asked)
    assert "exact" in check_cell(path)[0].column_names
    expected = {"task": "t", "identity": asked["identity"], "measuring": {}}
    found = set(measure_cell(path, asked["requests"], WHERE, expected).metrics["metric"])
    assert "exact_match[filter=first]" in found and "exact_match" not in found


def test_a_window_without_room_is_found_before_anything_is_generated() -> None:
    asked = job(decoding={**DECODING, "max_tokens": 40})
    asked["identity"]["max_length"] = 40
    with pytest.raises(ScoringError, match=r"decoding\.max_tokens: found 40, but the window is 40 tokens"):
        score(asked)
    assert not store.path_of("cells", asked["identity"]).exists()


def test_prompts_that_exceed_the_window_are_cut_or_refused() -> None:
    asked = job()
    asked["identity"]["max_length"] = 20
    rows, footer = check_cell(score(asked))
    assert footer["truncated"] == 3 and set(rows.column("context_tokens").to_pylist()) == {8}
    expected = {"task": "t", "identity": asked["identity"], "measuring": {}}
    path = store.path_of("cells", asked["identity"])
    notices = measure_cell(path, asked["requests"], WHERE, expected).notices
    assert any("3 of 3 prompts exceeded the window of 20 tokens" in notice.detail for notice in notices)
    asked["identity"]["truncation"] = "refuse"
    with pytest.raises(ScoringError, match=r"example 0: the prompt has 13 tokens"):
        score(asked)


def test_a_task_of_prompts_is_not_scored_as_requests() -> None:
    asked = job()
    with pytest.raises(ScoringError, match=r"\.parquet: a task of kind generation has prompts without"):
        score_requests_file("checkpoint-fake-0", asked["requests"], "cell.parquet", {}, backend="fake")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"metrics": ["pass_at_5"]}, "pass_at_5 needs 5 samples, but decoding.samples is 4."),
        (
            {"metrics": ["exact_match"], "fields": {}},
            "exact_match compares samples with fields.target, which is missing.",
        ),
        ({"metrics": ["accuracy"]}, "found 'accuracy'; allowed for the kind generation: exact_match,"),
    ],
)
def test_metrics_that_the_samples_will_not_have_stop_the_freeze(keys: dict[str, Any], sentence: str) -> None:
    define(ROWS, **{**KEYS, **keys})
    with pytest.raises(TaskError) as error:
        freeze_task("mine.yaml", "frozen.parquet")
    assert f"mine.yaml: metrics: {sentence}" in str(error.value)
    assert not Path("frozen.parquet").exists()


# ---- damage


def test_a_truncated_cell_is_detected() -> None:
    asked = job()
    path = score(asked)
    whole = path.read_bytes()
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert not store.is_whole(path, asked["identity"])
        found = inspect(path, asked["identity"], requests_of(asked))
        assert found is not None and found.kind == "not_a_cell"
    changed = bytearray(whole)
    changed[len(whole) // 3] ^= 1
    path.write_bytes(changed)
    with pytest.raises(CellError):
        check_cell(path)


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("tokens", 13, "at most 12, max_tokens of the footer"),
        ("sample", 4, "below 4"),
        ("loglikelihood", 1.0, "at most 0"),
        ("loglikelihood", float("nan"), "a finite number"),
        ("ended", "tired", "stop, eos, length"),
        ("exact", 0.5, "0 or 1"),
        ("distinct_1", 1.5, "0 to 1"),
        ("words", -1, "at least 0"),
        ("text", "another", "the sha256 of the text"),
    ],
)
def test_values_that_no_sample_has_are_refused(column: str, value: Any, allowed: str) -> None:
    asked = job(decoding={**DECODING, "keep_text": True})
    rows, footer = check_cell(score(asked))
    values = rows.column(column).to_pylist()
    values[5] = value
    index = rows.column_names.index(column)
    wrong = rows.set_column(index, column, pa.array(values, rows.schema.field(column).type))
    rewrite(wrong, "wrong.parquet", asked, footer)
    name = "text_sha256" if column == "text" else column
    with pytest.raises(CellError, match=rf"wrong\.parquet: {name}: found .*example 1, sample") as error:
        check_cell("wrong.parquet")
    assert f"allowed: {allowed}; delete the file" in str(error.value)


def test_a_cell_of_other_rows_is_refused() -> None:
    asked = job()
    rows, footer = check_cell(score(asked))
    rewrite(rows.slice(1), "short.parquet", asked, footer)
    with pytest.raises(CellError, match=r"short\.parquet has 11 rows, expected 12 by its footer"):
        check_cell("short.parquet")
    moved = pa.concat_tables([rows.slice(4), rows.slice(0, 4)])
    rewrite(moved, "moved.parquet", asked, footer)
    found = inspect(Path("moved.parquet"), asked["identity"], requests_of(asked))
    assert found is not None and found.kind == "rows" and "example: found '1', expected '0'" in found.detail


# ---- one function reads both layouts


def test_samples_become_choices_with_the_requests_of_their_prompts() -> None:
    asked = job()
    rows, footer = check_cell(score(asked))
    chosen, requests = with_choices(rows, footer), per_row(requests_of(asked).rows, footer)
    assert chosen.column("choice").to_pylist() == requests.column("choice").to_pylist() == [0, 1, 2, 3] * 3
    assert requests.column("context").to_pylist() == [row["prompt"] for row in ROWS for _ in range(4)]
    plain = pa.table({"example": ["0"], "choice": [0]})
    assert with_choices(plain, {}) is plain and per_row(plain, {}) is plain


def test_metrics_of_a_cell_are_those_of_its_rows() -> None:
    asked = job()
    path = score(asked)
    rows, footer = check_cell(path)
    table, of_examples = measured(
        with_choices(rows, footer), per_row(requests_of(asked).rows, footer), {"kind": "generation"}
    )
    value = dict(zip(table["metric"], table["value"], strict=True))
    exact = np.array(rows.column("exact").to_pylist()).reshape(3, 4)
    assert value["exact_match"] == pytest.approx(exact.mean())
    assert value["sample_tokens"] == pytest.approx(np.mean(rows.column("tokens").to_pylist()))
    assert value["ended_by_stop"] + value["ended_by_eos"] + value["ended_by_length"] == pytest.approx(1)
    assert list(of_examples["exact_match"]) == exact.mean(axis=1).tolist()
    assert set(SAMPLES.columns) <= set(rows.column_names)
    assert json.dumps(footer)


def test_flips_and_estimates_have_no_choices_of_samples() -> None:
    asked = job()
    path = score(asked)
    rows, footer = check_cell(path)
    requests = requests_of(asked).rows
    joined = columns_of(with_choices(rows, footer)), columns_of(per_row(requests, footer))
    found = answers_of(examples_of(*joined, {"kind": "generation"}), "exact_match")
    assert set(found.chosen) == {-1} and found.probabilities_of(0) is None and found.right_of(0) is None
    assert read_texts([asked["requests"]])["choices"].tolist() == [[]] * 3
    others = [score(job(number=number)) for number in (1, 2, 3, 4, 5, 6)]
    with pytest.raises(CellError, match="tasks of this kind have no accuracy and margin"):
        read_run([path, *others], asked["requests"])


# ---- with a model


def test_out_of_memory_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from ebbtide.scoring.generation import loop

    asked = job(backend="auto", decoding={**DECODING, "stop": []})
    expected = check_cell(score(asked))[0]
    shutil.rmtree("cells")
    forward, failures = loop._Run._advance, [3]

    def scarce(self: Any, rows: Any, live: Any) -> None:
        failures[0] -= 1
        if failures[0] == 0:
            raise MemoryError
        forward(self, rows, live)

    monkeypatch.setattr(loop._Run, "_advance", scarce)
    rows = check_cell(score(asked))[0]
    assert failures[0] < 0
    assert rows.column("text_sha256").equals(expected.column("text_sha256"))
    assert np.allclose(rows.column("loglikelihood"), expected.column("loglikelihood"), atol=1e-4)
