"""A study of a hub, from the first lock to the last figure, and its worst days."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import suite
from ebbtide.tables import CELL, read_footer, read_tsv
from hub import FakeHub
from workspace import ROOT

GUARD = ROOT / "tests/helpers/guard"
pytestmark = pytest.mark.slow


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories of checkpoints, made once."""
    return tmp_path_factory.mktemp("weights")


def test_the_whole_study_with_sockets_closed_in_the_scoring_jobs(
    tmp_path: Path, hub: FakeHub, weights: Path
) -> None:
    suite.publish(hub, weights)
    workspace = suite.study(tmp_path / "study", hub)
    workspace.env |= {"GUARD_LOG": str(tmp_path / "guard.log"), "PYTHONPATH": str(GUARD)}

    told = workspace.snakemake("-n", check=False).stdout
    assert "config.lock.json does not exist; run `snakemake lock --cores 1` with the same --config" in told
    assert "Traceback" not in told
    by_name = "results/scores/tiny-1m/step8/memo_trap.parquet"
    told = workspace.snakemake("-n", by_name, check=False).stdout
    assert "config.lock.json does not exist" in told and "MissingRule" not in told

    told = suite.lock(workspace)
    assert "Audit: nothing found." in told and "1 models, 5 checkpoints" in told
    # The configuration, small files that could be pointers, and no weights.
    assert hub.served.keys() == {"config.json", "tokenizer_config.json", "generation_config.json"}

    workspace.run()
    assert len(workspace.cells()) == 5 * 2
    digests = {tuple(read_footer(cell, CELL)["weights_sha256"].items()) for cell in workspace.cells()}
    repo = hub.repo(suite.REPO)
    assert digests == {
        (("model.safetensors", repo.file(f"step{step}", "model.safetensors").sha256),) for step in suite.STEPS
    }
    assert workspace.loads() == 5
    notes = (tmp_path / "guard.log").read_text().splitlines()
    assert {note.split()[0] for note in notes} == {"guarded"}  # every scoring process, and none tried
    assert any("ebbtide.jobs.worker" in note for note in notes)
    metrics = pd.read_parquet(workspace.path / "results/small/metrics.parquet")
    assert sorted(metrics["tokens"].unique()) == [1024 * step for step in suite.STEPS]
    made = read_tsv(workspace.path / "results/small/provenance.tsv").set_index("checkpoint")
    for step in suite.STEPS:
        row, revision = made.loc[f"step{step}"], f"step{step}"
        assert row["origin"] == f"{suite.REPO}@{repo.branches[revision]}"
        assert repo.file(revision, "model.safetensors").sha256.startswith(row["weights_sha256"])
    assert (workspace.path / "results/small/figures/curves.png").exists()
    assert workspace.planned() == {}

    before = len(hub.requests)
    suite.lock(workspace)  # asks for refs only
    assert [r.path for r in hub.requests[before:]] == [f"/api/models/{suite.REPO}/refs"]
    assert workspace.planned() == {}

    files = suite.checkpoint_files(weights / "new", scale=3.0)
    hub.repo(suite.REPO).commit("step64", files)
    assert workspace.planned() == {}  # nobody has asked the hub
    suite.lock(workspace)
    planned = workspace.planned()
    assert (planned["score"], planned["fetch_to_keep"], planned["measure"]) == (2, 1, 1)


def test_a_tiny_disk_sees_all_checkpoints_pass(tmp_path: Path, hub: FakeHub, weights: Path) -> None:
    suite.publish(hub, weights)
    size = sum(p.stat().st_size for p in (weights / "lab-tiny-1m-0").iterdir()) + 16_384
    budget = int(2.5 * size)
    workspace = suite.study(
        tmp_path / "study", hub, weights={"keep": "none", "disk_gb": budget / 1e9, "parallel_downloads": 2}
    )
    suite.lock(workspace)
    with suite.watched(workspace) as most:
        workspace.run("metrics", cores=3)
    assert len(workspace.cells()) == 10
    assert size / 2 < most[0] <= budget
    assert suite.fetched(workspace) == []
    assert workspace.planned("metrics") == {}
    # A new task needs the weights again, and they pass again.
    with workspace.edited("config.yaml") as config:
        config["tasks"].append("tasks/quote_repetition.yaml")
    assert workspace.planned("metrics")["fetch_to_pass"] == 5


def test_a_failing_checkpoint_makes_room_for_others(tmp_path: Path, hub: FakeHub, weights: Path) -> None:
    """The budget holds one, the second cannot be loaded; with --keep-going the others are scored."""
    repo = suite.publish(hub, weights)
    broken = (weights / "lab-tiny-1m-1" / "model.safetensors").read_bytes()
    repo.commit("step1", {"model.safetensors": broken[:100] + bytes(len(broken) - 100)})
    size = sum(p.stat().st_size for p in (weights / "lab-tiny-1m-0").iterdir()) + 16_384
    weights = {"keep": "none", "disk_gb": 1.2 * size / 1e9, "parallel_downloads": 1}
    workspace = suite.study(tmp_path / "study", hub, weights=weights)
    suite.lock(workspace)
    suite.short_grace(workspace)
    done = workspace.snakemake("--cores", "2", "--keep-going", "metrics", check=False)
    assert done.returncode != 0
    assert sorted({p.parent.name for p in workspace.cells()}) == ["step0", "step16", "step32", "step8"]


@pytest.mark.long
def test_what_is_kept_stays_and_the_rest_goes(tmp_path: Path, hub: FakeHub, weights: Path) -> None:
    suite.publish(hub, weights)
    workspace = suite.study(tmp_path / "study", hub, weights={"keep": 2})
    suite.lock(workspace)
    workspace.run("metrics")
    assert suite.fetched(workspace) == ["step16", "step32"]
    assert workspace.planned("metrics") == {}


@pytest.mark.long
def test_a_changed_recipe_fetches_evicted_weights_again(tmp_path: Path, hub: FakeHub, weights: Path) -> None:
    suite.publish(hub, weights)
    workspace = suite.study(tmp_path / "study", hub, suite.row(steps=[8, 16]), weights={"keep": "none"})
    suite.lock(workspace)
    workspace.run("metrics")
    with workspace.edited("config.yaml") as config:
        config["scoring"]["bos"] = "always"
    planned = workspace.planned("metrics")
    assert (planned["score"], planned["fetch_to_pass"]) == (4, 2)
    workspace.run("metrics")
    assert workspace.planned("metrics") == {}


@pytest.mark.long
def test_every_planted_defect_is_found_and_nothing_else(tmp_path: Path, hub: FakeHub, weights: Path) -> None:
    repo = suite.publish(hub, weights, steps=(0, 1, 8, 16, 32, 64, 128))
    first = dict(repo.commits[repo.branches["step0"]])
    repo.commit("step1", {"model.safetensors": first["model.safetensors"].path})  # as step 0
    last = repo.file("main", "model.safetensors").path
    repo.commit("step8", {"model.safetensors": last})  # final-era weights
    repo.commit("step32", {"tokenizer.json": None})
    config = json.loads(repo.file("step64", "config.json").path.read_text())
    coded = {**config, "auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}
    repo.commit("step64", {"config.json": json.dumps(coded).encode(), "modeling_x.py": b"raise SystemExit"})
    sixteen = suite.checkpoint_files(weights / "s16", 7.0)["model.safetensors"]
    pickled = {"pytorch_model.bin": b"old", "model.safetensors": sixteen}
    repo.commit("step16", {"pytorch_model.bin": b"old"}, date="2022-06-01")
    repo.commit("step16", pickled, date="2024-06-01")
    workspace = suite.study(tmp_path / "study", hub, suite.row(steps=[0, 1, 8, 16, 32, 64, 128]))
    assert "Audit: 3 error, " in suite.lock(workspace)

    told = workspace.snakemake("--cores", "1", check=False)
    assert told.returncode != 0
    assert "audit stops the study: " in told.stdout and "Traceback" not in told.stdout
    assert workspace.cells() == [] and suite.fetched(workspace) == []

    shown = workspace.snakemake("--cores", "1", "audit").stdout
    table = pd.read_csv(
        workspace.path / "results/small/checkpoint_audit.tsv", sep="\t", keep_default_na=False
    )
    found = {(row.finding, row.steps): row.action for row in table.itertuples()}
    assert found == {
        ("duplicate", "0 1"): "stop",
        ("equal_to_main", "8"): "stop",
        ("no_tokenizer", "32"): "stop",
        ("config_changed", "64"): "warn",
        ("formats_disagree", "16"): "warn",
        ("remote_code", "64"): "warn",
    }
    assert "equal_to_main" in shown and "Audit: 3 error" in shown

    with workspace.edited("config.yaml") as config:
        allow = {"finding": "duplicate", "steps": [0, 1], "reason": "the first step learns nothing"}
        config["audit"] = {"equal_to_main": "drop", "no_tokenizer": "drop", "allow": [allow]}
    workspace.run("metrics")
    scored = {path.parent.name for path in workspace.cells()}
    assert scored == {"step0", "step1", "step16", "step64", "step128"}
    assert not list(workspace.path.rglob("modeling_x.py"))
    # Equal weights are one identity: scored once, copied for the other step.
    assert len(list((workspace.path / "cells").glob("[!.]*.parquet"))) == 4 * 2


def test_a_moved_branch_is_reported_and_not_followed(tmp_path: Path, hub: FakeHub, weights: Path) -> None:
    repo = suite.publish(hub, weights)
    workspace = suite.study(tmp_path / "study", hub, suite.row(steps=[8, 16]))
    suite.lock(workspace)
    lock = workspace.path / "config.lock.json"
    before = json.loads(lock.read_text())["models"]["tiny-1m"]["checkpoints"]["step8"]
    old = repo.branches["step8"]
    new = repo.commit("step8", suite.checkpoint_files(weights / "moved", scale=5.0))
    told = suite.lock(workspace)
    assert f"step8 moved from {old[:12]} to {new[:12]}; the lock keeps the old commit" in told
    after = json.loads(lock.read_text())["models"]["tiny-1m"]["checkpoints"]["step8"]
    assert after == {**before, "moved": new}
    workspace.run("metrics", "audit")
    assert hub.count(f"/{suite.REPO}/resolve/{old}/model.safetensors") == 1
    assert hub.count(f"/{suite.REPO}/resolve/{new}/.*") == 0
    audit = pd.read_csv(workspace.path / "results/small/checkpoint_audit.tsv", sep="\t")
    assert list(audit["finding"]) == ["moved"]


def test_a_missing_revision_is_a_gap_and_no_crash(tmp_path: Path, hub: FakeHub, weights: Path) -> None:
    repo = suite.publish(hub, weights)
    series = {
        "title": "A suite",
        "sources": ["a test"],
        "confirmed": ["repositories"],
        "formats": ["safetensors"],
        "bos": "never",
        "revisions": ["step{step}"],
        "steps": [0, 1, 8, 16, 32],
        "tokens_per_step": 1024,
        "models": {"tiny-1m": {"repo": suite.REPO, "nominal": 1_000_000}},
    }
    repo.remove_branch("step8")
    workspace = suite.study(tmp_path / "study", hub, {"series": "suite.yaml", "steps": "log2"})
    workspace.write_yaml("suite.yaml", series)
    suite.lock(workspace)
    workspace.run("metrics", "audit")
    assert sorted({p.parent.name for p in workspace.cells()}) == ["step16", "step32"]
    audit = pd.read_csv(workspace.path / "results/small/checkpoint_audit.tsv", sep="\t", dtype=str)
    assert audit[["finding", "action", "steps"]].to_numpy().tolist() == [["missing", "drop", "8"]]


def test_a_word_of_the_command_line_does_not_go_round_the_audit(
    tmp_path: Path, hub: FakeHub, weights: Path
) -> None:
    repo = suite.publish(hub, weights)
    repo.commit("step8", {"model.safetensors": repo.file("main", "model.safetensors").path})
    workspace = suite.study(tmp_path / "study", hub)
    suite.lock(workspace)
    for arguments in (["all", "audit"], ["--forcerun", "audit"]):
        done = workspace.snakemake("-n", *arguments, check=False)
        assert done.returncode != 0
        assert "audit stops the study: equal_to_main" in done.stdout


def test_a_dead_hub_loses_nothing(tmp_path: Path, hub: FakeHub, weights: Path) -> None:
    suite.publish(hub, weights)
    workspace = suite.study(tmp_path / "study", hub, suite.row(steps=[8, 16]))
    suite.lock(workspace)
    hub.fail(f"/{suite.REPO}/resolve/.*/model.safetensors", [429, 503], retry_after=0)
    workspace.run("--until", "score")  # 429 and 503, then success
    assert len(workspace.cells()) == 4
    with workspace.edited("config.yaml") as config:
        config["models"] = [suite.row(steps=[8, 16, 32])]
    suite.lock(workspace)
    locked = (workspace.path / "config.lock.json").read_text()
    hub.close()
    workspace.env["EBBTIDE_BACKOFF"] = "0.01"
    shutil.rmtree(workspace.path / "results/small", ignore_errors=True)
    done = workspace.snakemake("--cores", "2", "--keep-going", "metrics", check=False)
    assert done.returncode != 0
    assert "cannot connect" in done.stdout.lower() or "connection" in done.stdout.lower()
    assert "run the same command again" in done.stdout
    assert len(workspace.cells()) == 4
    failed = suite.lock(workspace, check=False)
    assert "run the same command again" in failed
    assert (workspace.path / "config.lock.json").read_text() == locked
