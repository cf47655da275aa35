"""`ebbtide init`: studies for what is found, which load; clear errors for everything else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import formats
import tiny
from ebbtide import cli
from ebbtide.checkpoints.discovery import row_of_repository, series_names, series_of_repository
from ebbtide.checkpoints.hub.fetched import Fetched, write_fetched
from ebbtide.errors import CheckpointError
from ebbtide.study.load import read_study


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def checkpoints(*paths: str) -> None:
    for number, path in enumerate(paths):  # the weights of a checkpoint are its number
        tiny.hollow_checkpoint(Path(path), number)


def init(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert cli.main(["init", *arguments]) == status
    shown = capsys.readouterr()
    return shown.err if status else shown.out


def grid(file: str) -> dict[str, list[str]]:
    study = read_study(file)
    return {name: [c.name for c in model.checkpoints] for name, model in study.models.items()}


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["runs/a/checkpoint-500", "runs/a/checkpoint-1000"], {"a": ["step500", "step1000"]}),
        (["runs/iter_0000100", "runs/iter_0000200"], {"runs": ["step100", "step200"]}),
        (["runs/global_step8/hf", "runs/global_step16/hf"], {"hf": ["step8", "step16"]}),
        (["runs/step1-tokens4M", "runs/step2-tokens8M"], {"runs": ["step1", "step2"]}),
        (["runs/1000", "runs/2000"], {"runs": ["step1000", "step2000"]}),
        (["runs/run-1/step5", "runs/run-2/step5"], {"run-1": ["step5"], "run-2": ["step5"]}),
        (["runs/mine-70m", "runs/mine-160m"], {"mine-70m": ["main"], "mine-160m": ["main"]}),
        (["runs/pythia-70m", "runs/mine"], {"pythia-70m-disk": ["main"], "mine": ["main"]}),
        (["runs/x y/step1", "runs/x-y/step1"], {"x-y": ["step1"], "x-y-2": ["step1"]}),
        (["runs/it's: #1/step1"], {"it-s-1": ["step1"]}),
    ],
)
def test_runs_are_found_by_the_steps_in_their_paths(
    paths: list[str], found: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints(*paths)
    shown = init(capsys, "runs")
    assert sorted(grid("studies/runs.yaml").items()) == sorted(found.items())
    assert shown.endswith("  snakemake -n --quiet rules --configfile studies/runs.yaml\n")
    assert "snakemake lock" not in shown


def test_a_name_that_another_model_has_is_not_used(capsys: pytest.CaptureFixture[str]) -> None:
    """The cells of two models of one name would replace each other in results/scores."""
    checkpoints("runs/a/step1", "runs/ladder-d8/step1", "runs/b/step1")
    for taken in ("a", "a-disk"):
        Path("results/scores", taken).mkdir(parents=True)
    shown = init(capsys, "runs")
    assert list(grid("studies/runs.yaml")) == ["a-disk-2", "b", "ladder-d8-disk"]
    reasons = (
        "named a-disk-2, because results/scores/a has cells of a model a",
        "named ladder-d8-disk, because the series ladder has a model ladder-d8",
    )
    for reason in reasons:
        assert f"  {reason}\n" in shown
        assert f"  # {reason}\n" in Path("studies/runs.yaml").read_text()
    assert row_of_repository("owner/a", ["main"]).values["name"] == "a-hub"


def test_checkpoints_that_ebbtide_made_are_those_of_a_series(capsys: pytest.CaptureFixture[str]) -> None:
    directory = Path("resources/checkpoints/ladder-d8/step16")
    checkpoints(str(directory))
    (directory / "checkpoint.json").write_text(json.dumps({"of": "another program"}))
    init(capsys, "resources/checkpoints", "--to", "other.yaml")
    (directory / "checkpoint.json").write_text(json.dumps({"weights": "0", "files": {"config.json": "0"}}))
    shown = init(capsys, str(directory.parent), status=2)
    assert shown == (
        f"ConfigError: {directory}: found a checkpoint that Ebbtide trained, averaged or converted (model "
        "ladder-d8 of the series ladder); allowed: checkpoints of other programs. For a study of the series, "
        "run: ebbtide init ladder\n"
    )
    (directory / "checkpoint.json").unlink()
    fetched = Fetched("EleutherAI/pythia-70m", "step1", "0", "safetensors", "0", "0", False, "float16", 1, {})
    write_fetched(fetched, directory)
    shown = init(capsys, str(directory), status=2)
    assert "that Ebbtide fetched (EleutherAI/pythia-70m, model pythia-70m of the series pythia); all" in shown
    assert shown.endswith("run: ebbtide init pythia\n")
    assert not Path("studies").exists()


def test_distributed_checkpoints_are_found_with_the_only_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for step in (5, 10):
        formats.dcp(Path(f"runs/iter_{step:07d}"), formats.tensors_of("llama", step / 5))
    shown = init(capsys, "runs", status=2)
    assert "runs/iter_{step} has distributed checkpoints, but there is no config.json, or several" in shown
    formats.beside(Path("runs/model"), "llama")
    shown = init(capsys, "runs")
    assert "runs: 2 distributed checkpoints, converted once\n" in shown
    assert grid("studies/runs.yaml") == {"runs": ["step5", "step10"]}
    text = Path("studies/runs.yaml").read_text()
    assert "format: dcp" in text and "config: runs/model" in text and "tokenizer: runs/model" in text


def test_adapters_are_found_with_the_base_that_they_name(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    tiny.checkpoint(Path("models/base"))
    factors = {"a": np.ones((2, 16), np.float32), "b": np.ones((48, 2), np.float32)}
    names = [f"base_model.model.gpt_neox.layers.{n}.attention.query_key_value.lora_" for n in (0, 1)]
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["query_key_value"]}
    for step in (5, 10):
        folder = Path(f"tuning/checkpoint-{step}")
        folder.mkdir(parents=True)
        tensors = {f"{n}{part.upper()}.weight": step * t for n in names for part, t in factors.items()}
        save_file(tensors, folder / "adapter_model.safetensors")
        text = json.dumps({**settings, "base_model_name_or_path": "org/base"})
        (folder / "adapter_config.json").write_text(text)
    shown = init(capsys, "tuning", status=2)
    assert "tuning/checkpoint-{step} has adapters of org/base, which is not a directory here" in shown
    for file in Path("tuning").glob("*/adapter_config.json"):
        file.write_text(json.dumps({**settings, "base_model_name_or_path": "models/base"}))
    shown = init(capsys, "tuning")
    assert "tuning: 2 adapters, converted once\n" in shown
    assert grid("studies/tuning.yaml") == {"tuning": ["step5", "step10"]}
    text = Path("studies/tuning.yaml").read_text()
    assert "format: peft" in text and "base: models/base" in text


def test_a_study_says_what_it_found_and_what_it_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints("runs/a/step1", "runs/a/step2", "last")
    for file in Path("last").iterdir():
        shutil.copy(file, Path("runs/a") / file.name)
    Path("runs/a/step3").mkdir()
    shutil.copy("last/config.json", "runs/a/step3")
    Path("runs/a/step4").mkdir()
    shown = init(capsys, "runs", "--to", "mine.yaml")
    text = Path("mine.yaml").read_text()
    for reason in (
        "runs/a/step3 has no safetensors",
        "runs/a/step4 has no config.json",
        "runs/a has weights, but no step in its path",
    ):
        assert f"  not in the study: {reason}\n" in shown
        assert f"  # Not here: {reason}\n" in text
    assert "  # 2 checkpoints, step 1 to 2, 0.0 MB each" in text
    assert "steps: [1, 2]  # all, last, log2" in text
    assert "tokens_per_step: 0  # unknown: set batch size" in text
    assert "study: mine\n" in text and "mine.yaml              what would run" in text
    assert "my-model" not in text, "the template's own model is replaced"


def test_tokens_per_step_are_those_that_a_trainer_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints("runs/checkpoint-5", "runs/checkpoint-10")
    for step in (5, 10):
        state = {"global_step": step, "num_input_tokens_seen": step * 4096}
        Path(f"runs/checkpoint-{step}/trainer_state.json").write_text(json.dumps(state))
    init(capsys, "runs")
    assert [c.tokens for c in read_study("studies/runs.yaml").checkpoints()] == [5 * 4096, 10 * 4096]
    state = {"global_step": 10, "num_input_tokens_seen": 10 * 4096 + 1}  # the batch was changed
    Path("runs/checkpoint-10/trainer_state.json").write_text(json.dumps(state))
    init(capsys, "runs", "--to", "other.yaml")
    assert [c.tokens for c in read_study("other.yaml").checkpoints()] == [0, 0]


def test_the_only_tokenizer_is_used_where_checkpoints_have_none(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints("runs/a/step1")
    Path("runs/words").mkdir()
    for file in Path("runs/a/step1").glob("*token*"):
        file.rename(Path("runs/words") / file.name)
    init(capsys, "runs")
    assert "tokenizer: runs/words  # the only tokenizer.json" in Path("studies/runs.yaml").read_text()


def test_a_file_is_never_overwritten_and_a_bad_study_is_not_left(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints("runs/a/step1")
    Path("mine.yaml").write_text("mine\n")
    shown = init(capsys, "runs", "--to", "mine.yaml", status=2)
    assert "--to: mine.yaml exists, and is left as it is" in shown
    assert Path("mine.yaml").read_text() == "mine\n"
    Path("runs/a/step1/tokenizer.json").unlink()
    shown = init(capsys, "runs", "--to", "other.yaml", status=2)
    assert "tokenizer.json" in shown and not Path("other.yaml").exists()


def test_nothing_to_find_says_what_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert "empty: found no checkpoint; allowed: a directory that has" in init(capsys, "empty", status=2)
    (Path("empty") / "config.json").write_text("{}")
    shown = init(capsys, "empty", status=2)
    assert "empty: found no checkpoint (empty has no safetensors); allowed" in shown
    shown = init(capsys, "pythai", status=2)
    assert "found 'pythai', which is not a directory" in shown and "did you mean 'pythia'" in shown
    assert not Path("studies").exists()


@pytest.mark.parametrize("name", series_names())
def test_every_series_makes_a_study(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = init(capsys, name)
    study = read_study(f"studies/{name}.yaml")
    assert len(study.models) >= 1
    assert ("snakemake lock" in shown) == bool(study.unlocked)


def test_a_repository_of_a_series_needs_no_network(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    init(capsys, "EleutherAI/pythia-160m", "--to", "p.yaml")
    assert list(read_study("p.yaml").models) == ["pythia-160m"]
    assert series_of_repository("owner/none") is None


def test_branches_of_a_repository(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = dict.fromkeys(
        ["main", "stage1-step100-tokens1B", "stage1-step200-tokens2B", "step9", "v1.0"], "0" * 40
    )
    monkeypatch.setattr("ebbtide.checkpoints.hub.client.Hub.refs", lambda self, repo: refs)
    shown = init(capsys, "owner/name")
    text = Path("studies/name.yaml").read_text()
    assert (
        '    revision: "stage1-step{step}-tokens{any}"' in text
        or "revision: stage1-step{step}-tokens{any}" in text
    )
    assert "name: 2 steps, 100 to 200\n  not in the study: step{step} (1 step)\n" in shown
    assert "  snakemake lock --cores 1 --configfile studies/name.yaml\n" in shown
    only = row_of_repository("owner/name", ["main", "v2"])
    assert only.values == {"name": "name", "repo": "owner/name", "revision": "main"}


def test_a_hub_that_cannot_be_reached_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise CheckpointError("the hub is down.")

    monkeypatch.setattr("ebbtide.checkpoints.hub.client.Hub.refs", refuse)
    assert init(capsys, "owner/name", status=2) == "CheckpointError: the hub is down.\n"
    assert not Path("studies").exists()
