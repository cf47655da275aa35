"""A bundle in an empty directory: the same tables, byte by byte, with nothing scored."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import tiny
from ebbtide.cli import main
from ebbtide.report.bundle.archive import CRATE
from ebbtide.report.bundle.contents import newest_day
from workspace import Workspace

pytestmark = pytest.mark.slow

TABLES = ("metrics.parquet", "regressions.tsv", "verdicts.tsv", "alarms.tsv", "table.tex")
TARGETS = [f"results/made_up/{name}" for name in TABLES]
CELL = "results/scores/tiny/step1/a.parquet"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Three checkpoints on disk and a task, for the fake back end."""
    made = Workspace(tmp_path / "here")
    for step in range(3):
        tiny.hollow_checkpoint(made.path / f"models/step{step}", step)
    rows = [{"prompt": f"the {i}", "options": ["old", "young"], "answer": i % 2} for i in range(20)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (made.path / "a.jsonl").write_text(text)
    source = {"file": "a.jsonl", "sha256": hashlib.sha256(text.encode()).hexdigest()}
    fields = {"prompt": "prompt", "choices": "options", "gold": "answer"}
    made.write_yaml("tasks/_shared.yaml", {"source": source, "fields": fields})
    made.write_yaml("tasks/a.yaml", {"include": "_shared.yaml", "title": "A"})
    row = {"name": "tiny", "path": "models/step{step}", "steps": "all", "tokens_per_step": 10}
    study = {"study": "made_up", "models": [row], "tasks": ["tasks/a.yaml"], "audit": {"shape": "warn"}}
    scoring = {"backend": "fake", "dtype": "float32", "store": str(tmp_path / "store")}
    made.write_yaml("config.yaml", {**study, "scoring": scoring})
    return made


def test_another_directory_makes_the_same_tables_without_scoring(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.run("bundle", *TARGETS)
    archive = workspace.path / "results/made_up/bundle.zip"
    first = archive.read_bytes()
    archive.unlink()
    workspace.run("bundle")
    assert archive.read_bytes() == first

    monkeypatch.chdir(tmp_path)
    there = Workspace(tmp_path / "there")
    there.command = lambda: Workspace.command(there, "study.yaml")  # type: ignore[method-assign]
    assert not main(["unbundle", str(archive), "--to", str(there.path)])
    assert not (there.path / "models").exists()
    crate = json.loads((there.path / CRATE).read_text())["@graph"]
    [published] = [entity["datePublished"] for entity in crate if entity["@id"] == "./"]
    assert published == newest_day(there.path.glob("results/scores/tiny/*/a.parquet"))
    kept = tmp_path / "kept"
    shutil.move(workspace.path, kept)  # with weights, data and store: nothing is left to score with
    shutil.rmtree(tmp_path / "store")

    cell = (there.path / CELL).read_bytes()
    planned = there.planned(*TARGETS)
    assert not {"score", "freeze", "fetch"} & set(planned)
    assert planned["measure"] == 3
    there.run(*TARGETS)
    for target in TARGETS:
        assert (there.path / target).read_bytes() == (kept / target).read_bytes(), target
    assert (there.path / CELL).read_bytes() == cell
    assert there.loads() == 0
