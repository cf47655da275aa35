"""Preparations: rows from a file, their identity, and what is refused."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ebbtide.errors import ConfigError, SourceError, TaskError
from ebbtide.sources import fetch
from ebbtide.tasks.dataset_rows import rows_sha256
from ebbtide.tasks.definition import Task, load_task
from ebbtide.tasks.freezing import freeze, frozen
from ebbtide.tasks.pin import pin
from ebbtide.tasks.prepare import PREPARATIONS, Preparation, register, rows_of
from task_data import WHERE, json_lines, put

ROWS = [
    {"prompt": f"{n} and one is", "classes": [" two", f" ten{n}"], "answer_index": 0, "name": f"N. {n}"}
    for n in range(20)
]
SAMPLE = {"function": "sample", "count": 5, "seed": 3}
DRAWN = [1, 4, 7, 14, 17]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def define(
    content: bytes | None = None, name: str = "data.jsonl", rows: int | None = None, **prepare: Any
) -> Task:
    source = {**put(content or json_lines(ROWS), name), "prepare": prepare or SAMPLE}
    given = source if rows is None else {**source, "rows": rows}
    Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": given}))
    return load_task("mine.yaml", WHERE)


def refused(**prepare: Any) -> str:
    with pytest.raises(ConfigError) as error:
        define(**prepare)
    return str(error.value)


def test_prepared_rows_become_requests_as_rows_of_a_file_do() -> None:
    task = define(rows=5)
    requests, footer = frozen(task)
    assert requests["context"].unique().tolist() == [f"{n} and one is" for n in DRAWN]
    assert footer["prepare"] == {"function": "sample", "count": 5, "seed": 3, "version": 1}
    assert task.origin == f"{task.data} (sample)"


def test_rows_of_version_1_are_what_they_were() -> None:
    """If this fails, increment the version of the preparation, and write the new digest here."""
    task = define()
    rows = rows_of(Path(str(task.data)), task.definition["source"], WHERE)
    assert PREPARATIONS["sample"].version == 1
    assert rows_sha256(rows) == "02d3868e73cddae278e3839e3a992b3eb34fb30b75b3044ad191970d67146352"


def test_sample_keeps_only_the_columns_that_it_is_given() -> None:
    columns = ["prompt", "classes", "answer_index"]
    task = define(**SAMPLE, columns=columns)
    [row, *_] = rows_of(Path(str(task.data)), task.definition["source"], WHERE)
    assert list(row) == columns
    requests, footer = frozen(task)
    assert "N. " not in json.dumps(footer) + requests.to_json()


def test_arguments_and_version_are_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    first = define().identity
    assert define(**SAMPLE, format="jsonl").identity == first  # the default
    others = [define(**{**SAMPLE, "seed": 4}).identity, define(**{**SAMPLE, "count": 6}).identity]
    shutil.copy("data.jsonl", "moved.jsonl")
    moved = yaml.safe_load(Path("mine.yaml").read_text())
    moved["source"] |= {"file": "moved.jsonl", "prepare": SAMPLE}
    Path("mine.yaml").write_text(yaml.safe_dump(moved))
    assert load_task("mine.yaml", WHERE).identity == first
    sample = PREPARATIONS["sample"]
    newer = Preparation(sample.name, sample.description, 2, sample.rows, sample.arguments, sample.required)
    monkeypatch.setitem(PREPARATIONS, "sample", newer)
    others.append(define().identity)
    assert len({first, *others}) == 4


def test_a_new_argument_that_changes_nothing_keeps_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    first, sample = define().identity, PREPARATIONS["sample"]
    arguments = {**sample.arguments, "reverse": {"type": "boolean", "default": False}}
    newer = Preparation(sample.name, sample.description, 1, sample.rows, arguments, sample.required)
    monkeypatch.setitem(PREPARATIONS, "sample", newer)
    assert define().identity == first
    assert define(**SAMPLE, reverse=True).identity != first


def test_what_is_refused_at_once() -> None:
    assert refused(function="sampel", count=1) == (
        "ConfigError: mine.yaml: source.prepare.function: found 'sampel'; allowed: "
        f"{', '.join(PREPARATIONS)}; did you mean 'sample'?"
    )
    assert "source.prepare.function: missing" in refused(count=1)
    assert "source.prepare.count: missing; expected: Number of rows to draw" in refused(function="sample")
    assert "source.prepare.count: found 0; allowed: at least 1" in refused(function="sample", count=0)
    assert "source.prepare.cuont: unknown key" in refused(function="sample", count=1, cuont=1)


def test_a_format_beside_a_preparation_is_refused() -> None:
    source = {**put(json_lines(ROWS), "data.jsonl"), "prepare": SAMPLE, "format": "csv"}
    Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": source}))
    with pytest.raises(ConfigError, match=r"source\.format: unknown key"):
        load_task("mine.yaml", WHERE)


def test_bad_data_is_named() -> None:
    with pytest.raises(TaskError, match=r"mine\.yaml: source\.prepare\.count: found 21; .* has 20 rows"):
        freeze(define(function="sample", count=21))
    with pytest.raises(TaskError, match=r"no column 'nmae' \(found: prompt, .*\); did you mean 'name'\?"):
        freeze(define(function="sample", count=1, columns=["nmae"]))
    with pytest.raises(TaskError, match=r"source\.rows: found 5 rows .*, expected 4"):
        freeze(define(rows=4))
    incomplete = json_lines([{**ROWS[0], "classes": None}])
    with pytest.raises(TaskError, match=r"data\.jsonl \(sample\): row 1: "):
        freeze(define(incomplete, function="sample", count=1))


def test_empty_cells_of_a_prepared_table_are_counted() -> None:
    table = b"prompt,classes,answer_index\n,\"[' a', ' b']\",0\n"
    task = define(table, "data.csv", function="sample", format="csv", count=1)
    assert frozen(task)[1]["missing_cells"] == {"rows": 1, "first": "row 1, column prompt: ''"}


def test_a_prepared_source_is_pinned_with_the_number_of_its_rows() -> None:
    Path("data.jsonl").write_bytes(json_lines(ROWS))
    source = {"file": "data.jsonl", "prepare": SAMPLE}
    Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": source}))
    pinned = pin("mine.yaml", Path("pinned.yaml"), [])["source"]
    assert pinned == {**put(json_lines(ROWS), "data.jsonl"), "prepare": SAMPLE, "rows": 5}


def test_a_publisher_may_state_an_md5_only() -> None:
    content = json_lines(ROWS)
    md5, sha256 = (
        hashlib.md5(content, usedforsecurity=False).hexdigest(),
        put(content, "data.jsonl")["sha256"],
    )
    pinned = {"file": "data.jsonl", "prepare": SAMPLE}

    def load(**digests: str) -> Task:
        Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": {**pinned, **digests}}))
        return load_task("mine.yaml", WHERE)

    task = load(md5=md5)
    assert task.source
    assert task.data == f"resources/sources/{md5}/data.jsonl"
    fetch(task.source, Path(task.data), [])
    assert freeze(task)["example"].nunique() == 5
    assert pin("mine.yaml", Path("pinned.yaml"), [])["source"] == {**pinned, "sha256": sha256, "rows": 5}
    for digests in ({}, {"md5": md5, "sha256": sha256}):
        with pytest.raises(ConfigError, match=r"source\.sha256: found .*; allowed: sha256, or md5"):
            load(**digests)
    Path("data.jsonl").write_bytes(content + b"\n")
    with pytest.raises(ConfigError, match=rf"source\.md5: data\.jsonl has md5 [0-9a-f]+, expected {md5}"):
        load(md5=md5)
    with pytest.raises(SourceError, match="either that copy is damaged or the md5 belongs to another file"):
        fetch(task.source, Path("elsewhere"), [])


def test_two_preparations_of_one_name() -> None:
    with pytest.raises(ValueError, match="there is already a preparation 'sample'"):
        register(PREPARATIONS["sample"])


def sums(**arguments: Any) -> Task:
    source = {"prepare": {"function": "addition", **arguments}}
    fields = {"prompt": "context", "stop": "\n"}
    definition = {"title": "Sums", "kind": "sequence", "source": source, "fields": fields}
    Path("sums.yaml").write_text(yaml.safe_dump(definition))
    return load_task("sums.yaml", WHERE)


def test_sums_are_right_different_and_the_same_every_time() -> None:
    requests = freeze(sums(digits=2, count=500))
    asked = requests[requests["role"] == "choice"]
    assert asked["context"].nunique() == 500
    for context, answer in zip(asked["context"], asked["continuation"], strict=True):
        one, other = context.removeprefix("Q: What is ").removesuffix("?\n\nA:").split(" plus ")
        assert answer == f" {int(one) + int(other)}"
    assert (asked["context"].iloc[0], sums(digits=2, count=500).data) == ("Q: What is 54 plus 8?\n\nA:", None)
    assert sums(digits=2, count=500).identity != sums(digits=2, count=500, seed=1).identity
    assert freeze(sums(digits=1, count=100))["context"].nunique() == 200  # all; and after each, its stop
    stops = requests[requests["role"] == "stop"]
    assert set(stops["continuation"]) == {"\n"}
    with pytest.raises(TaskError, match=r"prepare.count: found 101; there are only 100 such sums"):
        freeze(sums(digits=1, count=101))


def test_a_preparation_says_whether_it_needs_a_file() -> None:
    source = {
        **put(json_lines(ROWS), "data.jsonl"),
        "prepare": {"function": "addition", "digits": 1, "count": 1},
    }
    Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": source}))
    with pytest.raises(ConfigError, match=r"source.file: found; preparation 'addition' needs no file"):
        load_task("mine.yaml", WHERE)
    Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": {"prepare": SAMPLE}}))
    with pytest.raises(ConfigError, match=r"source.file: missing; preparation 'sample' needs a file"):
        load_task("mine.yaml", WHERE)
