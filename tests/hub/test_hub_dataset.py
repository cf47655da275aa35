"""A task on a data set of the hub: pinned and frozen by the real `datasets` library, by a loopback hub."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from ebbtide.tables import REQUESTS, read_footer, read_frame
from ebbtide.tasks.dataset_rows import rows_sha256
from ebbtide.tasks.definition import load_task
from hub import FakeHub, Repo
from task_data import WHERE, json_lines

SAMPLES = Path(__file__).parents[1] / "samples/tasks"
README = """---
configs:
- config_name: easy
  data_files:
  - split: train
    path: train.jsonl
  - split: validation
    path: validation.jsonl
- config_name: hard
  data_files:
  - split: validation
    path: hard.csv
---
"""
ROWS = [{"prompt": f"Q{n}:", "completion": f" a{n}"} for n in range(4)]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.chdir(tmp_path)
    with FakeHub(tmp_path) as served:
        yield served


@pytest.fixture
def questions(hub: FakeHub) -> Repo:
    repo = hub.repo("lab/questions")
    repo.commit("main", {"README.md": README.encode(), "train.jsonl": json_lines(ROWS[:1])})
    files = {"validation.jsonl": json_lines(ROWS), "hard.csv": b"prompt,completion\nH, h\n"}
    repo.commit("main", files)
    return repo


def ebbtide(hub: FakeHub, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ebbtide", *arguments],
        check=False,
        env={**os.environ, **hub.environment(**environment)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def define(**source: Any) -> None:
    definition = {"title": "Questions", "kind": "sequence", "source": {"dataset": "lab/questions", **source}}
    Path("mine.yaml").write_text(yaml.safe_dump(definition))


def pin(hub: FakeHub, **environment: str) -> subprocess.CompletedProcess[str]:
    return ebbtide(hub, "pin", "mine.yaml", "--to", "pinned.yaml", **environment)


def freeze(hub: FakeHub, **environment: str) -> subprocess.CompletedProcess[str]:
    return ebbtide(hub, "freeze", "--task", "pinned.yaml", "--to", "frozen.parquet", **environment)


def test_a_data_set_is_pinned_frozen_and_stays_what_it_was(hub: FakeHub, questions: Repo) -> None:
    define(config="easy", split="validation")
    done = pin(hub)
    assert done.returncode == 0, done.stderr
    commit = questions.resolve("main")
    source = yaml.safe_load(Path("pinned.yaml").read_text())["source"]
    assert source == {
        "dataset": "lab/questions",
        "config": "easy",
        "split": "validation",
        "revision": commit,
        "rows": 4,
        "rows_sha256": rows_sha256(ROWS),
    }
    task = load_task("pinned.yaml", WHERE)
    # The branch moves on; the pin does not.
    questions.commit("main", {"validation.jsonl": json_lines(ROWS[:2])})
    hub.requests.clear()
    done = freeze(hub)
    assert done.returncode == 0, done.stderr
    frozen = read_frame("frozen.parquet", REQUESTS)
    assert frozen["continuation"].tolist() == [row["completion"] for row in ROWS]
    assert read_footer("frozen.parquet", REQUESTS)["identity"] == task.identity
    assert all(commit in request.path for request in hub.requests)


def test_a_stream_downloads_its_own_split_alone(hub: FakeHub, questions: Repo) -> None:
    define(config="easy", split="validation", streaming=True, rows=2, revision="main")
    done = pin(hub)
    assert done.returncode == 0, done.stderr
    assert hub.served["validation.jsonl"] and not hub.served["train.jsonl"]
    task = load_task("pinned.yaml", WHERE)
    assert task.definition["source"]["revision"] == questions.resolve("main")
    assert task.definition["source"]["rows_sha256"] == rows_sha256(ROWS[:2])
    assert freeze(hub).returncode == 0
    assert len(read_frame("frozen.parquet", REQUESTS)) == 2


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"split": "validation"}, "ConfigError: mine.yaml: source.config: missing; allowed: easy, hard."),
        ({"config": "hart", "split": "validation"}, "source.config: found 'hart'; allowed: easy, hard; did"),
        ({"config": "hard", "split": "train"}, "source.split: found 'train'; allowed: validation."),
        (
            {"config": "hard", "split": "validation", "revision": "v9"},
            "SourceError: mine.yaml: source.dataset: lab/questions at v9 cannot be read from http://127",
        ),
    ],
)
def test_what_a_data_set_lacks_is_named(
    hub: FakeHub, questions: Repo, source: dict[str, Any], sentence: str
) -> None:
    define(**source)
    done = pin(hub)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("pinned.yaml").exists()


def test_a_private_data_set_needs_the_token(hub: FakeHub, questions: Repo) -> None:
    questions.hide("hf_secret")
    define(config="easy", split="validation")
    done = pin(hub)
    assert done.returncode == 2
    assert "source.dataset: lab/questions at its newest commit cannot be read" in done.stderr
    assert pin(hub, HF_TOKEN="hf_secret").returncode == 0
    done = freeze(hub, HF_HOME="elsewhere")
    assert done.returncode == 2
    assert "SourceError: pinned.yaml: source.dataset: lab/questions cannot be read by datasets" in done.stderr
    assert freeze(hub, HF_HOME="elsewhere", HF_TOKEN="hf_secret").returncode == 0


def test_what_the_library_has_cached_freezes_without_a_network(hub: FakeHub, questions: Repo) -> None:
    define(config="easy", split="validation")
    assert pin(hub).returncode == 0
    hub.close()
    done = freeze(hub, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert len(read_frame("frozen.parquet", REQUESTS)) == 4
    done = freeze(hub, HF_HUB_OFFLINE="1", HF_HOME="elsewhere")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "SourceError: pinned.yaml: source.dataset: lab/questions cannot be read by datasets" in done.stderr


def test_code_of_a_data_set_is_not_run(hub: FakeHub, questions: Repo) -> None:
    questions.commit("main", {"questions.py": b"open('ran', 'w').write('x')\n"})
    define(config="easy", split="validation")
    done = pin(hub)
    assert done.returncode == 2
    assert "RuntimeError: Dataset scripts are no longer supported, but found questions.py" in done.stderr
    assert not Path("ran").exists()


def test_a_directory_of_the_same_name_is_not_the_data_set(hub: FakeHub, questions: Repo) -> None:
    Path("lab/questions").mkdir(parents=True)
    Path("lab/questions/validation.jsonl").write_bytes(json_lines(ROWS[:1]))
    define(config="easy", split="validation")
    assert pin(hub).returncode == 0
    assert load_task("pinned.yaml", WHERE).definition["source"]["rows"] == 4


@pytest.mark.parametrize("name", ["redefine-math", "quote-repetition"])
def test_tasks_of_the_catalogue_are_pinned_and_frozen(name: str, hub: FakeHub) -> None:
    sample = SAMPLES / f"{name}.sample.csv"
    hub.repo(f"inverse-scaling/{name}").commit("main", {"README.md": b"", f"{name}.csv": sample})
    rows = len(pd.read_csv(sample))
    task = f"isp_{name.replace('-', '_')}"
    done = ebbtide(hub, "pin", task, "--to", "pinned.yaml")
    assert done.returncode == 2 and f"source.rows: found {rows}, expected " in done.stderr
    Path("short.yaml").write_text(yaml.safe_dump({"include": f"{task}.yaml", "source": {"rows": rows}}))
    done = ebbtide(hub, "pin", "short.yaml", "--to", "pinned.yaml")
    assert done.returncode == 0, done.stderr
    assert freeze(hub).returncode == 0
    assert read_frame("frozen.parquet", REQUESTS)["example"].nunique() == rows
