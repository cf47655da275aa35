"""Previews, differences between freezes, and pins."""

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ebbtide.corpus import write_tokenizer
from ebbtide.errors import CellError, ConfigError, SourceError, TaskError
from ebbtide.tables import REQUESTS, write_parquet
from ebbtide.tasks.definition import Task, load_task
from ebbtide.tasks.diff import described, diff_files, diff_requests
from ebbtide.tasks.freezing import footer, freeze
from ebbtide.tasks.pin import pin
from ebbtide.tasks.preview import preview
from ebbtide.transport import Transport
from loopback import serving
from task_data import WHERE, define, json_lines

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SAMPLES = Path(__file__).parents[2] / "samples/tasks"
ROWS = [
    {"prompt": f"Line\tone\nQ{n}:", "classes": [" two\r\n", " ten"], "answer_index": n % 2} for n in range(7)
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_preview_marks_the_border_and_stays_on_its_lines() -> None:
    shown = preview(freeze(define(ROWS)))
    assert list(shown.columns) == ["example", "choice", "gold", "text", "notice"]
    assert list(shown["example"].unique()) == list("01234")
    assert list(shown["text"][:2]) == ["Line⇥one⏎Q0:‖ two␍⏎", "Line⇥one⏎Q0:‖ ten"]
    assert not shown["text"].str.contains(r"[\t\r\n]").any()


def test_preview_shows_the_end_of_a_long_context_and_the_beginning_of_a_long_text() -> None:
    row = {"prompt": "a" * 5000 + "end:", "completion": " start" + "b" * 5000}
    [text] = preview(freeze(define([row], kind="sequence")))["text"]
    context, continuation = text.split("‖")
    assert context.startswith("…") and context.endswith("end:")
    assert continuation.startswith(" start") and continuation.endswith("…")
    assert len(text) < 4100


def test_preview_shows_roles() -> None:
    assert (
        list(preview(freeze(define(ROWS, unconditional="A:")), 1)["role"])
        == ["choice"] * 2 + ["unconditional"] * 2
    )


def test_preview_in_tokens() -> None:
    task = load_task("arithmetic", WHERE)
    Path("tokenizer").mkdir()
    write_tokenizer(Path("tokenizer"))
    requests = freeze(task)
    shown = preview(requests, 2, "tokenizer", footer(task, len(requests), 200))
    assert list(shown["across"]) == [False] * 4
    for text, tokens in zip(
        requests["context"] + "‖" + requests["continuation"], shown["tokens"], strict=False
    ):
        context, continuation = (part.split() for part in text.split("‖"))
        given, scored = tokens.split("‖")
        assert [t.strip() for t in given.split("·")][-len(context) :] == context
        assert [t.strip() for t in scored.split("·")] == continuation


def test_no_difference() -> None:
    requests = freeze(define(ROWS))
    difference = diff_requests(requests, requests.copy())
    assert not difference
    assert difference.same == 7


def test_a_row_put_first_is_one_addition() -> None:
    new = {"prompt": "New:", "classes": [" a", " b"], "answer_index": 0}
    difference = diff_requests(freeze(define(ROWS)), freeze(define([new, *ROWS])))
    assert (difference.same, difference.moved, len(difference.changed)) == (7, 7, 0)
    assert (len(difference.added), len(difference.removed)) == (1, 0)


def test_changed_added_and_removed_examples() -> None:
    rows = [dict(row) for row in ROWS[:-1]]
    rows[2]["answer_index"] = 1
    rows[3]["prompt"] = "Line\tone\nQ3 anew:"
    rows[4]["classes"] = [" two\r\n", " ten", " six"]
    difference = diff_requests(freeze(define(ROWS)), freeze(define(rows)))
    assert (difference.same, difference.moved, difference.removed, difference.added) == (3, 0, ("6",), ())
    assert [(c.example, c.column) for c in difference.changed] == [
        ("2", "gold"),
        ("3", "context"),
        ("4", "number of requests"),
    ]
    lines = described(difference)
    assert lines[0] == "examples: 3 same (0 with another id), 3 changed, 0 added, 1 removed"
    assert r"example 3, choice 0, context: Line\tone\nQ3: → Line\tone\nQ3 anew:" in lines
    assert "removed: 6" in lines


def test_repeated_examples_are_counted_apart() -> None:
    one, two = freeze(define([ROWS[0]] * 2)), freeze(define([ROWS[0]] * 3))
    difference = diff_requests(one, two)
    assert (difference.same, difference.moved, difference.added) == (2, 0, ("2",))


def frozen(task: Task, name: str) -> str:
    requests: pd.DataFrame = freeze(task)
    write_parquet(requests, name, REQUESTS, footer(task, len(requests), requests["example"].nunique()))
    return name


def test_difference_of_files_names_what_was_defined_anew() -> None:
    old = frozen(define(ROWS), "old.parquet")
    new = frozen(define(ROWS, title="Other", few_shot={"k": 1}, groups={"part": "prompt"}), "new.parquet")
    text = diff_files(old, new, show=2)
    assert diff_files(old, old) == ""
    assert "definition, few_shot: none → {'k': 1" in text
    assert "title" not in text
    assert "columns in only one: group_part" in text
    assert "0 same (0 with another id), 7 changed" in text
    assert text.count("\nexample ") == 2
    Path("none.parquet").write_text("x")
    with pytest.raises(CellError, match=r"none\.parquet is not a complete Parquet file"):
        diff_files(old, "none.parquet")


class Hub:
    """What a loopback server answers in place of the hub."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}

    def offer(self, dataset: str, name: str, content: bytes) -> str:
        """Serve a file of a data set; its source."""
        self.answers[f"/datasets/{dataset}/resolve/{COMMIT}/{name}"] = content
        return f"hf:datasets/{dataset}@{COMMIT}:{name}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    served = Hub()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        body = served.answers.get(handler.path)
        handler.send_response(404 if body is None else 200)
        handler.send_header("Content-Length", str(len(body or b"")))
        handler.end_headers()
        handler.wfile.write(body or b"")

    with serving(monkeypatch, reply):
        yield served


LOOPBACK = Transport(plain_http=True)


@pytest.mark.parametrize("name", ["redefine-math", "quote-repetition"])
def test_file_of_the_hub_is_pinned_and_frozen(name: str, hub: Hub) -> None:
    sample = (SAMPLES / f"{name}.sample.csv").read_bytes()
    rows = 4 if name == "redefine-math" else 3
    source = {"file": hub.offer(f"inverse-scaling/{name}", f"{name}.csv", sample)}
    Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": {**source, "rows": 900}}))
    with pytest.raises(TaskError, match=rf"source\.rows: found 900, but .*{name}\.csv has {rows} rows"):
        pin("mine.yaml", Path("pinned.yaml"), [], LOOPBACK)
    assert not Path("pinned.yaml").exists()
    Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": source}))
    pin("mine.yaml", Path("pinned.yaml"), [], LOOPBACK)
    pinned = load_task("pinned.yaml", WHERE)
    assert pinned.source and pinned.data
    assert pinned.source.text == source["file"]
    assert pinned.source.sha256 == hashlib.sha256(sample).hexdigest()
    assert pinned.definition["source"] | {"rows": rows, "format": "csv"} == pinned.definition["source"]
    Path(pinned.data).parent.mkdir(parents=True)
    Path(pinned.data).write_bytes(sample)
    assert freeze(pinned)["example"].nunique() == rows


def test_pin_of_a_file_beside_it() -> None:
    Path("my_text.txt").write_text("One.\n\nTwo.\n")
    Path("prefix.txt").write_text("P")
    mine = {"include": "_held_out_loss.yaml", "title": "Mine"}
    source = {"file": "my_text.txt", "separator": "\n\n"}
    Path("mine.yaml").write_text(yaml.safe_dump({**mine, "source": source}))
    pin("mine.yaml", Path("mine.yaml"), [])
    task = load_task("mine.yaml", WHERE)
    assert (task.definition["kind"], task.definition["source"]["rows"]) == ("rolling", 2)
    assert task.source and task.source.sha256 == hashlib.sha256(b"One.\n\nTwo.\n").hexdigest()


def test_pinned_copy_elsewhere_finds_its_prefix() -> None:
    Path("data.jsonl").write_bytes(json_lines(ROWS))
    Path("prefix.txt").write_text("P")
    definition = {"title": "T", "source": {"file": "data.jsonl"}, "few_shot": {"prefix_file": "prefix.txt"}}
    Path("mine.yaml").write_text(yaml.safe_dump(definition))
    Path("pinned").mkdir()
    pin("mine.yaml", Path("pinned/mine.yaml"), [])
    assert load_task("pinned/mine.yaml", WHERE).definition["few_shot"]["prefix"] == "P"


REFUSED = {
    "no such file": (
        {"source": {"file": f"hf:datasets/a/b@{COMMIT}:none.csv"}},
        SourceError,
        ["cannot be downloaded", "404"],
    ),
    "no source": ({}, ConfigError, ["none of file, dataset and path"]),
    "broken otherwise": (
        {"kind": "choices", "source": {"file": "data.jsonl"}},
        ConfigError,
        ["mine.yaml: kind: found 'choices'"],
    ),
    "another file than before": (
        {"source": {"file": "data.jsonl", "sha256": "1" * 64}},
        SourceError,
        ["expected " + "1" * 64],
    ),
    "generated": ({"source": {"toy": "memo_trap"}}, ConfigError, ["source.toy", "no data to pin"]),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_cannot_be_pinned_is_said_and_nothing_is_written(mistake: str, hub: Hub) -> None:
    keys, error, parts = REFUSED[mistake]
    hub.offer("a/b", "one.csv", b"")
    Path("data.jsonl").write_bytes(json_lines(ROWS))
    Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", **keys}))
    with pytest.raises(error) as caught:
        pin("mine.yaml", Path("pinned.yaml"), [], LOOPBACK)
    for part in parts:
        assert part in str(caught.value)
    assert not Path("pinned.yaml").exists()


def test_pin_goes_to_a_yaml_file() -> None:
    with pytest.raises(ConfigError, match="allowed: the path of a YAML file"):
        pin("isp_redefine_math", Path("pinned"), [])
