"""Bad files of every kind end in a sentence: no traceback, no hang, and no write outside the directory."""

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import tiny
from ebbtide.cells.cell import read_cell, write_cell
from ebbtide.checkpoints.configuration import configuration, context_window
from ebbtide.checkpoints.directory import locate
from ebbtide.checkpoints.fingerprint import fingerprint
from ebbtide.checkpoints.header import read_header
from ebbtide.exchange.imports import import_metrics
from ebbtide.exchange.lm_eval_json import read_results
from ebbtide.exchange.samples import read_samples
from ebbtide.parameters import count
from ebbtide.schema import read_yaml
from ebbtide.scoring.tokenizer import load_tokenizer
from ebbtide.study.load import read_study
from ebbtide.tables import REQUESTS, read_parquet, write_parquet
from ebbtide.tasks.definition import load_task
from ebbtide.tasks.freezing import frozen
from fuzzing import JUNK, damaged, fuzz, listing, mutated, sentence
from task_data import json_lines, put
from workspace import ROOT, SMALL_SERIES

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("fuzz")]

EXCHANGE = ROOT / "tests/samples/exchange"
RUN = EXCHANGE / "my-lab__my-model"
IMPORTED = {
    "format": "lm_eval_samples",
    "files": ["run/samples_*.jsonl"],
    "models": [{"name": "my-model", "tokens_per_step": 1000, "parameters": {"total": 50}}],
    "tasks": {"sample_choice": "choice"},
}
SERIES = {
    **SMALL_SERIES,
    "corpus": {**SMALL_SERIES["corpus"], "world": {"seed": 0, "proverbs": 64, "zipf": 0.7}},
}
STUDY: dict[str, Any] = {
    "study": "mine",
    "models": [
        {"name": "disk", "path": "runs/step{step}", "steps": [1, 2], "tokens_per_step": 64},
        {"series": "series.yaml", "steps": [0, 16]},
    ],
    "tasks": ["tasks/fact_qa.yaml", "tasks/mine.yaml"],
    "scoring": {"dtype": "float32", "backend": "fake", "rescore_examples": 0},
    "regression": {"metric": "accuracy", "parameters": "total", "adjust": "bh"},
    "alarms": {"against": ["predecessor", "best"], "baseline": "disk/step1", "fail_on": "moderate"},
    "trajectories": {"metrics": ["accuracy"], "alpha": 0.05},
    "forgetting": {"streak": 2, "largest": 2},
    "scaling_trends": {"metrics": ["accuracy"], "series": {"all": ["*"]}, "tokens": 100},
    "imported": [{**IMPORTED, "files": ["nowhere/*.jsonl"]}],
    "titles": {"fact_qa": "Facts"},
}
TASK: dict[str, Any] = {
    "title": "Mine",
    "licence": "CC0",
    "fields": {"prompt": "{{ q }}\n", "choices": [" {{ a }}", " {{ b }}"], "gold": "k"},
    "groups": {"part": "p"},
    "cluster": "part",
    "few_shot": {"k": 1},
    "drop_bad_rows": False,
}
ROWS = [{"q": f"Q{i}: capital?\nA:", "a": "Paris", "b": "Rome", "k": i % 2, "p": "x"} for i in range(4)]
LAUGHS = "a: &a [x, x, x]\n" + "".join(
    f"{after}: &{after} [*{name}, *{name}, *{name}]\n" for name, after in pairwise("abcdefghijklmnop")
)
MERGES = "a: &a {x: y}\n" + "".join(
    f"{after}: &{after} {{<<: [*{name}, *{name}]}}\n"
    for name, after in pairwise("abcdefghijklmnopqrstuvwxyz")
)
MESSAGES: dict[str, set[str]] = {}


@pytest.fixture(scope="module", autouse=True)
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory to work in; after the tests, nothing else has changed."""
    outer = tmp_path_factory.mktemp("fuzz")
    inner = outer / "a/b/inside"
    inner.mkdir(parents=True)
    (outer / "outside").write_text("as it was")
    before = listing(ROOT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inner)
        patch.setenv("HOME", str(outer / "home"))
        _write_study(inner)
        yield inner
    assert listing(ROOT) == before
    assert set(path.name for path in outer.rglob("*") if inner not in (path, *path.parents)) <= {
        *("a", "b", "outside"),
    }
    assert (outer / "outside").read_text() == "as it was"


def _write_study(inner: Path) -> None:
    for step in (1, 2):
        tiny.hollow_checkpoint(inner / f"runs/step{step}", number=step)
    shutil.copytree(ROOT / "workflow/tasks", inner / "tasks")
    shutil.copytree(RUN, inner / "run")
    (inner / "series.yaml").write_text(yaml.safe_dump(SERIES))
    source = put(json_lines(ROWS), "rows.jsonl")
    (inner / "tasks/mine.yaml").write_text(yaml.safe_dump({**TASK, "source": source}))


def said(kind: str, function: Any, *arguments: Any) -> None:
    """Call a function, which succeeds or raises a sentence."""
    if (text := sentence(function, *arguments)) is not None:
        MESSAGES.setdefault(kind, set()).add(text)


def dumped(document: Any) -> str:
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=False)


def yaml_texts(document: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """YAML of a document, changed as a document, as text, or by constructions of YAML."""
    constructed = [
        "study: &a [*a]\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nstudy: *c\n",
        "<<: {study: x}\nmodels: !!python/object/apply:os.system [ls]\n",
        "<<: 7\n",
        "? [1, 2]\n: 3\n",
        "study: 2020-01-01\nmodels: !!set {a, b}\n",
        "study: !!binary aGVsbG8=\n",
        LAUGHS,
        "%YAML 1.2\n---\nstudy: x\n---\nstudy: y\n",
        "study: x\nstudy: y\n",
        "a: " + "[" * 3000 + "]" * 3000 + "\n",
        "{" * 100_000,
        "a:\n" + "- " * 100_000,
        MERGES,
        "a: 1" + ":59" * 100_000 + "\n",
        "a: " + "1" * 10_000 + "\n",
        "a: !!pairs [&b {x: y}, *b]\n",
        "include: ../../outside\n",
        "include: [/etc/passwd]\n",
        "study: 0o17\nmodels: 1_000\n",
        "\ufeffstudy: x\n",
        'study: "\\ud800"\n',
        'study: "\\0"\nmodels: ["\\0"]\n',
        "- 1\n",
        "",
    ]
    return st.one_of(
        mutated(document).map(lambda changed: dumped(changed).encode()),
        damaged(dumped(document).encode()),
        st.sampled_from(constructed).map(lambda text: text.encode()),
        st.sampled_from(constructed).map(lambda text: (dumped(document) + text).encode()),
    )


def test_undamaged_files_are_read() -> None:
    """What the tests below damage is whole."""
    Path("study.yaml").write_text(dumped(STUDY))
    assert set(read_study("study.yaml").models) == {"disk", "small-d8", "small-d16"}
    assert len(frozen(load_task("tasks/mine.yaml", "study.yaml: tasks[0]"))[0]) == 2 * len(ROWS)
    assert len(import_metrics(IMPORTED)) > 0
    read_cell(a_table("cell"), {"a": "b"}, "0")
    of_checkpoint(Path("runs/step1"))
    load_tokenizer(Path("runs/step1"))


BASES = [STUDY, read_yaml(ROOT / "config.yaml"), read_yaml(ROOT / "studies/template.yaml")]


@fuzz(600)
@given(content=st.sampled_from(BASES).flatmap(yaml_texts))
def test_studies(content: bytes) -> None:
    Path("study.yaml").write_bytes(content)
    said("study", read_study, "study.yaml")


@fuzz(300)
@given(content=yaml_texts(SERIES))
def test_series(content: bytes) -> None:
    Path("other_series.yaml").write_bytes(content)
    Path("study.yaml").write_text(dumped({**STUDY, "models": [{"series": "other_series.yaml"}]}))
    said("series", read_study, "study.yaml")


def frozen_task() -> None:
    frozen(load_task("tasks/fuzzed.yaml", "study.yaml: tasks[0]"))


@fuzz(500)
@given(data=st.data())
def test_tasks(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from(["mine", "fact_qa", "held_out_loss", "memo_trap"]))
    definition = read_yaml(Path("tasks") / f"{base}.yaml")
    Path("tasks/fuzzed.yaml").write_bytes(data.draw(yaml_texts(definition)))
    said("task", frozen_task)


@fuzz(500)
@given(data=st.data())
def test_rows(data: st.DataObject) -> None:
    rows = data.draw(st.one_of(mutated(ROWS), st.just(ROWS)))
    lines = "".join(json.dumps(row) + "\n" for row in rows) if isinstance(rows, list) else json.dumps(rows)
    content = data.draw(st.one_of(st.just(lines.encode()), damaged(lines.encode())))
    name = data.draw(
        st.sampled_from(["fuzzed.jsonl", "fuzzed.json", "fuzzed.csv", "fuzzed.tsv", "fuzzed.jsonl.gz"])
    )
    drop = data.draw(st.booleans())
    source = put(content, name)
    definition = data.draw(
        st.sampled_from([TASK, {"title": "Text", "kind": "rolling", "fields": {"text": "q"}}])
    )
    Path("tasks/fuzzed.yaml").write_text(dumped({**definition, "drop_bad_rows": drop, "source": source}))
    said("rows", frozen_task)


@fuzz(300)
@given(data=st.data())
def test_samples_of_lm_eval(data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(sorted(RUN.glob("samples_*"))))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    lines = st.builds(
        lambda changed: "".join(json.dumps(row) + "\n" for row in changed if row is not changed),
        mutated(rows).filter(lambda c: isinstance(c, list)),
    )
    content = data.draw(st.one_of(lines.map(str.encode), damaged(file.read_bytes())))
    shutil.rmtree("run")
    shutil.copytree(RUN, "run")
    Path("run", file.name).write_bytes(content)
    said("samples", read_samples, Path("run", file.name))
    said(
        "samples", import_metrics, {**IMPORTED, "tasks": {"*": "*"}} if data.draw(st.booleans()) else IMPORTED
    )


@fuzz(300)
@given(data=st.data())
def test_results_of_lm_eval(data: st.DataObject) -> None:
    file = data.draw(st.sampled_from([*RUN.glob("results_*"), EXCHANGE / "v03_my-run-1b_step2000.json"]))
    changed = mutated(json.loads(file.read_text())).map(lambda document: json.dumps(document).encode())
    Path("results.json").write_bytes(data.draw(st.one_of(changed, damaged(file.read_bytes()))))
    said("results", read_results, "results.json")
    row = {**IMPORTED, "format": "lm_eval_results", "files": ["results.json"], "tasks": {}}
    said("results", import_metrics, {key: value for key, value in row.items() if value != {}})


def a_table(kind: str) -> Path:
    path = Path(f"{kind}.parquet")
    if kind == "requests":
        columns = {
            "example": ["a", "a"],
            "choice": [0, 1],
            "context": ["x", "x"],
            "continuation": [" y", " z"],
        }
        write_parquet(pd.DataFrame(columns), path, REQUESTS, {"task": "t"})
    else:
        rows = {"example": ["a", "a"], "choice": [0, 1], "loglikelihood": [-1.0, -2.0], "tokens": [1, 1]}
        rows |= {"bytes": [1, 1], "characters": [1, 1], "greedy": [True, False], "truncated": [False, False]}
        rows |= {"first_token_loglikelihood": [-1.0, -2.0], "context_tokens": [1, 1]}
        footer = {"requests_sha256": "0", "requests": 2, "parameters_total": 1, "parameters_non_embedding": 1}
        write_cell(pd.DataFrame(rows), path, {"a": "b"}, footer)
    return path


@fuzz(300)
@given(data=st.data())
def test_damaged_parquet(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["requests", "cell"]))
    path = a_table(kind)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    if kind == "requests":
        said("parquet", lambda: read_parquet(path, REQUESTS, foreign=True))
    else:
        said("parquet", read_cell, path, {"a": "b"}, "0")


@fuzz(300)
@given(data=st.data())
def test_parquet_of_another_schema(data: st.DataObject) -> None:
    types = st.sampled_from(
        [
            *(
                pa.int8(),
                pa.int32(),
                pa.int64(),
                pa.uint64(),
                pa.float32(),
                pa.float64(),
                pa.bool_(),
                pa.string(),
            ),
            *(pa.large_string(), pa.string_view(), pa.binary(), pa.date32(), pa.null(), pa.list_(pa.int64())),
            *(pa.dictionary(pa.int32(), pa.string()), pa.struct({"a": pa.int64()}), pa.decimal128(5, 2)),
        ]
    )
    columns = {}
    for name in data.draw(st.sets(st.sampled_from([*REQUESTS.columns, "gold", "role", "of", "x"]))):
        kind = data.draw(types)
        columns[name] = pa.nulls(2, kind) if data.draw(st.booleans()) else pa.array([None, None], kind)
    footer = data.draw(
        st.sampled_from([None, b"", b"{}", b"[1]", b"\xff", b'{"kind": "requests"}', b'{"kind": 3}'])
    )
    table = pa.table(columns)
    metadata = {} if footer is None else {b"ebbtide": footer}
    pq.write_table(table.replace_schema_metadata(metadata), "other.parquet")
    said("schema", lambda: read_parquet("other.parquet", REQUESTS, foreign=True))
    said("schema", read_cell, "other.parquet", {"a": "b"}, "0")


def of_checkpoint(directory: Path) -> None:
    locate(directory, Path("records") / directory.name / "located.json")


@fuzz(400)
@given(data=st.data())
def test_configurations_and_indices(data: st.DataObject) -> None:
    directory = Path("fuzzed-checkpoint")
    shutil.rmtree(directory, ignore_errors=True)
    tiny.hollow_checkpoint(directory)
    config = json.loads((directory / "config.json").read_text()) | {
        "torch_dtype": "float32",
        "text_config": {},
    }
    changed = mutated(config).map(lambda document: json.dumps(document).encode())
    (directory / "config.json").write_bytes(
        data.draw(st.one_of(changed, damaged(json.dumps(config).encode())))
    )
    if data.draw(st.booleans()):
        (directory / "model.safetensors").rename(directory / "model-1.safetensors")
        index = {"metadata": {"total_size": 4}, "weight_map": {"number": "model-1.safetensors"}}
        written = data.draw(st.one_of(mutated(index), st.just(index)))
        (directory / "model.safetensors.index.json").write_text(json.dumps(written))
    said("config.json", of_checkpoint, directory)
    said("config.json", lambda: context_window(configuration(directory)))
    said("config.json", lambda: count(configuration(directory)))


@fuzz(400)
@given(data=st.data())
def test_safetensors(data: st.DataObject) -> None:
    directory = Path("fuzzed-weights")
    shutil.rmtree(directory, ignore_errors=True)
    tiny.hollow_checkpoint(directory)
    path = directory / "model.safetensors"
    header = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F16", "shape": [2, 1], "data_offsets": [8, 12]},
        "__metadata__": {"format": "pt"},
    }
    numbers = st.one_of(
        JUNK, st.sampled_from([[8, 0], [-1, 4], [0, 2**63], [4, 12], [0.0, 8.0], [[0], 8], [0]])
    )
    if data.draw(st.booleans()):
        header[data.draw(st.sampled_from(["a", "b"]))][
            data.draw(st.sampled_from(["data_offsets", "shape", "dtype"]))
        ] = data.draw(numbers)
    text = json.dumps(data.draw(st.one_of(st.just(header), mutated(header)))).encode()
    length = data.draw(
        st.one_of(st.just(len(text)), st.sampled_from([0, 1, 2**31, 2**62, 2**64 - 1, 100_000_001]))
    )
    content = length.to_bytes(8, "little") + text + bytes(12)
    path.write_bytes(data.draw(st.one_of(st.just(content), damaged(content))))
    said("safetensors", read_header, path)
    said("safetensors", lambda: fingerprint({path: read_header(path)}))
    said("safetensors", of_checkpoint, directory)


@functools.cache
def tokenizer_files() -> dict[str, bytes]:
    tiny.hollow_checkpoint(Path("tokenizer"))
    return {path.name: path.read_bytes() for path in Path("tokenizer").glob("token*.json")}


@fuzz(240)
@given(data=st.data())
def test_tokenizers(data: st.DataObject) -> None:
    files = dict(tokenizer_files())
    name = data.draw(st.sampled_from(sorted(files)))
    changed = mutated(json.loads(files[name])).map(lambda document: json.dumps(document).encode())
    files[name] = data.draw(st.one_of(changed, damaged(files[name])))
    directory = Path("fuzzed-tokenizer")
    shutil.rmtree(directory, ignore_errors=True)
    tiny.hollow_checkpoint(directory)
    for file, content in files.items():
        (directory / file).write_bytes(content)
    said("tokenizer", load_tokenizer, directory)


SMALL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
CHECKPOINT_FILES = (*SMALL_FILES, "model.safetensors", "adapter_config.json", "generation_config.json")
ODD_FILES: dict[str, Callable[[Path], Any]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "directory": Path.mkdir,
    "broken link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "huge": lambda path: sparse(path, 10**10),
    "deep": lambda path: path.write_text('{"a":' * 200_000 + "1" + "}" * 200_000),
    "as deep as Python goes": lambda path: path.write_text('{"a":' * 900 + "1" + "}" * 900),
    "a billion layers": lambda path: path.write_text(
        '{"model_type": "qwen2", "num_hidden_layers": 1000000000}'
    ),
}


def sparse(path: Path, size: int) -> None:
    """A file of zeros that takes no space."""
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("what", ODD_FILES)
@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_odd_files_of_a_checkpoint(name: str, what: str) -> None:
    from transformers import AutoConfig, AutoTokenizer  # noqa: F401 (importing them may take the time of a call)

    directory = Path("odd-checkpoint")
    shutil.rmtree(directory, ignore_errors=True)
    tiny.hollow_checkpoint(directory)
    (directory / name).unlink(missing_ok=True)
    ODD_FILES[what](directory / name)
    said("odd file", of_checkpoint, directory)
    said("odd file", load_tokenizer, directory)
    said("odd file", lambda: count(configuration(directory)))


def test_every_kind_was_refused_in_words() -> None:
    """The tests above do find bad files; printed with `pytest -s`."""
    for kind, texts in MESSAGES.items():
        middle = sorted(texts, key=len)[len(texts) // 2]
        print(f"\n{kind}: {len(texts)} different sentences, such as\n  {middle}")
    assert all(len(texts) >= 3 for texts in MESSAGES.values())
