"""Definitions of tasks: what is refused at once and how it is said, includes, and what makes an identity."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from ebbtide.errors import ConfigError
from ebbtide.tables import content_sha256
from ebbtide.tasks.definition import Task, load_task
from ebbtide.tasks.freezing import footer, freeze
from ebbtide.tasks.lm_eval.folder import check_folder
from task_data import WHERE, define

ROW = {"prompt": "One and one is", "classes": [" two", " ten"], "answer_index": 0}
SOURCE = {"file": "data.jsonl", "sha256": "0" * 64}

# Identities, and the content hash of frozen requests, as before a definition could say more than its fields.
KNOWN = {
    "arithmetic": "9da3ad2d1db5db86be04b1a6dba63bd5",
    "fact_qa": "f5f393b7a4acce968ae578c0d0902345",
    "memo_trap": "2f0b6d3d118403ed376cecc8dfc786b9",
    "memo_trap_proverbs": "2618962907a521515d639ca23104650b",
    "negated_qa": "bc2060eb38c3d25596c62af31fdb37d9",
    "pattern_suppression": "7a12906d8fd84c3f82d50fc47023db8a",
    "quote_repetition": "05120f1a257f69b8654e268c82299469",
    "redefine": "8298e02aa8ee17bf673d06236bd9c5b9",
}
MEMO_TRAP_CONTENT = "12f29fff02a6ccfe6a4072863da55c76ac40c2efccc0ea4483ac897e54a070ca"
FOOTER_KEYS = {"task", "identity", "definition", "licence", "requests", "examples"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", KNOWN)
def test_identities_of_earlier_tasks_are_what_they_were(name: str) -> None:
    assert load_task(name, WHERE).identity == KNOWN[name]


def test_frozen_requests_of_an_earlier_task_are_what_they_were() -> None:
    task = load_task("memo_trap", WHERE)
    requests = freeze(task)
    table = pa.Table.from_pandas(requests, preserve_index=False)
    assert content_sha256(table) == MEMO_TRAP_CONTENT
    record = footer(task, len(requests), 200)
    assert record.keys() == FOOTER_KEYS
    assert record["definition"].keys() == {"title", "description", "licence", "source", "fields"}


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda d: d.pop(key)


def change(**keys: Any) -> Callable[[dict[str, Any]], None]:
    return lambda d: d.update(keys)


HELD_OUT: dict[str, Any] = {
    "toy": "held_out",
    "world": {"seed": 0, "proverbs": 64, "zipf": 0.7},
    "mixture": {"plain": 0.5, "fact": 0.5},
    "examples": 4,
    "seed": 1,
}

BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], list[str]]] = {
    "no title": (without("title"), ["title: missing"]),
    "typo in a key": (change(few_shots={"k": 1}), ["few_shots: unknown key", "did you mean 'few_shot'"]),
    "typo in a field": (change(fields={"promt": "q"}), ["fields.promt", "did you mean 'prompt'"]),
    "unknown kind": (change(kind="choices"), ["kind: found 'choices'", "rolling", "did you mean 'choice'"]),
    "unknown format": (change(source={**SOURCE, "format": "xlsx"}), ["source.format", "'xlsx'", "parquet"]),
    "no hash": (change(source={"file": "data.jsonl"}), ["source.sha256: missing", "ebbtide pin"]),
    "branch instead of commit": (
        change(source={**SOURCE, "file": "github:a/b@main:c.jsonl"}),
        ["source.file", "'main'", "not a full commit"],
    ),
    "data set without a commit": (
        change(source={"dataset": "owner/name", "split": "test"}),
        ["source.revision: missing", "owner/name", "ebbtide pin mine.yaml --to"],
    ),
    "data set at a branch": (
        change(source={"dataset": "owner/name", "split": "test", "revision": "main"}),
        ["source.revision: found 'main'", "40 hex digits", "ebbtide pin mine.yaml --to"],
    ),
    "data set without the digest of its rows": (
        change(source={"dataset": "owner/name", "split": "test", "revision": "0" * 40}),
        ["source.rows_sha256: missing", "ebbtide pin mine.yaml --to"],
    ),
    "data set without a split": (
        change(source={"dataset": "owner/name", "revision": "0" * 40}),
        ["source.split: missing", "such as validation"],
    ),
    "part of a split": (
        change(source={"dataset": "owner/name", "split": "test[:9]"}),
        ["source.split: found 'test[:9]'", "see streaming"],
    ),
    "data set without an owner": (
        change(source={"dataset": "name", "split": "test"}),
        ["source.dataset: found 'name'", "owner/name"],
    ),
    "path without the digest of its rows": (
        change(source={"path": "data"}),
        ["source.rows_sha256: missing", "ebbtide pin mine.yaml --to"],
    ),
    "stream without an end": (
        change(source={"path": "data", "streaming": True, "rows_sha256": "0" * 64}),
        ["source.rows: missing", "the number of rows to take"],
    ),
    "revision of a path": (
        change(source={"path": "data", "revision": "0" * 40}),
        ["source.revision: unknown key", "rows_sha256"],
    ),
    "template that is none": (
        change(fields={"prompt": "Q: {{ question"}),
        ["fields.prompt", "'Q: {{ question'", "not a valid Jinja template"],
    ),
    "template in a list": (
        change(fields={"choices": [" a", "{{ b |"]}),
        ["fields.choices[1]", "not a valid Jinja template"],
    ),
    "template of a group": (
        change(groups={"part": "{% if %}"}),
        ["groups.part", "not a valid Jinja template"],
    ),
    "one choice": (change(fields={"choices": [" a"]}), ["fields.choices", "at least 2"]),
    "equal choices": (change(fields={"choices": [" a", " a"]}), ["fields.choices", "a choice occurs twice"]),
    "gold beyond the choices": (
        change(fields={"choices": [" a", " b"], "gold": 2}),
        ["fields.gold: found 2", "0 to 1"],
    ),
    "field of another kind": (
        change(fields={"other_prompt": "o"}),
        ["fields.other_prompt", "kind 'choice'", "mc1"],
    ),
    "three choices of a yes or no": (
        change(kind="binary", fields={"choices": [" a", " b", " c"]}),
        ["fields.choices: found 3", "'binary' has 2"],
    ),
    "rating without choices": (change(kind="rating"), ["fields.choices", "list of texts", "'classes'"]),
    "values beside choices": (
        change(kind="rating", fields={"choices": ["1", "2"], "values": [1, 2, 3]}),
        ["fields.values: found 3 values for 2 choices"],
    ),
    "shots both ways": (
        change(few_shot={"k": 2, "prefix": "Q"}),
        ["few_shot: found k and prefix", "one of k, prefix, prefix_file"],
    ),
    "shots no way": (change(few_shot={"seed": 2}), ["few_shot: found none of them"]),
    "no shots": (change(few_shot={"k": 0}), ["few_shot.k: found 0", "at least 1"]),
    "shots of a document": (
        change(kind="rolling", few_shot={"k": 1}),
        ["few_shot", "no answers for few-shot examples"],
    ),
    "prefix file that is missing": (
        change(few_shot={"prefix_file": "qa.txt", "prefix_sha256": "1" * 64}),
        ["few_shot.prefix_file", "qa.txt does not exist", "1" * 64],
    ),
    "another prefix": (
        change(few_shot={"prefix_file": "mine.yaml", "prefix_sha256": "1" * 64}),
        ["few_shot.prefix_file: mine.yaml has sha256", "expected " + "1" * 64],
    ),
    "hash of no prefix file": (
        change(few_shot={"prefix": "Q", "prefix_sha256": "1" * 64}),
        ["few_shot.prefix_sha256", "only with few_shot.prefix_file"],
    ),
    "cluster without groups": (change(cluster="part"), ["cluster: found 'part'", "no key groups"]),
    "cluster that is no group": (
        change(cluster="prat", groups={"part": "part"}),
        ["cluster: found 'prat'", "did you mean 'part'"],
    ),
    "group with a bad name": (change(groups={"Part 1": "part"}), ["groups", "Part 1"]),
    "unconditional sequence": (
        change(kind="sequence", unconditional=""),
        ["unconditional", "kind 'sequence'"],
    ),
    "chance beyond 1": (change(chance=50), ["chance: found 50", "at most 1"]),
    "separator of a table": (
        change(source={**SOURCE, "format": "csv", "separator": ";"}),
        ["source.separator", "format: text"],
    ),
    "include that is missing": (change(include="none.yaml"), ["include", "none.yaml does not exist"]),
    "include from outside": (
        change(include="../outside.yaml"),
        ["include: found '../outside.yaml'; allowed: a file in its directory or in the catalogue."],
    ),
    "include of any file": (
        change(include="/etc/passwd"),
        ["include: found '/etc/passwd'; allowed: a file in its directory or in the catalogue."],
    ),
    "include of itself": (change(include="mine.yaml"), ["include", "includes itself"]),
    "held-out text of another kind": (
        change(source=HELD_OUT, kind="sequence"),
        ["kind: found 'sequence'", "rolling, for source.toy: held_out"],
    ),
    "held-out text without its kind": (change(source=HELD_OUT), ["kind: found none", "rolling"]),
    "held-out text with shots": (
        change(source=HELD_OUT, kind="rolling", few_shot={"k": 2}),
        ["few_shot", "generated task"],
    ),
    "held-out text of no mixture": (
        change(source={k: v for k, v in HELD_OUT.items() if k != "mixture"}, kind="rolling"),
        ["source.mixture: found none"],
    ),
    "held-out text of an unknown kind": (
        change(source={**HELD_OUT, "mixture": {"proverbs": 1}}, kind="rolling"),
        ["source.mixture.proverbs", "unknown kind of document", "did you mean 'proverb'"],
    ),
    "mixture of a task that has none": (
        change(source={**HELD_OUT, "toy": "memo_trap"}),
        ["source.mixture", "only with source.toy: held_out"],
    ),
    "a fixed text before a generated task": (
        change(
            few_shot={"prefix": "the lemon is a fruit ."},
            source={"toy": "memo_trap", "world": {"seed": 0, "proverbs": 64, "zipf": 0.7}}
            | {"examples": 4, "seed": 1},
        ),
        ["few_shot", "generated task"],
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_broken_definition_is_refused_at_once_and_named(mistake: str) -> None:
    edit, parts = BROKEN[mistake]
    definition: dict[str, Any] = {"title": "Mine", "source": SOURCE}
    edit(definition)
    Path("mine.yaml").write_text(yaml.safe_dump(definition))
    with pytest.raises(ConfigError) as error:
        load_task("mine.yaml", WHERE)
    message = str(error.value)
    assert message.startswith("ConfigError: mine.yaml: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


DEFAULTS = {"kind": "choice", "delimiter": "", "drop_bad_rows": False, "groups": {}}
ASKED = {
    "kind": {"kind": "binary"},
    "delimiter": {"delimiter": " "},
    "drop_bad_rows": {"drop_bad_rows": True},
    "groups": {"groups": {"part": "part"}},
    "few_shot": {"few_shot": {"k": 1}},
    "prefix": {"few_shot": {"prefix": "Q"}},
    "unconditional": {"unconditional": ""},
    "field": {"fields": {"prompt": "question"}},
    "template": {"fields": {"prompt": "{{ prompt }}?"}},
}
NOT_ASKED = {
    "title": "Other",
    "tags": ["strong prior"],
    "chance": 0.5,
    "metrics": ["accuracy"],
    "invert": True,
    "citation": "x",
}


def test_the_digest_of_the_rows_identifies_a_data_set_wherever_it_is() -> None:
    def identity(**source: Any) -> str:
        Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": source}))
        return load_task("mine.yaml", WHERE).identity

    hub = {"dataset": "a/b", "split": "test", "revision": "0" * 40, "rows_sha256": "1" * 64}
    first = identity(**hub)
    assert identity(path="copy", rows_sha256="1" * 64) == first
    assert identity(**hub, config="c", columns=["prompt"]) == first
    assert identity(**{**hub, "rows_sha256": "2" * 64}) != first


def test_saying_the_default_is_the_same_task() -> None:
    assert define([ROW], **DEFAULTS).identity == define([ROW]).identity


def test_what_changes_the_requests_changes_the_identity() -> None:
    identities = {define([ROW], **keys).identity for keys in ({}, *ASKED.values())}
    assert len(identities) == 1 + len(ASKED)


@pytest.mark.parametrize("key", NOT_ASKED)
def test_what_does_not_change_the_requests_keeps_the_identity(key: str) -> None:
    task = define([ROW], **{"title": "Mine"} | {key: NOT_ASKED[key]})
    assert task.identity == define([ROW]).identity


def test_text_of_a_prefix_file_is_part_of_the_identity_and_its_name_is_not() -> None:
    def task(name: str, text: str) -> Task:
        Path(name).write_text(text)
        return define([ROW], few_shot={"prefix_file": name})

    first = task("a.txt", "Q: 1?\n")
    assert first.definition["few_shot"]["prefix"] == "Q: 1?\n"
    assert task("b.txt", "Q: 1?\n").identity == first.identity != task("a.txt", "Q: 2?\n").identity


def test_includes_are_laid_over_each_other() -> None:
    Path("base.yaml").write_text(
        yaml.safe_dump({"title": "Base", "tags": ["x"], "fields": {"prompt": "p", "gold": "g"}})
    )
    Path("family.yaml").write_text(
        yaml.safe_dump({"include": "base.yaml", "few_shot": {"k": 3, "seed": 7}, "fields": {"gold": "label"}})
    )
    task = define([ROW], include="family.yaml", few_shot={"k": 5})
    assert task.definition["fields"] == {"prompt": "p", "gold": "label", "choices": "classes"}
    assert task.definition["few_shot"] == {"k": 5, "seed": 7, "separator": "\n\n\n"}
    assert (task.definition["title"], task.definition["tags"]) == ("Mine", ["x"])


def test_an_included_link_that_leaves_the_directory_is_refused_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path.parent / "secret.txt").write_text("secret\n")
    Path("base.yaml").symlink_to(tmp_path.parent / "secret.txt")
    with pytest.raises(ConfigError, match=r"include: found 'base\.yaml'; allowed: a file in") as refused:
        define([ROW], include="base.yaml")
    assert "secret" not in str(refused.value)


FOLDERS: dict[str, tuple[dict[str, str], str]] = {
    "climbs": (
        {"a.yaml": "include: ../../secret\n"},
        "a.yaml: include: found '../../secret'; allowed: a file in ",
    ),
    "absolute": (
        {"a.yaml": "include: [b, /etc/passwd]\n", "b": "x: 1\n"},
        "a.yaml: include: found '/etc/passwd'",
    ),
    "in a list of tasks": (
        {"a.yaml": "task:\n- include: /etc/passwd\n"},
        "a.yaml: include: found '/etc/passwd'",
    ),
    "through an alias": (
        {"a.yaml": "x: &x ../../secret\ninclude: *x\n"},
        "a.yaml: include: found '../../secret'",
    ),
    "of an included file": ({"a.yaml": "include: b\n", "b": "include: ../../secret\n"}, "/b: include: found"),
    "function elsewhere": (
        {"a.yaml": "doc_to_text: !function ../../x.y\n"},
        "a.yaml: !function: found '../../x.y'; allowed: module.function.",
    ),
    "function by path": (
        {"a.yaml": "f: [!function /tmp/x.y]\n"},
        "a.yaml: !function: found '/tmp/x.y'; allowed",
    ),
    "bomb": (
        {
            "a.yaml": "a: &a [x]\n"
            + "".join(f"{n}: &{n} [{f'*{o}, ' * 20}]\n" for o, n in pairwise("abcdefghi"))
        },
        "a.yaml: aliases (*name) expand to more than 1,000,000 values (line 6).",
    ),
    "deep": (
        {"a.yaml": "task: x\ntag: " + "[" * 100_000},
        "a.yaml: values are nested more than 50 deep (line 2).",
    ),
    "no YAML": ({"a.yaml": "secret: [\n"}, "a.yaml is not valid YAML"),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_files_of_lm_eval_tasks_stay_in_their_directory_and_are_bounded(what: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret: text\n")
    folder = tmp_path / "tasks/of"
    folder.mkdir(parents=True)
    files, sentence = FOLDERS[what]
    for name, text in files.items():
        (folder / name).write_text(text)
    source = {"lm_eval": "mine", "version": "0.4.13", "include_path": str(folder)}
    Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": source}))
    with pytest.raises(ConfigError) as refused:
        load_task("mine.yaml", WHERE)
    assert f"{folder}/{sentence.removeprefix('/')}" in str(refused.value)
    assert "text" not in str(refused.value).replace("doc_to_text", "")


def test_files_of_lm_eval_tasks_include_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    (folder / "more").mkdir(parents=True)
    (folder / "_default").write_text("doc_to_text: !function utils.text\n")
    (folder / "more/a.yaml").write_text("include: [../_default, b.yaml]\nx: 1\nx: 2\n")
    (folder / "more/b.yaml").write_text("include: a.yaml\nf: !function lm_eval.tasks.x.f\n")
    check_folder(folder)


def test_fragments_of_the_catalogue_can_be_included_from_anywhere() -> None:
    task = define(b"One text.", "text.txt", include="_held_out_loss.yaml")
    assert (task.definition["kind"], task.definition["source"]["format"]) == ("rolling", "text")


def test_measuring_holds_what_metrics_need() -> None:
    task = define([ROW], groups={"part": "part"}, cluster="part", chance=0.5, invert=True)
    assert task.measuring == {"cluster": "part", "chance": 0.5, "invert": True}


def test_data_files_that_lm_eval_tasks_name_are_part_of_the_identity() -> None:
    def identity() -> str:
        source = {"lm_eval": "mine", "version": "0.4.13", "include_path": "tasks"}
        Path("mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "source": source}))
        return load_task("mine.yaml", WHERE).identity

    Path("tasks").mkdir()
    Path("tasks/mine.yaml").write_text("task: mine\ndataset_kwargs: {data_files: {test: rows/test.jsonl}}\n")
    without = identity()
    Path("rows").mkdir()
    Path("rows/test.jsonl").write_text("{}\n")
    first = identity()
    assert first != without
    Path("rows/test.jsonl").touch()
    assert identity() == first
    Path("rows/test.jsonl").write_text("{ }\n")
    assert identity() != first
