"""GGUF files and adapters, scored in a study: equal to the checkpoints that they stand for."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import tiny
from workspace import Workspace

peft = pytest.importorskip("peft", reason="the peer of merging adapters is the package peft")
pytest.importorskip("gguf", reason="GGUF files are dequantised by the package gguf")
from gguf_files import write_gguf  # noqa: E402 (it needs the package)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("adapted")]
STEPS = (10, 20)
FIELDS = {"choices": "choices", "gold": "answer_index"}
METRICS = "results/adapted/metrics.parquet"


def checkpoint(directory: Path, scale: float) -> Path:
    made = tiny.model("llama", vocabulary=tiny.BPE_VOCABULARY)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(scale)
    made.float().save_pretrained(directory)
    tiny.bpe().save_pretrained(directory)
    return directory


def adapter(directory: Path, base: Path, step: int) -> Any:
    """An adapter in the layout of a Trainer, and the model that PEFT makes of it and its base."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(step)
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM", init_lora_weights=False, r=2, target_modules=["q_proj", "down_proj"]
    )
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    model.save_pretrained(directory)
    (directory / "trainer_state.json").write_text("{}")
    return model.merge_and_unload()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("adapted"))
    place = workspace.path
    base = checkpoint(place / "base", 1.0)
    (place / "files").mkdir()
    for step in STEPS:
        original = checkpoint(place / f"original/step{step}", 1 + step / 100)
        write_gguf(original, place / f"files/ckpt-{step:04d}.gguf")
        merged = adapter(place / f"lora/checkpoint-{step}", base, step)
        merged.save_pretrained(place / f"merged/step{step}")
        tiny.bpe().save_pretrained(place / f"merged/step{step}")
    rows = [{"prompt": f"ab {n}", "choices": [" ab", " cd"], "answer_index": n % 2} for n in range(6)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (place / "choices.jsonl").write_text(text)
    source = {"file": "choices.jsonl", "sha256": hashlib.sha256(text.encode()).hexdigest()}
    workspace.write_yaml("tasks/choices.yaml", {"title": "choices", "source": source, "fields": FIELDS})
    common: dict[str, Any] = {"steps": "all", "tokens_per_step": 100}
    of_llama_cpp = {"format": "gguf", "tokenizer": "base"}
    workspace.write_yaml(
        "config.yaml",
        {
            "study": "adapted",
            "models": [
                {"name": "original", "path": "original/step{step}", **common},
                {"name": "files", "path": "files/ckpt-{step}.gguf", **of_llama_cpp, **common},
                {"name": "merged", "path": "merged/step{step}", **common},
                {
                    "name": "lora",
                    "path": "lora/checkpoint-{step}",
                    "format": "peft",
                    "base": "base",
                    **common,
                },
            ],
            "tasks": ["tasks/choices.yaml"],
            "scoring": {"dtype": "float32"},
        },
    )
    return workspace


def cells(study: Workspace, model: str) -> pd.DataFrame:
    found = [
        pd.read_parquet(study.path / f"results/scores/{model}/step{step}/choices.parquet") for step in STEPS
    ]
    return pd.concat(found, ignore_index=True)


def test_they_are_scored_as_what_they_stand_for(study: Workspace) -> None:
    planned = study.planned(METRICS)
    assert (planned["convert"], planned["score"]) == (4, 8)
    study.run(METRICS)
    pd.testing.assert_frame_equal(cells(study, "files"), cells(study, "original"), check_exact=True)
    pd.testing.assert_frame_equal(cells(study, "lora"), cells(study, "merged"), check_exact=True)
    assert study.planned(METRICS) == {}


def test_a_further_checkpoint_converts_and_scores_itself_alone(study: Workspace) -> None:
    adapter(study.path / "lora/checkpoint-30", study.path / "base", 30)
    planned = study.planned(METRICS)
    assert (planned["convert"], planned["score"]) == (1, 1)
    shutil.rmtree(study.path / "lora/checkpoint-30")
    shutil.rmtree(study.path / "resources/checkpoints/lora/step30")


def test_another_base_makes_other_checkpoints(study: Workspace) -> None:
    checkpoint(study.path / "base", 1.5)
    planned = study.planned(METRICS)
    # The adapters. GGUF files take only the tokenizer of it.
    assert (planned["convert"], planned["score"]) == (2, 2)


def test_what_cannot_be_converted_stops_the_study_before_anything_is_scored(study: Workspace) -> None:
    file = study.path / "files/ckpt-0020.gguf"
    whole = file.read_bytes()
    file.write_bytes(whole[:-64])
    done = study.snakemake("-n", METRICS, check=False)
    assert done.returncode != 0
    assert "ckpt-0020.gguf has" in done.stdout and "copy the file again" in done.stdout
    file.write_bytes(whole)
    with study.edited("config.yaml") as content:
        del content["models"][3]["base"]
    settings = study.path / "lora/checkpoint-10/adapter_config.json"
    settings.write_text(settings.read_text().replace(str(study.path / "base"), "meta/llama"))
    done = study.snakemake("-n", METRICS, check=False)
    assert done.returncode != 0
    assert "models[3].base: missing" in done.stdout and "names the base 'meta/llama'" in done.stdout
