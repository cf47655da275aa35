"""The worst day: killed runs, damaged files, failing jobs."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from ebbtide.tables import CELL, read_frame
from reading import flip
from workspace import Workspace, write_small_study

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rerun")]


WRONG = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # sha256 of nothing


def table_bytes(workspace: Workspace) -> dict[str, bytes]:
    results = workspace.path / "results/small"
    return {
        name: (results / name).read_bytes() for name in ("metrics.parquet", "regressions.tsv", "verdicts.tsv")
    }


def descendants(pid: int) -> list[int]:
    """A process and all that it started, children first."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [d for child in children.stdout.split() for d in descendants(int(child))] + [pid]


def test_killed_in_the_middle_the_next_run_finishes_only_what_is_missing(finished_study, tmp_path):
    """kill -9 of Snakemake and all its jobs while cells are scored."""
    workspace = write_small_study(tmp_path)
    shutil.copytree(finished_study.path / "resources", tmp_path / "resources")
    process = subprocess.Popen(
        [*workspace.command(), "--cores", "1"],
        env=workspace.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("cells/[!.]*.parquet"))) < 3:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "nothing was scored in two minutes"
        time.sleep(0.02)
    for pid in reversed(descendants(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("cells/[!.]*.parquet")}
    assert 3 <= len(before) < 18

    workspace.snakemake("--unlock")
    workspace.run("--rerun-incomplete", "--until", "regress")
    after = {p: p.stat().st_mtime_ns for p in tmp_path.glob("cells/[!.]*.parquet")}
    assert len(after) == 18
    assert before.items() <= after.items()  # no cell was scored twice
    assert table_bytes(workspace) == table_bytes(finished_study)
    assert "score" not in workspace.planned()


def test_a_truncated_cell_is_named_and_the_remedy_works(study):
    cell = study.path / "results/scores/small-d8/step16/fact_qa.parquet"
    whole = cell.read_bytes()
    cell.write_bytes(whole[: len(whole) // 2])
    done = study.snakemake("--cores", "1", check=False)
    assert done.returncode != 0
    assert (
        "CellError: results/scores/small-d8/step16/fact_qa.parquet is not a complete Parquet file"
        in done.stdout
    )
    assert "delete the file and run snakemake" in done.stdout
    cell.unlink()
    study.run("--until", "metrics")
    assert cell.read_bytes() == whole


def test_a_cell_of_another_checkpoint_is_named_and_not_averaged_in(study):
    cell = study.path / "results/scores/small-d8/step16/fact_qa.parquet"
    shutil.copy(study.path / "results/scores/small-d16/step16/fact_qa.parquet", cell)
    done = study.snakemake("--cores", "1", check=False)
    assert done.returncode != 0
    assert "fact_qa.parquet is stale: weights is" in done.stdout


def test_a_damaged_store_is_scored_again(study):
    stored = sorted(study.path.glob("cells/[!.]*.parquet"))
    for cell in stored:
        cell.write_bytes(cell.read_bytes()[:100])
    cell = study.cells()[0]
    good = read_frame(cell, CELL)
    cell.unlink()
    study.run("--until", "score")
    assert read_frame(cell, CELL)["loglikelihood"].to_numpy() == pytest.approx(
        good["loglikelihood"].to_numpy()
    )


def test_a_cell_damaged_in_store_and_results_is_scored_again_by_following_what_is_said(study):
    """The copy is named first, then the cell in the store; each remedy is one command."""
    cell = study.cells()[0]
    copies = [
        path for path in study.path.glob("cells/[!.]*.parquet") if path.read_bytes() == cell.read_bytes()
    ]
    good = read_frame(cell, CELL)
    for path in (*copies, cell):
        flip(path, 100)
    for part in study.path.glob("results/small/metrics/*/*.parquet"):
        part.unlink()
    arguments = ("--until", "metrics")
    done = study.snakemake("--cores", "2", *arguments, check=False)
    assert f"CellError: {cell.relative_to(study.path)} is damaged: " in done.stdout
    assert "delete the file and run snakemake" in done.stdout
    cell.unlink()
    done = study.snakemake("--cores", "2", *arguments, check=False)
    assert f"It was renamed to cells/{copies[0].name}.damaged; run the same command again" in done.stdout
    study.run(*arguments)
    assert read_frame(cell, CELL).equals(good)


def test_jobs_run_in_the_environment_of_snakemake_without_activation(study):
    study.env["PATH"] = os.pathsep.join(["/usr/bin", "/bin"])
    cell = study.cells()[0]
    whole = cell.read_bytes()
    cell.unlink()
    study.run("--until", "score")
    assert cell.read_bytes() == whole


def test_one_bad_task_leaves_the_others_whole(study):
    """A task that cannot be scored fails its own cells, by name; all the rest is made and kept."""
    bad = study.path / "tasks/bad.yaml"
    data = study.path / "bad.jsonl"
    data.write_text('{"prompt": "the lion is a", "classes": [" animal", " quasar"], "answer_index": 0}\n')
    sha256 = subprocess.run(
        ["sha256sum", str(data)], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    bad.write_text(f"title: Bad\nsource:\n  file: {data}\n  sha256: {sha256}\n")
    with study.edited("config.yaml") as config:
        config["tasks"] += ["tasks/bad.yaml", "tasks/arithmetic.yaml"]
        config["models"][0]["steps"] = [16]  # each bad cell loads weights for itself
    done = study.snakemake("--cores", "2", "--keep-going", "--until", "score", check=False)
    assert done.returncode != 0
    assert "example 0, choice 1" in done.stdout
    assert "quasar" in done.stdout
    assert len([cell for cell in study.cells() if cell.stem == "arithmetic"]) == 2
    assert not [cell for cell in study.cells() if cell.stem == "bad"]


def test_a_wrong_hash_stops_with_both_hashes(study):
    data = study.path / "data.jsonl"
    data.write_text('{"prompt": "the lion is a", "classes": [" animal", " fruit"], "answer_index": 0}\n')
    study.write_yaml("tasks/pinned.yaml", {"title": "P", "source": {"file": str(data), "sha256": WRONG}})
    with study.edited("config.yaml") as config:
        config["tasks"].append("tasks/pinned.yaml")
    done = study.snakemake("--cores", "1", check=False)
    found = subprocess.run(
        ["sha256sum", str(data)], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert done.returncode != 0
    assert "data.jsonl" in done.stdout
    assert WRONG in done.stdout
    assert found in done.stdout
    assert len(study.cells()) == 18
