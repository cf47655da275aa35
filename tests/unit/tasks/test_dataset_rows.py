"""Tasks on data sets that the `datasets` library reads from a local path: pinned, frozen, and refused."""

import datetime
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import tiny
from ebbtide.errors import ConfigError, EbbtideError, SourceError, TaskError
from ebbtide.tables import REQUESTS, write_parquet
from ebbtide.tasks.dataset_rows import dataset_rows, rows_sha256
from ebbtide.tasks.definition import Task, load_task
from ebbtide.tasks.freezing import freeze, freeze_counting, frozen
from ebbtide.tasks.pin import pin
from task_data import WHERE, define

ROWS: list[dict[str, Any]] = [
    {
        "prompt": f"Q{n}",
        "classes": [" a", " b"],
        "answer_index": n % 2,
        "about": {"share": n / 4, "note": None if n else "x"},
    }
    for n in range(5)
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    datasets.disable_progress_bars()  # of the library, where these tests write


def table(rows: list[dict[str, Any]] = ROWS) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows)


def folder() -> str:
    Path("folder").mkdir()
    table().to_parquet("folder/train.parquet")
    table(ROWS[:2]).to_parquet("folder/test.parquet")
    return "folder"


def several(where: str) -> str:
    datasets.DatasetDict({"train": table(), "test": table(ROWS[:2])}).save_to_disk(where)
    return where


def ipc(where: str) -> str:
    rows = pa.Table.from_pylist(ROWS)
    with pa.OSFile(where, "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    return where


def csv(where: str, separator: str = ",") -> str:
    rows = [{key: row[key] for key in ("prompt", "classes", "answer_index")} for row in ROWS]
    pd.DataFrame(rows).to_csv(where, index=False, sep=separator)
    return where


def pinned(path: str, keys: dict[str, Any] | None = None, **source: Any) -> Task:
    """A task whose source `pin` has pinned."""
    definition = {"title": "Mine", "source": {"path": path, **source}, **(keys or {})}
    Path("mine.yaml").write_text(yaml.safe_dump(definition))
    pin("mine.yaml", Path("pinned.yaml"), [])
    return load_task("pinned.yaml", WHERE)


FORMS: dict[str, tuple[Callable[[], str], dict[str, Any]]] = {
    "directory of Parquet": (folder, {"split": "train"}),
    "Parquet": (lambda: str(table().to_parquet("data.parquet") and "data.parquet"), {}),
    "JSON lines": (lambda: str(table().to_json("data.jsonl") and "data.jsonl"), {"split": "train"}),
    "written by save_to_disk": (lambda: table().save_to_disk("saved") or "saved", {}),
    "splits written by save_to_disk": (lambda: several("several"), {"split": "train"}),
    "Arrow": (lambda: ipc("data.arrow"), {}),
    "CSV": (lambda: csv("data.csv"), {}),
    "TSV": (lambda: csv("data.tsv", "\t"), {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_pinned_and_gives_the_requests_of_its_rows(form: str) -> None:
    make, source = FORMS[form]
    task = pinned(make(), **source)
    assert task.definition["source"]["rows"] == 5
    pd.testing.assert_frame_equal(freeze(task), freeze(define(ROWS)))


def test_local_data_that_was_edited_after_freezing_is_noticed_and_a_new_date_is_not() -> None:
    task = pinned(folder(), split="train")
    requests, footer = frozen(task)
    write_parquet(requests, task.frozen, REQUESTS, footer)
    for file in Path("folder").iterdir():
        file.touch()
    again = load_task(str(task.file), WHERE)
    assert again.identity == task.identity
    table(ROWS[1:]).to_parquet("folder/train.parquet")
    with pytest.raises(ConfigError) as error:
        load_task(str(task.file), WHERE)
    assert str(error.value) == (
        f"ConfigError: {task.file}: source.path: folder has changed since the task was frozen; restore it, "
        "or remove rows and rows_sha256 from the source, run `ebbtide pin TASK.yaml --to "
        f"NEW.yaml` and use NEW.yaml (if the rows are still the same, delete {task.frozen})."
    )


def test_nested_columns_and_missing_values_are_as_in_a_file() -> None:
    keys = {"fields": {"prompt": "{{ about.note }}"}, "groups": {"share": "{{ about.share }}"}}
    task = pinned(folder(), {**keys, "drop_bad_rows": True}, split="train")
    requests, dropped, _ = freeze_counting(task)
    assert (requests["context"].unique().tolist(), len(dropped)) == (["x"], 4)
    assert requests["group_share"].unique().tolist() == ["0.0"]
    with pytest.raises(TaskError, match=r"folder: row 2: \{\{ about\.note \}\} must be a text, found None"):
        freeze(pinned("folder", keys, split="train"))


def test_large_types_dictionaries_and_not_a_number() -> None:
    columns = {
        "prompt": pa.array(["Q"], pa.large_string()),
        "classes": pa.array([["a", "b"]], pa.large_list(pa.string())),
        "answer_index": pa.array([1], pa.uint8()),
        "level": pa.array(["x"]).dictionary_encode(),
        "score": pa.array([float("nan")], pa.float32()),
        "nothing": pa.nulls(1),
    }
    pq.write_table(pa.table(columns), "data.parquet")
    task = pinned("data.parquet", {"groups": {"level": "level"}})
    assert freeze(task)["gold"].tolist() == [False, True]
    assert freeze(task)["group_level"].tolist() == ["x", "x"]


def test_a_stream_takes_the_first_rows_and_they_are_those_of_the_whole() -> None:
    path = folder()
    part = pinned(path, split="train", streaming=True, rows=3)
    assert freeze(part)["example"].nunique() == 3
    assert part.definition["source"]["rows_sha256"] == rows_sha256(ROWS[:3])
    whole = pinned(path, split="train")
    assert whole.definition["source"]["rows_sha256"] == rows_sha256(ROWS)
    assert part.identity != whole.identity
    with pytest.raises(TaskError, match=r"source\.rows: found 5, expected 6"):
        pinned(path, split="train", streaming=True, rows=6)


def test_a_stream_reads_no_more_than_it_needs() -> None:
    lines = [json.dumps(row) for row in ROWS]
    # The library parses JSON by blocks of some megabytes: the broken line is far behind the first.
    filler = json.dumps({**ROWS[0], "prompt": "x" * 100_000})
    Path("data.jsonl").write_text("\n".join([*lines, *[filler] * 300, "no JSON"]))
    assert freeze(pinned("data.jsonl", streaming=True, rows=2))["example"].nunique() == 2
    with pytest.raises(SourceError, match=r"source\.path: data\.jsonl cannot be read by datasets"):
        pinned("data.jsonl")


def test_the_digest_is_that_of_the_rows_in_order() -> None:
    one, two = {"a": 1, "b": ["é", None]}, {"a": 2.5}
    assert rows_sha256([one, two]) != rows_sha256([two, one])
    assert rows_sha256([one]) == rows_sha256([{"b": ["é", None], "a": 1}])
    assert rows_sha256([one]) != rows_sha256([{**one, "a": "1"}])
    lines = b'{"a":1,"b":["\\u00e9",null]}\n{"a":2.5}\n'
    assert rows_sha256([one, two]) == hashlib.sha256(lines).hexdigest()


def test_changed_rows_are_noticed_under_the_same_size_and_time() -> None:
    path = Path("data.csv")
    path.write_text("prompt,completion\nQ, a\n")
    task = pinned("data.csv", {"kind": "sequence"})
    freeze(task)
    was = path.stat()
    path.write_text("prompt,completion\nQ, b\n")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(TaskError, match=r"pinned\.yaml: source\.rows_sha256: .*ebbtide pin` again"):
        freeze(task)
    path.write_text("prompt,completion\nQ, a\nQ, c\n")
    with pytest.raises(TaskError, match=r"source\.rows: found 2 rows, expected 1"):
        freeze(task)


def test_a_pin_keeps_what_the_definition_says() -> None:
    path = folder()
    for keys, sentence in (
        ({"rows_sha256": "1" * 64}, rf"source\.rows_sha256: found [0-9a-f]{{64}}, expected {'1' * 64}"),
        ({"rows": 4}, r"source\.rows: found 5, expected 4"),
        ({"streaming": True}, r"source\.rows: missing"),
    ):
        with pytest.raises(EbbtideError, match=sentence):
            pinned(path, split="train", **keys)
        assert not Path("pinned.yaml").exists()


def test_only_the_named_columns_are_read() -> None:
    when = datetime.datetime(2020, 1, 1)
    table([{**row, "when": when} for row in ROWS]).to_parquet("data.parquet")
    with pytest.raises(TaskError, match=r"column 'when' has the type timestamp.*in source\.columns"):
        pinned("data.parquet")
    task = pinned("data.parquet", columns=["prompt", "classes", "answer_index"])
    pd.testing.assert_frame_equal(freeze(task), freeze(define(ROWS)))


def image() -> str:
    from PIL import Image

    datasets.Dataset.from_list([{"shot": Image.new("RGB", (2, 2))}]).save_to_disk("image")
    return "image"


def of_type(array: pa.Array) -> str:
    pq.write_table(pa.table({"when": array}), "typed.parquet")
    return "typed.parquet"


WRONG: dict[str, tuple[Callable[[], str], dict[str, Any], type[EbbtideError], str]] = {
    "image": (image, {}, TaskError, r"mine\.yaml: source: column 'shot' has the type Image; allowed: text"),
    "bytes": (lambda: of_type(pa.array([b"x"])), {}, TaskError, "column 'when' has the type binary"),
    "date in a list in a dict": (
        lambda: of_type(pa.array([{"a": [datetime.date(2020, 1, 1)]}])),
        {},
        TaskError,
        r"column 'when\.a' has the type date32",
    ),
    "date in a stream": (
        lambda: of_type(pa.array([datetime.date(2020, 1, 1)])),
        {"streaming": True, "rows": 1},
        TaskError,
        "column 'when' has the type date",
    ),
    "no such column": (
        folder,
        {"split": "train", "columns": ["promt"]},
        ConfigError,
        r"source\.columns: found 'promt'; allowed: prompt, .*did you mean 'prompt'",
    ),
    "no split": (folder, {}, ConfigError, r"source\.split: missing; allowed: train, test\."),
    "another split": (
        folder,
        {"split": "tests"},
        ConfigError,
        r"source\.split: found 'tests'; allowed: train, test; did you mean 'test'\?",
    ),
    "another split of a file": (
        lambda: csv("data.csv"),
        {"split": "test"},
        ConfigError,
        r"source\.split: found 'test'; allowed: train",
    ),
    "another split of a saved table": (
        lambda: table().save_to_disk("saved") or "saved",
        {"split": "test"},
        ConfigError,
        r"source\.split: found 'test'; allowed: train",
    ),
    "another split of saved ones": (
        lambda: several("several"),
        {"split": "dev"},
        ConfigError,
        r"source\.split: found 'dev'; allowed: train, test",
    ),
    "another configuration": (
        folder,
        {"split": "train", "config": "easy"},
        ConfigError,
        r"source\.config: found 'easy'; allowed: default",
    ),
    "configuration of a file": (
        lambda: csv("data.csv"),
        {"config": "easy"},
        ConfigError,
        r"source\.config: a file has no configurations",
    ),
    "nothing there": (
        lambda: "none",
        {},
        SourceError,
        r"source\.path: none does not exist \(looked for .* and ",
    ),
    "empty directory": (
        lambda: Path("empty").mkdir() or "empty",
        {},
        SourceError,
        r"source\.path: empty cannot be read by datasets [0-9.]+ \(EmptyDatasetError",
    ),
    "file that is not of its format": (
        lambda: str(Path("bad.parquet").write_text("PAR1") and "bad.parquet"),
        {},
        SourceError,
        r"source\.path: bad\.parquet cannot be read by datasets [0-9.]+ \(ArrowInvalid",
    ),
    "format that is unknown": (
        lambda: str(Path("data.xls").write_text("x") and "data.xls"),
        {},
        ConfigError,
        r"source\.path: found data\.xls; allowed: a directory, or .*\.parquet",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_cannot_be_read_is_one_sentence(mistake: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, source, error, sentence = WRONG[mistake]
    path = make()
    capfd.readouterr()
    with pytest.raises(error, match=sentence) as caught:
        pinned(path, **source)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # the library adds nothing of its own


def test_a_configuration_of_a_local_directory() -> None:
    path = Path(folder())
    (path / "README.md").write_text(
        "---\nconfigs:\n- config_name: all\n  data_files: train.parquet\n"
        "- config_name: few\n  data_files: test.parquet\n---\n"
    )
    assert pinned("folder", config="few").definition["source"]["rows"] == 2
    with pytest.raises(ConfigError, match=r"source\.config: missing; allowed: all, few"):
        pinned("folder")


def test_the_library_is_as_before() -> None:
    level = datasets.logging.get_verbosity()
    datasets.enable_progress_bars()
    dataset_rows({"path": csv("data.csv")}, "mine.yaml: source")
    assert (datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()) == (level, False)


def test_nothing_is_kept_in_the_library_s_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("cache").absolute())
    freeze(pinned(folder(), split="train"))
    freeze(pinned(csv("data.csv")))
    assert not Path("cache").exists()


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    task = pinned(csv("data.csv"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TaskError, match=r"pinned\.yaml: source: needs .* pip install 'ebbtide\[datasets\]'"):
        freeze(task)


def modules_after(*arguments: str) -> set[str]:
    """Modules that a command of `python -m ebbtide` has imported when it is done."""
    code = (
        "import json, sys; from ebbtide.cli import main; status = main(sys.argv[1:]); "
        "print(json.dumps([status, *sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=300
    )
    status, *modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr
    return set(modules)


def test_scoring_never_imports_the_library() -> None:
    pinned(csv("data.csv"))
    assert "datasets" in modules_after("freeze", "--task", "pinned.yaml", "--to", "frozen.parquet")
    tiny.checkpoint(Path("model"))
    tiny.requests(Path("requests.parquet"))
    command = ("score", "--model", "model", "--requests", "requests.parquet", "--to", "cell.parquet")
    modules = modules_after(*command)
    assert "torch" in modules
    assert not {"datasets", "ebbtide.tasks.dataset_rows"} & modules


def test_freezing_a_file_does_not_import_the_library() -> None:
    define(ROWS)
    modules = modules_after("freeze", "--task", "mine.yaml", "--to", "frozen.parquet")
    assert "datasets" not in modules
