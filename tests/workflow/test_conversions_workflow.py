"""A study of checkpoints in other formats: each is converted once, and a change converts what it concerns."""

import json
import shutil
from pathlib import Path

import pytest

import formats
import tiny
from workspace import ROOT, Workspace

pytestmark = pytest.mark.slow

STEPS = (10, 20)
JOBS = ("convert", "score", "measure")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two models: distributed checkpoints with a map of the study's own, and a Hugging Face directory."""
    made = Workspace(tmp_path_factory.mktemp("conversions"))
    for step in STEPS:
        add(made, step)
    tiny.hollow_checkpoint(made.path / "other/step5")
    shutil.copy(ROOT / "workflow/formats/huggingface.yaml", made.path / "mine.yaml")
    toy = {"toy": "fact_qa", "world": {"seed": 0, "proverbs": 24, "zipf": 0.7}, "examples": 8, "seed": 0}
    made.write_yaml("toy.yaml", {"title": "Toy", "source": toy})
    row = {"name": "run", "path": "run/iter_{step:07d}", "steps": "all", "tokens_per_step": 1000}
    other = {"name": "other", "path": "other/step{step}", "steps": "all", "tokens_per_step": 1000}
    study = {
        "study": "conversions",
        "models": [{**row, "format": "dcp", "map": "mine.yaml", "config": "run"}, other],
        "tasks": ["toy.yaml"],
        "scoring": {"backend": "fake"},
    }
    made.write_yaml("config.yaml", study)
    made.run("--until", "measure")
    return made


def add(study: Workspace, step: int) -> None:
    state = {"model": formats.tensors_of("llama", 1 + step / 100)}
    formats.dcp(formats.beside(study.path / "run", "llama") / f"iter_{step:07d}", state)


def planned(study: Workspace) -> dict[str, int]:
    jobs = study.planned()
    return {name: jobs[name] for name in JOBS if name in jobs}


def test_every_checkpoint_is_converted_and_the_study_says_so(study: Workspace) -> None:
    made = sorted(study.path.glob("resources/checkpoints/run/*/converted-*/model.safetensors"))
    assert len(made) == len(STEPS)
    assert planned(study) == {}
    logs = [log.read_text() for log in study.path.glob("logs/convert/run/*.log")]
    assert len(logs) == len(STEPS) and all("20 tensors in float32 from run/iter_" in log for log in logs)


def test_a_new_checkpoint_is_converted_alone_and_conversions_can_be_deleted(study: Workspace) -> None:
    add(study, 30)
    assert planned(study) == {"convert": 1, "score": 1, "measure": 1}
    study.run("--until", "measure")
    assert planned(study) == {}
    for directory in study.path.glob("resources/checkpoints/run/*/converted-*"):
        shutil.rmtree(directory)
    assert planned(study) == {}


def test_another_map_converts_and_scores_its_model_again(study: Workspace) -> None:
    before = planned(study)
    with study.edited("mine.yaml") as content:
        content["title"] = "Another title"
        content["tensors"].append({"from": "x.{layer}", "to": "y.{layer}"})  # no model here has it
    assert planned(study) == before == {}
    with study.edited("mine.yaml") as content:
        content["tensors"][0]["add"] = 0.5
    checkpoints = len(list(study.path.glob("run/iter_*")))
    assert planned(study) == {"convert": checkpoints, "score": checkpoints, "measure": checkpoints}


def test_a_map_that_does_not_fit_stops_the_study(study: Workspace) -> None:
    with study.edited("mine.yaml") as content:
        content["tensors"] = [rule for rule in content["tensors"] if rule["from"] != "{name}"]
        content["tensors"].append({"from": "model.{name}.weigth", "to": "model.{name}.weight"})
    told = study.snakemake("--dry-run", check=False)
    assert told.returncode == 2
    assert "not_converted" in told.stdout
    assert "(map mine.yaml, llama): no rule fits a name of the checkpoint" in told.stdout


@pytest.fixture
def own(study: Workspace, tmp_path: Path) -> Workspace:
    """The distributed checkpoints alone, of which one and a half fit the budget."""
    shutil.copytree(study.path / "run", tmp_path / "study/run")
    shutil.rmtree(tmp_path / "study/run/iter_0000030", ignore_errors=True)
    own = Workspace(tmp_path / "study")
    for name in ("toy.yaml", "config.yaml"):
        shutil.copy(study.path / name, own.path)
    known = json.loads((study.path / "resources/checkpoints/run/step10/source.json").read_text())
    with own.edited("config.yaml") as content:
        content["models"] = [{**content["models"][0], "map": "huggingface"}]
        content["weights"] = {"keep": "none", "disk_gb": 1.5 * known["disk_bytes"] / 1e9}
    return own


def test_conversions_pass_through_the_disk_budget(own: Workspace) -> None:
    """Each is converted, scored and removed, and made again for a new task."""
    assert planned(own) == {"convert": 2, "score": 2, "measure": 2}
    own.run("--until", "measure")
    assert len(list(own.path.glob("logs/convert/run/*.log"))) == 2
    assert conversions(own) == []
    assert planned(own) == {}

    toy = own.read_yaml("toy.yaml")
    own.write_yaml("other.yaml", {**toy, "title": "Other", "source": {**toy["source"], "seed": 1}})
    with own.edited("config.yaml") as content:
        content["tasks"].append("other.yaml")
        content["weights"] = {"keep": 1, "disk_gb": 2 * content["weights"]["disk_gb"]}
    assert planned(own) == {"convert": 2, "score": 2, "measure": 2}
    own.run("--until", "measure")
    [last] = conversions(own)
    assert last.parent.name == "step20"

    shutil.rmtree(
        own.path / "run/iter_0000020"
    )  # the trainer has deleted it: the conversion is the only copy
    own.write_yaml("third.yaml", {**toy, "title": "Third", "source": {**toy["source"], "seed": 2}})
    with own.edited("config.yaml") as content:
        content["tasks"].append("third.yaml")
        content["weights"]["keep"] = "none"
    assert planned(own) == {"convert": 1, "score": 2, "measure": 2}
    own.run("--until", "measure")
    assert conversions(own) == [last]


def test_a_budget_below_one_conversion_is_an_error_before_anything_runs(own: Workspace) -> None:
    with own.edited("config.yaml") as content:
        content["weights"]["disk_gb"] = 1e-6
    told = own.snakemake("--dry-run", check=False)
    assert told.returncode == 2
    assert "weights.disk_gb: found 1e-06, but run/step" in told.stdout


def conversions(study: Workspace) -> list[Path]:
    return sorted(study.path.glob("resources/checkpoints/run/*/converted-*"))
