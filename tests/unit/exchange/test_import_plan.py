"""The rows of `imported` that are printed for files can be pasted into a study."""

from pathlib import Path

import pytest
import yaml

from ebbtide.cli import main
from ebbtide.errors import ConfigError
from ebbtide.exchange.imports import import_results
from ebbtide.exchange.plan import plan
from ebbtide.exchange.specification import files_read
from ebbtide.study.load import read_study
from lm_eval_files import curve_lines, generated_line, write_run


def test_the_plan_of_samples_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for step in (1000, 2000):
        tasks = {"t": curve_lines(4, 2), "gsm8k": [generated_line(0)]}
        write_run(Path(f"runs/{step}"), f"pretrained=EleutherAI/pythia-70m,revision=step{step}", tasks)
    assert main(["import-plan", "runs"]) == 0
    text = capsys.readouterr().out
    Path("study.yaml").write_text("study: pasted\n" + text)
    study = read_study("study.yaml")
    samples, results = study.imported
    assert samples["files"] == ["runs/**/samples_t_*.jsonl"] and results["tasks"] == {"gsm8k": "gsm8k"}
    [model] = samples["models"]
    assert model["tokens_per_step"] == 2097152 and model["parameters"]["nominal"] == 70_000_000
    found = import_results(study.imported).metrics
    assert set(found["task"]) == {"t", "gsm8k"} and set(found["step"]) == {1000, 2000}
    assert "# left out: 2 files of samples of generated text" in text
    assert "# pythia-70m: 2 steps (1000, 2000); name from series pythia; steps from revision" in text
    assert "# means only: no alarms, trends or forgetting" in text
    assert study.has_samples() and study.has_examples()


def test_a_plan_of_unknown_models_says_what_is_missing(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "pretrained=/x/run/step1", {"t": curve_lines(4, 2)})
    write_run(tmp_path / "b", "pretrained=/y/run/step2", {"t": curve_lines(4, 2)})
    text = plan([tmp_path])
    [row] = yaml.safe_load(text)["imported"]
    assert [m["name"] for m in row["models"]] == ["x-run", "y-run"]
    assert "# x-run: training tokens are unknown; set tokens_per_step" in text
    assert set(import_results([row]).metrics["model"]) == {"x-run", "y-run"}
    write_run(tmp_path / "c", "pretrained=lab/run", {"t": curve_lines(4, 2)})
    text = plan([tmp_path])
    assert "# could not infer: " in text and "Set the step of 'main' under imported[].steps." in text
    assert yaml.safe_load(text)["imported"]


def test_a_plan_of_tables_guesses_the_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Model,Step,Task,Score\nm,1,t,0.5\nm,2,t,0.6\n")
    (tmp_path / "odd.csv").write_text("who,score\nm,0.5\n")
    text = plan([tmp_path])
    [row] = yaml.safe_load(text)["imported"]
    assert row["columns"] == {"model": "Model", "step": "Step", "task": "Task", "value": "Score"}
    assert len(import_results([row]).metrics) == 2
    assert "odd.csv: could not infer the columns of model, task, step or revision (found: who, score)" in text
    assert "# metric: no column names it; accuracy is assumed" in text


def test_nothing_to_import_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found nothing to import"):
        plan([tmp_path])
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        plan([tmp_path / "nowhere"])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"not recognised: .*notes\.txt"):
        plan([tmp_path / "notes.txt"])


def test_a_study_of_samples_has_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts are a directory, since its models are known only once the samples are read."""
    monkeypatch.chdir(tmp_path)
    write_run(Path("run"), "pretrained=EleutherAI/pythia-70m,revision=step1000", {"t": curve_lines(4, 2)})
    Path("study.yaml").write_text(
        "study: s\nalarms: {baseline: pythia-70m/step1000}\n"
        "imported: [{format: lm_eval_samples, files: [run/samples_*]}]\n"
    )
    study = read_study("study.yaml")
    assert study.has_examples() and study.parts("metrics") == []
    assert study.parts("examples") == ["results/s/imported/examples"]
    read = [Path(path).name.split("_")[0] for path in files_read(study.imported)]
    assert read == ["results", "samples"]  # an edit of either imports again
    Path("study.yaml").write_text("study: s\nimported: [{format: lm_eval_results, files: [run/results_*]}]\n")
    assert not read_study("study.yaml").has_examples()
