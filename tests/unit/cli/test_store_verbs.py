"""`verify` and `gc` on a small study of made-up cells: what they print, and that their remedies work."""

import inspect
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from ebbtide import cli
from ebbtide.cells import store
from ebbtide.cells.cell import check_cell, write_cell
from ebbtide.files import write_text
from ebbtide.jobs import verify
from ebbtide.jobs.freeze_task import freeze_task
from ebbtide.jobs.leads import cell_path, missing
from ebbtide.study.claim import claim_path
from ebbtide.study.load import read_study
from ebbtide.study.study import Study
from ebbtide.tables import REQUESTS, read_footer
from reading import flip
from task_data import json_lines, put

WORDS = [{"prompt": f"the {w}", "classes": [" old", " young"], "answer_index": 0} for w in ("lion", "child")]


def write_study(name: str, tasks: list[str], **scoring: Any) -> None:
    config = {
        "study": name,
        "models": [{"name": "m", "path": "run/step{step}", "steps": [1, 2]}],
        "tasks": [f"{task}.yaml" for task in tasks],
        "scoring": {"dtype": "float32", "load_once_per": "checkpoint", **scoring},
    }
    Path(f"{name}.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of two checkpoints and two tasks, with all cells in the store and in the results."""
    monkeypatch.chdir(tmp_path)
    for step in (1, 2):
        tiny.hollow_checkpoint(Path(f"run/step{step}"), step)
    for task in ("t1", "t2"):
        source = put(json_lines(WORDS if task == "t1" else WORDS[::-1]), f"{task}.jsonl")
        Path(f"{task}.yaml").write_text(yaml.safe_dump({"title": task, "source": source}))
    write_study("s", ["t1", "t2"])
    write_study("half", ["t1"])
    loaded = read_study("s.yaml")
    for name, task in loaded.tasks.items():
        freeze_task(str(task.file), task.frozen)
        for checkpoint in loaded.checkpoints():
            make(loaded, checkpoint, name)
    return loaded


def make(study: Study, checkpoint: Any, task: str) -> None:
    """Write a cell to the store and copy it."""
    frozen = read_footer(study.tasks[task].frozen, REQUESTS)
    rows = tiny.cell_rows(2, 2).assign(bytes=[4, 6] * 2, characters=[4, 6] * 2)
    sizes = {"parameters_total": 3, "parameters_non_embedding": 2}
    footer = {"requests": 4, "requests_sha256": frozen["content_sha256"], **sizes}
    path = stored(study, checkpoint, task)
    write_cell(rows, path, study.identity(checkpoint, task), footer)
    Path(cell_path(checkpoint, task)).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, cell_path(checkpoint, task))


def stored(study: Study, checkpoint: Any, task: str) -> Path:
    return store.path_of("cells", study.identity(checkpoint, task))


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def test_verify_finds_names_and_renames_damage(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", "s.yaml") == 0
    assert capsys.readouterr().out == "8 files checked, 8 good.\n"
    assert run("verify", "cells") == 0
    assert capsys.readouterr().out == "4 files checked, 4 good.\n"

    first, second = study.checkpoints()
    inside, copy = stored(study, first, "t1"), Path(cell_path(first, "t1"))
    foreign = stored(study, second, "t2")
    flip(inside, 100)
    flip(copy, 100)
    shutil.copy(stored(study, first, "t2"), foreign)
    assert run("verify", "s.yaml") == 2
    out, error = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "8 files checked, 5 good."
    assert lines[1] == "bytes (changed after it was written): 2 files"
    assert [line.split(":")[0] for line in lines[2:4]] == [f"  {inside}", f"  {copy}"]
    assert lines[4] == "identity (of another identity than its name or its study says): 1 file"
    assert lines[5].startswith(f"  {foreign}: weights is 'files:")
    assert error == "CellError: 3 of 8 files are damaged. Rename them with: ebbtide verify s.yaml --move\n"
    assert inside.exists()

    assert run(*error.split("ebbtide ")[1].split()) == 2
    out, error = capsys.readouterr()
    assert f"{inside} was renamed to {inside}.damaged" in out
    assert error == (
        "CellError: 3 of 8 files are damaged. To score or copy the cells that the results lack, run: "
        "snakemake --cores all --configfile s.yaml\n"
    )
    assert missing(study, first) == ["t1"]  # the next run scores it
    assert missing(study, second) == []  # this one still has its copy
    make(study, first, "t1")
    assert run("verify", "s.yaml") == 0
    assert capsys.readouterr().out == "7 files checked, 7 good.\n"


def test_whole_cells_of_another_definition_are_not_called_damaged(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another study with a model of this name replaced them in the results; the store has both."""
    first, second = study.checkpoints()
    copies = [Path(cell_path(checkpoint, "t1")) for checkpoint in (first, second)]
    for copy, checkpoint in zip(copies, (first, second), strict=True):
        shutil.copy(stored(study, checkpoint, "t2"), copy)
    assert run("verify", "s.yaml", "--move") == 2
    out, error = capsys.readouterr()
    lines = out.splitlines()
    assert lines[:2] == [
        "8 files checked, 6 good.",
        "2 files in the results: whole cells, but of another definition of the model, task or scoring, by "
        "another study or an earlier run",
    ]
    assert lines[2].startswith(f"  {copies[0]}: task is '") and len(lines) == 4
    assert error == (
        "CellError: 2 of 8 files are cells of another definition; none is damaged. To have those of this "
        "study in the results, run it again, which copies them from the store: snakemake --cores all "
        "--configfile s.yaml\n"
    )
    assert all(copy.exists() for copy in copies)
    stored(study, second, "t1").unlink()
    assert run("verify", "s.yaml") == 2
    assert "which copies 1 of them from the store and scores 1: snakemake" in capsys.readouterr().err

    flip(copies[0], 100)
    assert run("verify", "s.yaml") == 2
    assert "1 of 7 files are damaged. Rename" in capsys.readouterr().err


def test_the_remedies_of_verify_are_commands_for_what_was_checked(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ebbtide.scoring import rescore

    found = {"examples": 2, "requests": 4, "worst": "x", "beyond_rounding": 3, "largest_difference": 2.5}
    monkeypatch.setattr(rescore, "largest_difference", lambda *_, **__: found)
    Path("my study.yaml").write_text(Path("s.yaml").read_text())
    assert run("verify", "my study.yaml", "--rescore", "1", "--seed", "3") == 2
    assert capsys.readouterr().err.endswith(
        "Rename them with: ebbtide verify 'my study.yaml' --rescore 1 --seed 3 --move\n"
    )
    flip(stored(study, next(study.checkpoints()), "t1"), 100)
    assert run("verify", "cells", "--move") == 2
    assert capsys.readouterr().err.endswith(
        "The next run of each study of this store scores or copies the cells that its results lack.\n"
    )


def test_a_cell_that_a_run_has_written_since_it_was_inspected_is_not_renamed(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that scores a damaged cell again while others are inspected does not lose its work."""
    first, second = study.checkpoints()
    good, bad, gone = (stored(study, c, t) for c, t in ((first, "t1"), (first, "t2"), (second, "t1")))
    for path in (good, bad, gone):
        flip(path, 100)

    def run_meanwhile(found: Any) -> list[str]:
        make(study, first, "t1")
        gone.unlink()
        return move(found)

    move = verify.move
    monkeypatch.setattr(verify, "move", run_meanwhile)
    assert run("verify", "s.yaml", "--move") == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "meanwhile" in line] == [
        f"{path} was written or removed meanwhile, and is left as it is" for path in (good, gone)
    ]
    check_cell(good)
    assert not bad.exists()
    assert Path(f"{bad}.damaged").exists()


def test_cells_that_do_not_exist_yet_are_counted(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = next(study.checkpoints())
    stored(study, checkpoint, "t1").unlink()
    Path(cell_path(checkpoint, "t1")).unlink()
    assert run("verify", "s.yaml") == 0
    assert capsys.readouterr().out == "6 files checked, 6 good; 1 cell not scored yet.\n"


def test_rescoring_finds_made_up_rows(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sample is the same for the same seed; a cell beyond rounding is damage and can be renamed."""
    from ebbtide.scoring import rescore

    signature = inspect.signature(rescore.largest_difference)
    asked: list[tuple[str, str]] = []
    second = list(study.checkpoints())[1]

    def largest_difference(directory: Path, requests: str, rows: Any, **settings: Any) -> dict[str, Any]:
        signature.bind(directory, requests, rows, **settings)
        asked.append((Path(directory).name, Path(requests).name[:2]))
        wrong = asked[-1] == ("step2", "t1")
        assert not wrong or rows.equals(check_cell(stored(study, second, "t1"))[0])
        assert settings["dtype"] == "float32"
        found = {"examples": 2, "requests": 4, "worst": "example 0, choice 1", "beyond_rounding": 3 * wrong}
        return {**found, "largest_difference": 2.5 if wrong else 1e-6}

    monkeypatch.setattr(rescore, "largest_difference", largest_difference)
    assert run("verify", "s.yaml", "--rescore", "9", "--move") == 2
    out = capsys.readouterr().out
    assert sorted(asked) == [("step1", "t1"), ("step1", "t2"), ("step2", "t1"), ("step2", "t2")]
    assert "Sample of 9 cells with seed 0:\n" in out
    assert "rescored 2 examples of m/step1/t1: largest difference from float64 1e-06 nats\n" in out
    forged = stored(study, second, "t1")
    sentence = "3 of 4 requests of m/step2/t1 differ from float64, example 0, choice 1 by 2.5 nats"
    assert f"  {forged}: {sentence}\n" in out
    assert f"{forged} was renamed to {forged}.damaged\n" in out
    copy = Path(cell_path(second, "t1"))
    assert f"  {copy}: the same rows as {forged}\n" in out
    assert missing(study, second) == ["t1"]  # the next run scores it

    samples = []
    for seed in ("1", "1", "2", "3", "4"):
        asked.clear()
        run("verify", "s.yaml", "--rescore", "2", "--seed", seed)
        samples.append(tuple(asked))
    assert samples[0] == samples[1]
    assert len(set(samples)) > 1


def test_rescoring_needs_weights(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    write_study("fake", ["t1"], backend="fake")
    assert run("verify", "fake.yaml", "--rescore", "1") == 2
    assert "--rescore: fake.yaml has scoring.backend: fake, whose numbers" in capsys.readouterr().err
    assert run("verify", "cells", "--rescore", "1") == 2
    assert "verify: found the store cells; allowed: one store without --rescore" in capsys.readouterr().err
    for directory in ("cells", "results"):
        shutil.rmtree(directory)
    assert run("verify", "s.yaml", "--rescore", "1") == 2
    assert "--rescore: s.yaml has no cell of a model whose weights are on disk." in capsys.readouterr().err


def test_damage_is_listed_and_renamed_although_rescoring_fails(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ebbtide.scoring import rescore

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(rescore, "largest_difference", fail)
    damaged = stored(study, next(study.checkpoints()), "t1")
    flip(damaged, 100)
    assert run("verify", "s.yaml", "--rescore", "1", "--move") == 2
    out, error = capsys.readouterr()
    assert out.startswith("8 files checked, 7 good.\n")
    assert f"{damaged} was renamed to {damaged}.damaged\n" in out
    assert error.startswith("ScoringError: ")
    assert "could not be rescored: no kernel" in error


def age(hours: float) -> None:
    then = time.time() - 3600 * hours
    for path in Path("cells").iterdir():
        os.utime(path, (then, then))


def test_gc_removes_what_no_study_refers_to(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    cells = {path.name for path in Path("cells").iterdir()}
    unused = {stored(study, checkpoint, "t2").name for checkpoint in study.checkpoints()}
    assert run("gc", "cells", "half.yaml") == 0
    assert capsys.readouterr().out == (
        "2 unused files newer than 6 hours not listed (see --older-than).\n0 files, 0 bytes can be removed.\n"
    )
    age(48)
    assert run("gc", "cells", "half.yaml", "s.yaml", "--delete") == 0
    assert capsys.readouterr().out == "0 files, 0 bytes removed.\n"

    assert run("gc", "cells", "half.yaml") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2:] for line in lines[:2]] == [
        ["2.0", "days", f"cells/{name}", "cell", "of", "no", "study", "named"] for name in sorted(unused)
    ]
    assert lines[2].startswith("2 files, ")
    assert lines[2].endswith(" bytes can be removed; add --delete to remove them.")
    assert {path.name for path in Path("cells").iterdir()} == cells
    assert run("gc", "cells", "half.yaml", "--delete") == 0
    assert {path.name for path in Path("cells").iterdir()} == cells - unused


@pytest.mark.usefixtures("study")
def test_gc_stops_at_a_study_that_cannot_be_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    age(48)
    Path("broken.yaml").write_text("study: broken\nmodles: []\n")
    for file, sentence in (
        ("broken.yaml", "modles: unknown key"),
        ("none.yaml", "none.yaml does not exist"),
    ):
        assert run("gc", "cells", "half.yaml", file, "--delete") == 2
        assert sentence in capsys.readouterr().err
    assert len(list(Path("cells").iterdir())) == 4


@pytest.mark.usefixtures("study")
def test_gc_refuses_a_study_that_runs_in_another_directory(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its relative paths would name other weights here, and its cells would be removed."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "other.yaml"
    elsewhere.write_text(Path("s.yaml").read_text().replace("study: ", "study: other_"))
    assert run("gc", "cells", "s.yaml", str(elsewhere), "--delete") == 2
    assert "it lies outside this directory and has no results here" in capsys.readouterr().err


@pytest.mark.parametrize("mark", ["Snakefile", ".snakemake"])
def test_gc_refuses_a_study_of_a_checkout_inside_this_one(
    mark: str, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    """The paths of its copy are the same as here, but start in the inner checkout."""
    inner = Path("projects/inner/studies/half.yaml")
    inner.parent.mkdir(parents=True)
    shutil.copy("half.yaml", inner)
    assert run("gc", "cells", "s.yaml", str(inner)) == 0  # a directory of study files
    Path("projects/inner", mark).mkdir()
    capsys.readouterr()
    assert run("gc", "cells", "s.yaml", str(inner), "--delete") == 2
    assert "it lies in another checkout (projects/inner) and has no results here" in capsys.readouterr().err
    claim(study.name, inner)  # of another name
    assert run("gc", "cells", "s.yaml", str(inner)) == 2
    claim("half", inner)
    assert run("gc", "cells", "s.yaml", str(inner)) == 0


def claim(name: str, file: Path) -> None:
    """Write down that `results/{name}/` has the results of a file."""
    write_text(json.dumps({"files": {str(file): name}, "cells": 2}), claim_path(name))


@pytest.mark.usefixtures("study")
def test_gc_and_doctor_take_two_studies_of_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    """They neither read nor write the results, which belong to the first."""
    age(48)
    claim("s", Path("s.yaml"))
    Path("other.yaml").write_text(Path("half.yaml").read_text().replace("study: half", "study: s"))
    assert run("verify", "other.yaml") == 2
    assert "or run snakemake once with --config replace_results=true" in capsys.readouterr().err
    assert run("gc", "cells", "s.yaml", "other.yaml", "--delete") == 0
    assert capsys.readouterr().out == "0 files, 0 bytes removed.\n"
    assert run("gc", "cells", "other.yaml") == 0
    assert "2 files, " in capsys.readouterr().out
    run("doctor", "other.yaml")
    assert "ok       study: other.yaml" in capsys.readouterr().out


@pytest.mark.usefixtures("study")
def test_gc_refuses_a_store_of_other_studies(capsys: pytest.CaptureFixture[str]) -> None:
    Path("elsewhere").mkdir()
    assert run("gc", "elsewhere", "s.yaml", "--delete") == 2
    assert "gc: found the store elsewhere, but the studies use cells; allowed: the" in capsys.readouterr().err
