"""The catalogue's Pythia on the loopback hub, with the defects that are reported of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebbtide.checkpoints.hub.client import Hub
from ebbtide.checkpoints.hub.resolve import lock_study
from ebbtide.errors import ConfigError
from ebbtide.schema import read_yaml
from ebbtide.study.checks import check_checkpoints
from ebbtide.study.load import read_study
from ebbtide.study.study import Study
from hub import FakeHub
from workspace import ROOT

SERIES = read_yaml(ROOT / "workflow/series/pythia.yaml")
STEPS = [0, *(2**k for k in range(10)), *range(1000, 144_000, 1000)]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(tmp_path) as running:
        running.use(monkeypatch)
        monkeypatch.chdir(tmp_path)
        yield running


def publish(hub: FakeHub, model: str, steps: list[int], weights: Any, dtype: str = "float16") -> None:
    """Branches of a Pythia with files of weights by `weights(step)`; shapes are the true ones."""
    config = {**SERIES["models"][model]["architecture"], "torch_dtype": dtype}
    repo = hub.repo(f"EleutherAI/{model}")
    shared = {"config.json": json.dumps(config).encode(), "tokenizer.json": b"{}"}
    for step in [*steps, "main"]:
        files = {name: content.encode() for name, content in weights(step).items()}
        repo.commit(f"step{step}" if step != "main" else "main", {**shared, **files})


def study(model: str, steps: Any, **row: Any) -> Study:
    """A study of one Pythia, before or after locking."""
    rows = [{"series": "pythia", "sizes": [model], "steps": steps, **row}]
    text = {"study": "s", "models": rows, "tasks": [str(ROOT / "workflow/tasks/memo_trap_proverbs.yaml")]}
    Path("s.yaml").write_text(json.dumps(text))
    return read_study("s.yaml")


def locked(model: str, steps: Any, **row: Any) -> Study:
    asked = study(model, steps, **row)
    with pytest.raises(
        ConfigError,
        match=r"s\.lock\.json does not exist; run `snakemake lock --cores 1` with the same --configf",
    ):
        check_checkpoints(asked)
    assert lock_study(asked.hub, Hub(), asked.lock_file) == []
    return study(model, steps, **row)


def own(step: Any) -> dict[str, str]:
    return {"model.safetensors": f"weights of {143_000 if step == 'main' else step}"}


def test_a_clean_suite_of_154_checkpoints(hub: FakeHub) -> None:
    """Step 1 equals step 0, as its thread says: allowed with its reason, and nothing else is found."""
    publish(hub, "pythia-70m", STEPS, lambda step: own(0 if step == 1 else step))
    found = locked("pythia-70m", "all")
    assert [(f.finding, f.steps, f.severity) for f in found.findings] == [("duplicate", (0, 1), "allowed")]
    assert "EleutherAI/pythia#83" in found.findings[0].reason
    check_checkpoints(found)
    grid = found.models["pythia-70m"].checkpoints
    assert [c.step for c in grid] == STEPS
    assert (grid[-1].tokens, grid[-1].nominal, grid[-1].dtype) == (299_892_736_000, 70_000_000, "float16")
    assert grid[0].weights == grid[1].weights != grid[2].weights
    # One question for the list of branches, two (listing, configuration) for what is new.
    assert len(hub.requests) == 1 + len(STEPS) + 1 + 1


def test_the_papers_schedule_takes_eight(hub: FakeHub) -> None:
    publish(hub, "pythia-160m", STEPS, own)
    found = locked("pythia-160m", "log2")
    assert [c.step // 1000 for c in found.checkpoints()] == [2, 4, 8, 16, 32, 64, 128, 143]


def test_final_weights_on_86_branches_and_the_format_that_is_clean(hub: FakeHub) -> None:
    """As reported of pythia-2.8b (EleutherAI/pythia#205): 76 branches equal to main, 10 to one another."""
    [reported] = [d["steps"] for d in SERIES["defects"] if d["thread"].endswith("#205")]
    final, other = reported[:76], reported[76:]

    def weights(step: Any) -> dict[str, str]:
        kind = "143000" if step in (*final, "main") else "late" if step in other else str(step)
        return {"model.safetensors": f"weights of {kind}", "pytorch_model.bin": f"pickle of {own(step)}"}

    publish(hub, "pythia-2.8b", STEPS, weights)
    found = locked("pythia-2.8b", "all", format="safetensors")
    errors = {f.finding: f.steps for f in found.findings if f.severity == "error"}
    assert errors == {"equal_to_main": tuple(final), "duplicate": tuple(other)}
    with pytest.raises(ConfigError, match=r"audit stops the study: .*; and 1 more\."):
        check_checkpoints(found)
    clean = study("pythia-2.8b", "all", format="bin")
    assert not [f for f in clean.findings if f.severity == "error"]
    check_checkpoints(clean)
    assert len(list(clean.checkpoints())) == 154


def test_mixed_shards_and_holes_of_the_grid(hub: FakeHub) -> None:
    """As reported of pythia-12b (#206): the first shard of steps 50000 and 58000 is the last checkpoint's."""

    def weights(step: Any) -> dict[str, str]:
        last = 143_000 if step == "main" else step
        first = 143_000 if step in (50_000, 58_000) else last
        shards = {
            f"pytorch_model-0000{n}-of-00002.bin": f"shard {n} of {k}" for n, k in ((1, first), (2, last))
        }
        index = {"weight_map": dict(zip("ab", shards, strict=True))}
        return {"pytorch_model.bin.index.json": json.dumps(index)} | shards

    publish(hub, "pythia-12b", [s for s in STEPS if s != 71_000], weights)
    found = locked("pythia-12b", {"every": 1000}, format="bin")
    rows = {(f.finding, f.steps) for f in found.findings if f.severity in ("error", "warning")}
    assert rows == {
        ("mixed_shards", (50_000,)),
        ("mixed_shards", (58_000,)),
        ("missing", (71_000,)),
        ("defect", (50_000, 58_000)),
    }


def test_a_repository_that_holds_another_model(hub: FakeHub) -> None:
    publish(hub, "pythia-70m", [1000, 2000], own)
    hub.repos["EleutherAI/pythia-31m"] = hub.repos.pop("EleutherAI/pythia-70m")
    found = locked("pythia-31m", [1000])
    [finding] = [f for f in found.findings if f.severity == "error"]
    assert finding.finding == "shape"
    assert "implies 70,426,624 parameters (18,915,328 without embeddings)" in finding.detail
    assert "the catalogue implies 30,494,720 (4,739,072)" in finding.detail


def test_the_shipped_study_of_pythia_waits_for_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shipped = read_study("studies/pythia_small.yaml")
    assert shipped.unlocked == ("pythia-70m", "pythia-160m")
