"""Names, steps, training tokens and sizes of imported models, from what the files say."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ebbtide.errors import CellError
from ebbtide.exchange.imports import import_metrics, import_results
from ebbtide.exchange.merge import joined
from ebbtide.exchange.published import published, size_in_name
from ebbtide.exchange.steps import name_in, steps_in_path, steps_in_revision
from lm_eval_files import curve_lines, write_run


def write(directory: Path, model_args: Any, name: str = "results.json", **config: Any) -> Path:
    path = directory / name
    content = {"results": {"t": {"acc,none": 0.5}}, "config": {"model_args": model_args, **config}}
    path.write_text(json.dumps(content))
    return path


def imported(path: Path, **keys: Any) -> pd.Series:
    [row] = import_metrics({"format": "lm_eval_results", "files": [str(path)], **keys}).to_dict("records")
    return pd.Series(row)


@pytest.mark.parametrize(
    ("revision", "step"),
    [
        ("step2000", 2000),
        ("step_2000", 2000),
        ("step-1000", 1000),
        ("checkpoint-500", 500),
        ("iter_0001000", 1000),
        ("global_step1000", 1000),
        ("step1000-tokens2B", 1000),
        ("stage1-step1000-tokens5B", 1000),
        ("ckpt_1000", 1000),
        ("1000", 1000),
        ("step10k", 10000),
        ("10k", 10000),
        ("step0", 0),
    ],
)
def test_steps_of_revisions(revision: str, step: int, tmp_path: Path) -> None:
    assert [c.step for c in steps_in_revision(revision)] == [step]
    for args in (f"pretrained=lab/m,revision={revision}", f"pretrained=/runs/m/{revision}/"):
        row = imported(write(tmp_path, args))
        assert (row["model"], row["step"], row["checkpoint"]) == ("m", step, f"step{step}")


@pytest.mark.parametrize(
    "text", ["annealstep50", "step10_000", "step1.5k", "step10B", "v2", "20260101", "main"]
)
def test_what_is_not_certainly_a_step_is_none(text: str) -> None:
    assert steps_in_revision(text) == []


def test_the_last_component_of_a_path_decides(tmp_path: Path) -> None:
    row = imported(write(tmp_path, "pretrained=/data/annealstep50/run-1b/step2000"))
    assert (row["model"], row["step"], row["parameters_nominal"]) == ("run-1b", 2000, 1e9)
    assert imported(write(tmp_path, "pretrained=/runs/step500/tuned/step2000"))["step"] == 2000
    assert imported(write(tmp_path, "pretrained=/runs/m/checkpoint-500/hf"))["checkpoint"] == "step500"


@pytest.mark.parametrize(
    ("args", "candidates", "key"),
    [
        (
            "pretrained=/runs/m/step500,revision=step1000",
            "step 1000 in 'step1000' and step 500 in 'step500'",
            "step1000",
        ),
        ("pretrained=/runs/step500/3", "step 500 in 'step500' and step 3 in '3'", "/runs/step500/3"),
        (
            "pretrained=/runs/step5-checkpoint-7",
            "step 5 in 'step5-checkpoint-7' and step 7",
            "/runs/step5-checkpoint-7",
        ),
    ],
)
def test_two_steps_are_refused(args: str, candidates: str, key: str, tmp_path: Path) -> None:
    path = write(tmp_path, args)
    with pytest.raises(CellError, match=rf"results\.json: found {candidates}.*of '{key}' under study\.steps"):
        import_metrics({"format": "lm_eval_results", "files": [str(path)]}, "study")
    assert imported(path, steps={key: 77}, models=[{"name": "m", "match": "."}])["step"] == 77


def test_no_step_is_refused_with_the_last_one_of_the_series(tmp_path: Path) -> None:
    path = write(tmp_path, "pretrained=EleutherAI/pythia-1.4b")
    with pytest.raises(CellError) as error:
        import_metrics({"format": "lm_eval_results", "files": [str(path)]}, "study")
    assert str(error.value) == (
        f"CellError: {path}: found no step in the revision 'main' and the name 'EleutherAI/pythia-1.4b' (the "
        "last step of pythia-1.4b is 143000). Set the step of 'main' under study.steps."
    )
    row = imported(path, steps={"main": 143000})
    assert row["tokens"] == 143000 * 2097152


@pytest.mark.parametrize(
    ("args", "config", "expected"),
    [
        (
            "pretrained=EleutherAI/pythia-1.4b,revision=step3000",
            {},
            ("pythia-1.4b", "step3000", 3000 * 2**21, 1208602624),
        ),
        (
            "pretrained=pythia-1.4b",
            {"model_revision": "step3000"},
            ("pythia-1.4b", "step3000", 3000 * 2**21, 1208602624),
        ),
        (
            "pretrained=allenai/OLMo-2-1124-7B,revision=stage1-step1000-tokens5B",
            {},
            ("olmo2-7b", "step1000", 1000 * 2**22, 6476533760),
        ),
        ("pretrained=/mine/pythia-1.4b,revision=step3000", {}, ("pythia-1.4b", "step3000", 0, 0)),
        ("pretrained=lab/other,revision=step7", {"model_num_parameters": 123}, ("other", "step7", 0, 0)),
        ({"pretrained": "lab/base", "peft": "lab/tuned", "revision": "step7"}, {}, ("tuned", "step7", 0, 0)),
    ],
)
def test_models_of_the_catalogue_need_no_key(
    args: Any, config: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    row = imported(write(tmp_path, args, **config))
    assert tuple(row[["model", "checkpoint", "tokens", "parameters_non_embedding"]]) == expected
    assert row["parameters_total"] == config.get("model_num_parameters", row["parameters_total"])


def test_later_stages_are_checkpoints_of_their_own(tmp_path: Path) -> None:
    """Step 1000 of annealing is not step 1000 of pre-training."""
    args = "pretrained=allenai/OLMo-2-0425-1B,revision=stage2-ingredient1-step1000-tokens3B"
    row = imported(write(tmp_path, args))
    assert row["checkpoint"] == "ingredient1-step1000"
    assert row["tokens"] == 4000021741568 + 1000 * 2097152


def test_what_the_study_states_wins(tmp_path: Path) -> None:
    path = write(tmp_path, "pretrained=EleutherAI/pythia-1.4b,revision=step3000")
    models = [{"name": "pythia-1.4b", "tokens_per_step": 10, "parameters": {"non_embedding": 5}}]
    row = imported(path, models=models)
    assert (row["tokens"], row["parameters_non_embedding"], row["parameters_nominal"]) == (30000, 5, 0)
    assert imported(path, models=[{"name": "pythia-1.4b"}])["tokens"] == 3000 * 2097152


def test_two_models_with_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "pretrained=/a/run/step1", "results_1.json")
    write(tmp_path, "pretrained=/b/run/step2", "results_2.json")
    row = {"format": "lm_eval_results", "files": [f"{tmp_path}/results_*.json"]}
    with pytest.raises(
        CellError, match=r"found two models, a/run and b/run, that would both be called 'run'\."
    ):
        import_metrics(row)
    models = [{"name": "a", "match": "/a/"}, {"name": "b", "match": "/b/"}]
    assert set(import_metrics({**row, "models": models})["model"]) == {"a", "b"}
    with pytest.raises(CellError, match=r"Name them under imported\[1\]\.models, with match"):
        import_results([{**row, "files": [f"{tmp_path}/results_{n}.json"]} for n in (1, 2)])


def test_two_models_with_one_name_at_one_step_are_no_repeated_result(tmp_path: Path) -> None:
    for run in ("one", "two"):
        args = f"pretrained=/runs/{run}/global_step_100/actor/huggingface"
        write_run(tmp_path / run, args, {"t": curve_lines(4, 2)})
    row = {"format": "lm_eval_samples", "files": [f"{tmp_path}/*/samples_*"]}
    with pytest.raises(
        CellError,
        match=r"found two models, runs/one/global_step_100/actor and runs/two/global_step_100/actor, that",
    ):
        import_metrics(row)


def test_a_table_of_published_models_needs_no_models(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("model,step,task,value\nEleutherAI/pythia-70m,1000,t,0.5\n")
    columns = {name: name for name in ("model", "step", "task", "value")}
    row = {"format": "table", "files": [str(tmp_path / "t.csv")], "columns": columns, "metric": "accuracy"}
    [found] = import_metrics(row).to_dict("records")
    assert (found["model"], found["tokens"], found["parameters_nominal"]) == (
        "pythia-70m",
        2097152000,
        70000000,
    )


def test_names_and_sizes_in_names() -> None:
    assert name_in("/x/My Run!/iter_0000100") == ("My-Run", "x/My Run!")
    assert name_in("lab/model-step1000") == ("model", "lab/model")
    assert name_in("/step1/step2") is None
    assert (size_in_name("run-1.4b"), size_in_name("x-70m-2b"), size_in_name("a1b")) == (1400000000, 0, 0)
    assert published("EleutherAI/pythia-70m") and not published("/data/pythia-70m")
    assert not published("lab/pythia-70m")
    assert steps_in_path("owner/name") == []


def test_what_was_inferred_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "pretrained=EleutherAI/pythia-1.4b,revision=step3000")
    notices = import_results([{"format": "lm_eval_results", "files": [str(path)]}]).notices
    [inferred] = [n for n in notices if n.kind == "defaulted"]
    assert inferred.detail == (
        "imported[0]: inferred for 1 checkpoint: model from series pythia; step from revision, by series "
        "pythia; tokens from series pythia; parameters from series pythia."
    )
    assert "models[].tokens_per_step" in inferred.remedy


def test_unknown_chance_levels_are_said(tmp_path: Path) -> None:
    path = write(tmp_path, "pretrained=lab/other,revision=step7")
    imported = import_results([{"format": "lm_eval_results", "files": [str(path)]}]).metrics
    _, notices = joined(pd.DataFrame(columns=list(imported.columns)), imported)
    said = " ".join(n.detail for n in notices)
    assert "Chance level unknown of 1 imported task (t), so their heat maps" in said
