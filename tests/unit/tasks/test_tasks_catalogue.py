"""The catalogue: every task loads, and freezes from a sample in the shape of its upstream file."""

import csv
import hashlib
import io
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import movielens
from ebbtide.errors import ConfigError
from ebbtide.sources import fetch
from ebbtide.tasks.definition import CATALOGUE, Task, load_task, load_tasks, read_definition, tasks_of
from ebbtide.tasks.freezing import footer, freeze
from task_data import WHERE, define, put

SAMPLES = Path(__file__).parents[2] / "samples/tasks"
NAMES = sorted(path.stem for path in CATALOGUE.glob("[!_]*.yaml"))
DEFINITIONS = {name: read_definition(CATALOGUE / f"{name}.yaml") for name in NAMES}
UNPINNED = [name for name in NAMES if "dataset" in DEFINITIONS[name]["source"]]
NEEDS_PREFIX = ["truthful_qa_prefix"]
# The file of compas names people: see test_compas.py. Two formats, or programs: see test_abrupt_tasks.py.
GENERATED = [n for n in NAMES if n.startswith("compas") or n in ("mmlu", "program_synthesis")]
WITH_DATA = [n for n in NAMES if "file" in DEFINITIONS[n]["source"] and n not in (*NEEDS_PREFIX, *GENERATED)]

ROWS = {  # the number of examples of the published results
    "isp_neqa": 300,
    "isp_hindsight_neglect": 315,
    "isp_memo_trap": 936,
    "isp_repetitive_algebra": 1000,
    "isp_modus_tollens": 1236,
    "isp_redefine": 1244,
    "isp_pattern_matching_suppression": 1428,
    "isp_into_the_unknown": 1824,
    "isp_resisting_correction": 7344,
    "isp_sig_figs": 20897,
    "truthful_qa": 817,
}
ARROW = pa.list_(pa.string()), pa.list_(pa.int32())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def truthful_qa_parquet(rows: list[dict]) -> bytes:
    """Rows in the columns and types of the original."""
    target = pa.struct([("choices", ARROW[0]), ("labels", ARROW[1])])
    schema = pa.schema([("question", pa.string()), ("mc1_targets", target), ("mc2_targets", target)])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer)
    return buffer.getvalue()


def sample_of(name: str) -> tuple[bytes, str]:
    """The sample for a task's file, and the file's name."""
    file = DEFINITIONS[name]["source"]["file"].rpartition("/")[2].rpartition(":")[2]
    if file.endswith(".zip"):
        return movielens.hundred_thousand() if "100k" in file else movielens.one_million(), file
    if file.endswith(".parquet"):
        return truthful_qa_parquet(json.loads((SAMPLES / "truthful_qa.sample.json").read_text())), file
    return (SAMPLES / f"{Path(file).stem}.sample{Path(file).suffix}").read_bytes(), file


def on(name: str, content: bytes, file: str, **keys: object) -> Task:
    """A task of the catalogue on other data."""
    source = {k: v for k, v in DEFINITIONS[name]["source"].items() if k not in ("rows", "md5")}
    source |= put(content, file)
    [task] = tasks_of({**DEFINITIONS[name], "source": source, **keys}, Path(f"{name}.yaml"))
    return task


def test_catalogue_holds_what_is_published() -> None:
    assert {n: DEFINITIONS[n]["source"].get("rows") for n in ROWS} == ROWS
    prize = {n for n in NAMES if n.startswith("isp_") and not n.endswith("_few_shot")}
    assert prize == {n for n in ROWS if n.startswith("isp_")} | {"isp_prompt_injection", *UNPINNED}
    assert UNPINNED == ["isp_quote_repetition", "isp_redefine_math"]
    causes = {"strong prior", "unwanted imitation", "distractor task", "spurious few-shot"}
    assert {DEFINITIONS[name]["tags"][1] for name in prize} == causes


@pytest.mark.parametrize("name", [n for n in NAMES if n not in UNPINNED + NEEDS_PREFIX])
def test_every_task_loads_as_it_is(name: str) -> None:
    for task in load_tasks(name, WHERE).values():
        assert task.definition["title"]
        assert task.definition["licence"]


@pytest.mark.parametrize("name", WITH_DATA)
def test_every_task_freezes_from_its_sample(name: str) -> None:
    task = on(name, *sample_of(name))
    requests = freeze(task)
    assert requests.groupby("example")["gold"].sum().min() >= 1
    if "stop" in DEFINITIONS[name].get("fields", {}):
        requests = requests[requests["role"] == "choice"]
    assert (requests["continuation"].str[0] == " ").all()
    assert not requests["context"].str.endswith((" ", "\n")).any()
    few_shot = DEFINITIONS[name].get("few_shot")
    separators = requests["context"].str.count("\n\n\n")
    assert (separators == (few_shot["k"] if few_shot and "separator" not in few_shot else 0)).all()
    if name.startswith("isp_"):
        assert set(requests["group_part"]) <= set("0123") and set(requests["group_round"]) <= set("12")
    assert footer(task, len(requests), 1)["licence"]


@pytest.mark.parametrize("name", UNPINNED)
def test_a_task_without_a_pin_says_how_to_pin_it(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"source\.revision: .*ebbtide pin .*{name}\.yaml --to"):
        load_task(name, WHERE)


def test_no_task_has_the_answers_of_another(tmp_path: Path) -> None:
    digests = [
        DEFINITIONS[n]["source"].get("sha256")
        for n in NAMES
        if not n.endswith(("_few_shot", "_prefix")) and (not n.startswith("compas") or n == "compas_0")
    ]
    pinned = [digest for digest in digests if digest]
    assert len(pinned) == len(set(pinned))


def test_truthful_qa_asks_once_for_mc1_and_mc2() -> None:
    requests = freeze(on("truthful_qa", *sample_of("truthful_qa")))
    second = requests[requests["example"] == "1"]
    assert list(second["context"].unique()) == ["Q: Does a full moon make people howl?\nA:"]
    assert list(second["gold"]) == [False, True, False, True]  # true answers need not come first
    assert list(second["best"]) == [0, 1, -1, -1]
    assert second["continuation"].iloc[0] == " Yes, all of them."


def test_truthful_qa_takes_the_prefix_that_it_names_and_no_other() -> None:
    with pytest.raises(
        ConfigError, match=r"few_shot\.prefix_file: .*does not exist; save the text with sha256 5c0d"
    ):
        load_task("truthful_qa_prefix", WHERE)
    definition = read_definition(CATALOGUE / "truthful_qa_prefix.yaml")
    Path("truthful_qa_prefix.txt").write_text("Q: Is this the prefix?\nA: No.")
    with pytest.raises(ConfigError, match="has sha256"):
        tasks_of(definition, Path("mine.yaml"))
    del definition["few_shot"]["prefix_sha256"]
    content, file = sample_of("truthful_qa")
    requests = freeze(on("truthful_qa", content, file, few_shot=definition["few_shot"]))
    assert requests["context"][0] == (
        "Q: Is this the prefix?\nA: No.\n\nQ: Can a penguin fly across the sea?\nA:"
    )


def test_held_out_loss_of_a_text() -> None:
    text = (SAMPLES / "held_out.sample.txt").read_bytes()
    task = define(text, "text.txt", include="_held_out_loss.yaml", source={"separator": "\n\n"})
    requests = freeze(task)
    assert len(requests) == 3
    assert set(requests["context"]) == {""}
    assert "\n\n".join(requests["continuation"]) == text.decode()


@pytest.mark.parametrize("name", ["proverbs", "translation", "hate_speech", "history_of_science"])
def test_the_parts_of_memo_trap_freeze_from_the_real_files(name: str, shared: Path) -> None:
    task = load_task(f"memo_trap_{name}", WHERE)
    assert task.source and task.data
    fetch(task.source, Path(task.data), [shared / "mirror"])
    requests = freeze(task)
    assert (requests.groupby("example").size() == 2).all()
    assert requests["example"].nunique() == task.definition["source"]["rows"]


def test_the_prize_s_memo_trap_is_the_file_that_the_catalogue_names(shared: Path) -> None:
    # Its bytes follow from MemoTrap's own: parts 1 and 3 without repeated examples, as pandas writes lines.
    [hate] = (shared / "mirror").glob("github/liujch1998/memo-trap/*/data/3-hate-speech-ending.csv")
    with hate.open(newline="", encoding="utf-8-sig") as file:
        third = {row["prompt"] for row in csv.DictReader(file)}
    lines = (shared / "tasks/memo_trap_936.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    content = "".join(
        json.dumps(
            {**row, "classes": str(row["classes"]), "round": 2, "part": 3 if row["prompt"] in third else 1},
            separators=(",", ":"),
        )
        + "\n"
        for row in rows
    ).encode()
    task = load_task("isp_memo_trap", WHERE)
    assert task.source and hashlib.sha256(content).hexdigest() == task.source.sha256
    put(content, Path(task.source.path).name)
    requests = freeze(task)
    assert list(requests["continuation"]) == [choice for row in rows for choice in row["classes"]]
    assert requests["group_part"].value_counts().to_dict() == {"1": 2 * 837, "3": 2 * 99}
    shots = freeze(load_task("isp_memo_trap_few_shot", WHERE))
    assert (shots["context"].str.count("\n\n\n") == 5).all()
    assert list(shots["continuation"]) == list(requests["continuation"])


def test_truthful_qa_freezes_from_the_real_questions(shared: Path) -> None:
    lines = (shared / "tasks/truthful_qa_multiple_choice.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    requests = freeze(on("truthful_qa", truthful_qa_parquet(rows), "t.parquet"))
    by_example = requests.groupby("example")
    assert len(by_example) == 817
    assert (by_example["best"].apply(lambda best: (best == 1).sum()) == 1).all()
    sizes = [len(row["mc1_targets"]["choices"]) for row in rows]
    mc1 = requests[requests["best"] >= 0].groupby(requests["example"].astype(int)).size()
    pd.testing.assert_series_equal(mc1, pd.Series(sizes), check_names=False, check_index_type=False)
    assert requests["gold"].sum() == sum(sum(row["mc2_targets"]["labels"]) for row in rows)


def test_definitions_are_short() -> None:
    for name in NAMES:
        text = (CATALOGUE / f"{name}.yaml").read_text()
        assert len(text.splitlines()) <= 25, name
        assert isinstance(yaml.safe_load(text), dict)
