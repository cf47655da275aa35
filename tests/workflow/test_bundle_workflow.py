"""A bundle in an empty directory: the same tables, byte by byte, with nothing scored."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import tiny
from ebbtide.report.bundle.archive import CRATE
from ebbtide.report.bundle.contents import newest_day
from workspace import Workspace

pytestmark = pytest.mark.slow

TABLES = ("metrics.parquet", "regressions.tsv", "verdicts.tsv", "alarms.tsv", "table.tex", "values.toml")
TARGETS = [f"results/made_up/{name}" for name in TABLES]
CELL = "results/scores/tiny/step1/a.parquet"


class FromBundle(Workspace):
    """A directory whose study is that of the bundle in it."""

    def command(self) -> list[str]:  # type: ignore[override]
        whole = super().command()
        return [*whole[: whole.index("--configfile")], "--config", "bundle=b.zip"]


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


def moved(workspace: Workspace, tmp_path: Path, targets: list[str]) -> tuple[Path, FromBundle]:
    """Make targets and the bundle; return the old directory, and one with the bundle only."""
    workspace.run("bundle", *targets)
    archive = workspace.path / "results/made_up/bundle.zip"
    kept = tmp_path / "kept"
    start = tmp_path / "there"
    start.mkdir()
    shutil.copy(archive, start / "b.zip")
    shutil.move(workspace.path, kept)  # with weights, data and store: nothing is left to score with
    shutil.rmtree(tmp_path / "store")
    return kept, FromBundle(start)


def test_another_directory_makes_the_same_tables_without_scoring(
    workspace: Workspace, tmp_path: Path
) -> None:
    kept, there = moved(workspace, tmp_path, TARGETS)
    planned = there.planned(*TARGETS)
    assert not {"score", "freeze", "fetch"} & set(planned)
    assert planned["measure"] == 3
    [unpacked] = (there.path / "bundles").iterdir()
    assert not (unpacked / "models").exists()
    crate = json.loads((unpacked / CRATE).read_text())["@graph"]
    [published] = [entity["datePublished"] for entity in crate if entity["@id"] == "./"]
    assert published == newest_day(unpacked.glob("results/scores/tiny/*/a.parquet"))

    cell = (unpacked / CELL).read_bytes()
    done = there.run(*TARGETS)
    assert f"The results are in bundles/{unpacked.name}/" in done.stdout
    for target in TARGETS:
        assert (unpacked / target).read_bytes() == (kept / target).read_bytes(), target
    assert (unpacked / CELL).read_bytes() == cell
    assert not list(unpacked.glob("logs/score/**/*.log"))
    assert there.planned(*TARGETS) == {}  # the run has changed no file of the bundle
    assert {path.name for path in there.path.iterdir()} == {"b.zip", "bundles", ".snakemake"}

    # What needs a cell that the bundle lacks ends before anything runs, with the reason.
    for other in ("recompute=true", "scoring={bos: always}"):
        refused = there.snakemake(*TARGETS, "--cores", "1", "--config", "bundle=b.zip", other, check=False)
        assert refused.returncode == 2
        assert "3 of 3 cells would have to be scored, the first tiny/step0/a;" in refused.stdout
    study = str(unpacked / "study.yaml")
    refused = there.snakemake("--dry-run", "--configfile", study, check=False)
    assert refused.returncode == 2
    assert "a bundle has a study of its own" in refused.stdout


@pytest.mark.long
def test_another_directory_makes_the_same_bundle_and_the_same_paper(
    workspace: Workspace, tmp_path: Path
) -> None:
    made = ["results/made_up/bundle.zip", "results/made_up/paper.pdf"]
    kept, there = moved(workspace, tmp_path, ["paper"])
    there.run("paper", "bundle")
    [unpacked] = (there.path / "bundles").iterdir()
    for file in made:
        assert (unpacked / file).read_bytes() == (kept / file).read_bytes(), file
    assert not list(unpacked.glob("logs/score/**/*.log"))
