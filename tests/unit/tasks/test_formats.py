"""Formats: one definition asked in several ways, as tasks of their own."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from ebbtide.errors import ConfigError, TaskError
from ebbtide.jobs.freeze_task import freeze_task
from ebbtide.study.load import read_study
from ebbtide.tables import REQUESTS, read_frame
from ebbtide.tasks.definition import Task, load_task, load_tasks
from ebbtide.tasks.freezing import freeze
from ebbtide.tasks.notices import text_notices
from ebbtide.titles import title
from task_data import WHERE, json_lines, put

ROWS = [
    {"question": "What melts?", "options": ["stone", "ice", "iron"], "answer": 1},
    {"question": "What barks?", "options": ["dogs", "trees (their bark)"], "answer": [1, 0]},
]
FIELDS = {
    "prompt": "Question: {{ question }}\nAnswer:",
    "question": "Question: {{ question }}",
    "choices": "options",
    "gold": "answer",
}
DEFINITION: dict[str, Any] = {"title": "Mine", "delimiter": " ", "fields": FIELDS}
BOTH = ["cloze", "choice"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(rows: list[dict[str, Any]] = ROWS, name: str = "mine", **keys: Any) -> None:
    definition = {**DEFINITION, "source": put(json_lines(rows), "data.jsonl"), **keys}
    Path(f"{name}.yaml").write_text(yaml.safe_dump({k: v for k, v in definition.items() if v is not None}))


def define(rows: list[dict[str, Any]] = ROWS, **keys: Any) -> dict[str, Task]:
    write(rows, **{"formats": BOTH, **keys})
    return load_tasks("mine.yaml", WHERE)


def asked(task: Task) -> list[tuple[str, str, Any]]:
    return list(freeze(task)[["context", "continuation", "gold"]].itertuples(index=False, name=None))


def test_a_definition_with_two_formats_is_frozen_twice() -> None:
    tasks = define()
    assert list(tasks) == ["mine.cloze", "mine.choice"]
    melts, barks = "Question: What melts?\nAnswer:", "Question: What barks?\nAnswer:"
    assert asked(tasks["mine.cloze"]) == [
        (melts, " stone", False),
        (melts, " ice", True),
        (melts, " iron", False),
        (barks, " dogs", True),
        (barks, " trees (their bark)", False),
    ]
    melts = "Question: What melts?\n A. stone\n B. ice\n C. iron\nAnswer:"
    barks = "Question: What barks?\n A. dogs\n B. trees (their bark)\nAnswer:"
    assert asked(tasks["mine.choice"]) == [
        (melts, " A", False),
        (melts, " B", True),
        (melts, " C", False),
        (barks, " A", True),
        (barks, " B", False),
    ]
    for task in tasks.values():
        assert not text_notices(freeze(task), {"definition": dict(task.definition)})


def test_the_page_of_formats_shows_what_is_asked() -> None:
    page = (Path(__file__).parents[3] / "docs/formats.md").read_text()
    blocks = dict(re.findall(r"```(yaml)\n(.*?)```", page, re.DOTALL))
    definition = yaml.safe_load(blocks["yaml"])
    [row] = re.findall(r"For a row `(\{.*\})`", page)
    definition["source"] = put(f"{row}\n".encode(), "materials.jsonl")
    Path("materials.yaml").write_text(yaml.safe_dump(definition))
    shown = [text.rstrip("\n") for text in re.findall(r"```text\n(.*?)```", page, re.DOTALL)]
    tasks = load_tasks("materials.yaml", WHERE)
    assert all(f"`{name}`" in page for name in tasks)
    for task, text in zip(tasks.values(), shown, strict=True):
        assert [context + continuation for context, continuation, gold in asked(task) if gold] == [text]


def test_cloze_is_the_task_without_formats_and_choice_is_another() -> None:
    tasks = define()
    write(fields={key: text for key, text in FIELDS.items() if key != "question"})
    plain = load_task("mine.yaml", WHERE)
    assert (plain.name, plain.definition["title"]) == ("mine", "Mine")
    cloze, choice = tasks["mine.cloze"], tasks["mine.choice"]
    assert cloze.identity == plain.identity != choice.identity
    pd.testing.assert_frame_equal(freeze(cloze), freeze(plain))
    assert [task.definition["title"] for task in tasks.values()] == ["Mine (cloze)", "Mine (choice)"]
    assert [task.frozen for task in tasks.values()] == [
        f"resources/tasks/frozen/{task.name}-{task.identity}.parquet" for task in tasks.values()
    ]
    one = define(formats=["choice"])
    assert {name: task.identity for name, task in one.items()} == {"mine.choice": choice.identity}


def test_the_question_identifies_only_the_format_that_asks_it() -> None:
    before = define()
    after = define(fields={**FIELDS, "question": "Q: {{ question }}"})
    assert before["mine.cloze"].identity == after["mine.cloze"].identity
    assert before["mine.choice"].identity != after["mine.choice"].identity


def test_both_formats_have_the_same_few_shot_examples() -> None:
    rows = [
        {"question": f"What is {i}?", "options": [f"one {i}", f"two {i}"], "answer": i % 2} for i in range(8)
    ]
    tasks = define(rows, few_shot={"k": 2, "separator": "\n\n"})
    shots = {}
    for name, task in tasks.items():
        contexts = freeze(task)["context"].drop_duplicates()
        shots[name] = [[shot.splitlines()[0] for shot in context.split("\n\n")] for context in contexts]
    assert shots["mine.cloze"] == shots["mine.choice"]
    assert all(len(of_example) == 3 for of_example in shots["mine.cloze"])
    context = freeze(tasks["mine.choice"])["context"].iloc[0]
    first = int(context.split()[3].rstrip("?"))
    letter = "AB"[first % 2]
    assert context.startswith(
        f"Question: What is {first}?\n A. one {first}\n B. two {first}\nAnswer: {letter}\n\nQuestion:"
    )


def test_white_space_around_options_and_the_delimiter_are_not_listed() -> None:
    rows = [{"question": "Q", "options": [" x ", "\ty"], "answer": 0}]
    [task] = define(rows, formats=["choice"], delimiter="\nA:").values()
    assert asked(task)[0][:2] == ("Question: Q\n A. x\n B. y\nAnswer:", " A")


def test_unconditional_and_mc1_and_binary_have_formats() -> None:
    [task] = define(formats=["choice"], unconditional="Answer:").values()
    requests = freeze(task)
    alone = requests[requests["role"] == "unconditional"]
    assert set(alone["context"]) == {"Answer:"} and alone["continuation"].tolist()[:3] == [" A", " B", " C"]
    rows = [{"question": "Q", "options": ["no", "yes"], "answer": "yes"}]
    [task] = define(rows, formats=["choice"], kind="binary").values()
    assert freeze(task)[["continuation", "gold", "value"]].to_numpy().tolist() == [
        [" A", False, 0.0],
        [" B", True, 1.0],
    ]
    fields = {**FIELDS, "mc1": {"choices": "{{ options[:2] }}", "gold": "{{ 1 }}"}}
    [task] = define(ROWS[:1], formats=["choice"], fields=fields).values()
    assert freeze(task)["best"].tolist() == [0, 1, -1]


MANY = [f"option {i}" for i in range(27)]
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown format": ({"formats": ["cloze", "mcqa"]}, ["formats[1]: found 'mcqa'", "cloze, choice"]),
    "no format": ({"formats": []}, ["formats"]),
    "a format twice": ({"formats": ["choice", "choice"]}, ["formats"]),
    "kind without choices": (
        {"kind": "sequence", "fields": {"completion": "answer"}},
        ["formats: found for kind 'sequence'; allowed: with kind 'choice' or 'binary'"],
    ),
    "no question": (
        {"fields": {"choices": "options"}},
        ["fields.question: missing", "lists the options after it"],
    ),
    "question without a format": ({"formats": None}, ["fields.question: only the format choice"]),
    "question of cloze": ({"formats": ["cloze"]}, ["fields.question: only the format choice"]),
    "a list of too many": (
        {"fields": {**FIELDS, "choices": MANY}},
        ["fields.choices: found 27 choices; the format choice has 26 letters"],
    ),
    "a fixed text in two formats": (
        {"few_shot": {"prefix": "Question: Q\nAnswer: A"}},
        ["few_shot: a fixed text is written in one format, found cloze and choice"],
    ),
    "a generated task": (
        {
            "source": {
                "toy": "redefine",
                "world": {"seed": 1, "proverbs": 9, "zipf": 1},
                "examples": 9,
                "seed": 1,
            },
            "fields": {"question": "prompt"},
        },
        ["formats: a generated task (source.toy) cannot have it"],
    ),
    "the format of a task": ({"format": "choice"}, ["format: unknown key", "formats"]),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_formats_that_cannot_be_are_refused_at_once(mistake: str) -> None:
    keys, parts = REFUSED[mistake]
    with pytest.raises(ConfigError) as error:
        define(**keys)
    message = str(error.value)
    assert message.startswith("ConfigError: mine.yaml: ") and "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (MANY, "row 1: found 27 choices; the format choice has 26 letters"),
        (["a", " a"], "row 1: a choice occurs twice, but for the white space around it: ['a', 'a']"),
        (["a", " "], "row 1: choice 1 is only white space, which cannot be listed"),
    ],
)
def test_rows_that_cannot_be_listed_are_named(options: list[str], part: str) -> None:
    rows = [{"question": "Q", "options": options, "answer": 0}]
    tasks = define(rows)
    assert len(freeze(tasks["mine.cloze"])) == len(options)
    with pytest.raises(TaskError) as error:
        freeze(tasks["mine.choice"])
    assert part in str(error.value)


def test_26_options_have_letters() -> None:
    rows = [{"question": "Q", "options": MANY[:26], "answer": 25}]
    requests = freeze(define(rows)["mine.choice"])
    assert requests["continuation"].iloc[-1] == " Z" and requests["context"].iloc[0].endswith("\nAnswer:")


def test_freezing_takes_the_task_by_its_name() -> None:
    write(formats=BOTH)
    record = freeze_task("mine.yaml", "choice.parquet", "mine.choice")
    assert (record["task"], record["definition"]["format"]) == ("mine.choice", "choice")
    assert read_frame("choice.parquet", REQUESTS)["continuation"].iloc[0] == " A"
    with pytest.raises(
        ConfigError, match=r"mine\.yaml makes mine\.cloze and mine\.choice; choose one with --name"
    ):
        freeze_task("mine.yaml", "x.parquet")
    with pytest.raises(
        ConfigError, match=r"--name: found 'mine'; allowed for mine\.yaml: mine\.cloze, mine\.choice"
    ):
        freeze_task("mine.yaml", "x.parquet", "mine")
    assert not Path("x.parquet").exists()


def test_a_study_has_a_column_for_each_format() -> None:
    write(formats=BOTH)
    write(name="mine.choice", fields={key: text for key, text in FIELDS.items() if key != "question"})
    study: dict[str, Any] = {"study": "s", "models": [{"series": "ladder"}], "tasks": ["mine.yaml"]}
    Path("s.yaml").write_text(yaml.safe_dump(study))
    assert list(read_study("s.yaml").tasks) == ["mine.cloze", "mine.choice"]
    study["tasks"].append("mine.choice.yaml")
    Path("s.yaml").write_text(yaml.safe_dump(study))
    with pytest.raises(ConfigError, match=r"tasks\[1\]: found a second task named 'mine\.choice'"):
        read_study("s.yaml")


def test_names_of_formats_have_titles() -> None:
    assert (title("arc.cloze"), title("fact_qa.choice"), title("gsm_v1.5")) == (
        "ARC cloze",
        "Fact QA choice",
        "Gsm v1.5",
    )
