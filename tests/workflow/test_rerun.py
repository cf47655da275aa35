"""The rerun contract: what a change plans, counted in jobs of a dry run."""

import os
import shutil
import subprocess

import numpy as np
import pytest
from safetensors.numpy import load_file

from workspace import ROOT, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rerun")]

MODELS, CHECKPOINTS, TASKS = 2, 3, 3
CELLS = MODELS * CHECKPOINTS * TASKS
REGRESSIONS = {"regress": 1, "summary": 1, "robustness": 1, "example_model": 1}
FIGURES = {f"plot_{stage}": 1 for stage in ("metrics", "alarms", "trends", "forgetting")}
FIGURES["report_page"] = 1  # it shows all figures and tables
TRAJECTORIES = {"forgetting": 1, "trends": 1, "alarms": 1, "flips": 1, "resolution": 1}
TABLES = {
    "metrics": 1,
    "audit_results": 1,
    "provenance": 1,
    "load_proofs": 1,
    **REGRESSIONS,
    **FIGURES,
    **TRAJECTORIES,
}


def test_a_second_run_plans_nothing(study):
    assert study.planned() == {}


def test_a_new_checkpoint_plans_exactly_its_cells(study):
    with study.edited("config.yaml") as config:
        config["models"][0]["steps"].append(64)
    training = {f"train_{name}": 1 for name in ("small-d8", "small-d16")}
    # With two trained checkpoints, models have no ratio of signal to noise and tasks no regression to draw.
    more_figures = {"plot_regression": 1, "plot_resolution": 1}
    cells = {"score": MODELS * TASKS, "measure": MODELS}
    assert study.planned() == {**training, **cells, **TABLES, **more_figures}
    before = {cell: cell.stat().st_mtime_ns for cell in study.cells()}
    study.run()
    assert study.planned() == {}
    assert len(study.cells()) == CELLS + MODELS * TASKS
    assert {cell: cell.stat().st_mtime_ns for cell in before} == before


def test_averages_plan_themselves_and_change_no_comparison_of_sizes(study):
    with study.edited("config.yaml") as config:
        config["models"][0]["average"] = {"last": 2}
    averages = MODELS * (CHECKPOINTS - 1)
    assert study.planned() == {
        "average": averages,
        "score": averages * TASKS,
        "measure": averages,
        **TABLES,
    }
    results = study.path / "results/small"
    tables = [
        f"results/small/{name}.tsv"
        for name in ("regressions", "trend_differences", "forgetting", "resolution")
    ]
    before = [(study.path / table).read_text() for table in tables]
    study.run(*tables, "results/small/robustness.tsv", "results/small/example_model.tsv")
    assert [(study.path / table).read_text() for table in tables] == before
    for table in ("robustness", "example_model"):
        assert "mean2" not in (results / f"{table}.tsv").read_text()
    assert "small-d8-mean2" in (results / "trends.tsv").read_text()
    assert (study.path / "results/scores/small-d8-mean2/step256-mean2/fact_qa.parquet").exists()
    checkpoints = study.path / "resources/checkpoints"
    [averaged] = checkpoints.glob("small-d8-mean2/step256-mean2/averaged-*")
    means, *parents = (
        load_file(place / "model.safetensors")
        for place in (averaged, checkpoints / "small-d8/step16", checkpoints / "small-d8/step256")
    )
    for name, mean in means.items():
        np.testing.assert_allclose(mean, (parents[0][name] + parents[1][name]) / 2, rtol=1e-6, atol=1e-7)
    shutil.rmtree(checkpoints / "small-d8-mean2")  # scored, so nothing needs them
    assert not {"average", "score", "measure"} & study.planned().keys()
    shutil.rmtree(study.path / "cells")
    shutil.rmtree(study.path / "results/scores/small-d8-mean2")
    planned = study.planned("--until", "score")
    assert planned["average"] == CHECKPOINTS - 1


def test_a_new_task_plans_exactly_its_column(study):
    with study.edited("config.yaml") as config:
        config["tasks"].append("tasks/arithmetic.yaml")
    column = MODELS * CHECKPOINTS
    planned = {"freeze": 1, "publish_task": 1, "preview": 1, "score": column, "measure": column, **TABLES}
    assert study.planned() == planned


def test_a_changed_definition_plans_its_column_and_reverting_it_scores_nothing(study):
    column = MODELS * CHECKPOINTS
    with study.edited("tasks/memo_trap.yaml") as task:
        task["source"]["seed"] = 2
    planned = {"freeze": 1, "publish_task": 1, "preview": 1, "score": column, "measure": column, **TABLES}
    assert study.planned() == planned
    study.run("--until", "measure")
    with study.edited("tasks/memo_trap.yaml") as task:
        del task["source"]["seed"]
    assert study.planned() == {"score": column, "measure": column, **TABLES}
    study.run()
    logs = [log.read_text() for log in study.path.glob("logs/score/*/*/memo_trap.log")]
    assert len(logs) == column
    assert all(log.endswith(": copied\n") for log in logs)
    assert study.planned() == {}


def test_a_new_title_of_a_task_scores_nothing(study):
    with study.edited("tasks/memo_trap.yaml") as task:
        task["title"] = "Proverbs"
        task["description"] = "Another description."
    assert study.planned() == {}


def test_touched_files_score_nothing(study):
    for path in study.path.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts:
            os.utime(path)
    assert "score" not in study.planned()


def test_old_results_beside_a_fresh_clone_score_nothing(study, tmp_path):
    """Only the files were kept: no history, new dates, a checkout with new dates."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    fresh = Workspace(tmp_path / "fresh")
    shutil.copytree(
        study.path,
        fresh.path,
        copy_function=shutil.copyfile,
        ignore=shutil.ignore_patterns(".snakemake", "cells"),
    )
    command = fresh.command()
    fresh.command = lambda: [a.replace(str(ROOT / "Snakefile"), str(clone / "Snakefile")) for a in command]
    assert "score" not in fresh.planned()
    assert not any(job.startswith("train") or job == "freeze" for job in fresh.planned())


def test_cells_alone_are_enough_for_everything_after_them(study):
    """On a laptop without weights: tables and figures are made again from the cells."""
    shutil.rmtree(study.path / "resources/checkpoints")
    shutil.rmtree(study.path / "cells")
    (study.path / "results/small/figures/heat.pdf").unlink()
    assert study.planned() == {"plot_metrics": 1, "report_page": 1}


def test_a_page_that_was_deleted_is_written_again(study):
    (study.path / "results/small/report/index.html").unlink()
    assert study.planned() == {"report_page": 1}


def test_an_edited_plot_plans_figures_only(study, tmp_path):
    edited = edit_package(study, tmp_path, "figures/heat.py")
    assert edited.planned() == FIGURES


def test_a_new_comment_plans_nothing(study, tmp_path):
    edited = edit_package(study, tmp_path, "statistics/regression/fit.py", "# a comment")
    assert edited.planned() == {}


def test_an_edited_regression_plans_tables_only(study, tmp_path):
    edited = edit_package(study, tmp_path, "statistics/regression/fit.py")
    assert edited.planned() == {**REGRESSIONS, "report_page": 1}


def test_an_edited_metric_measures_again_and_scores_nothing(study, tmp_path):
    edited = edit_package(study, tmp_path, "metrics/choice.py")
    assert edited.planned() == {"measure": MODELS * CHECKPOINTS, **TABLES}


def test_settings_of_single_rules_rerun_these_rules(study):
    with study.edited("config.yaml") as config:
        config["regression"] = {"example_model": {"checkpoints": 8}}
        config["cost"] = {"gpu_hour": 2.5, "currency": "EUR"}
    assert study.planned() == {"example_model": 1, "provenance": 1, "report_page": 1}


def test_an_edited_engine_plans_nothing_and_a_bumped_recipe_everything(study, tmp_path):
    edited = edit_package(study, tmp_path, "scoring/padded.py")
    assert edited.planned() == {}
    recipe = tmp_path / "clone/workflow/ebbtide/scoring/version.py"
    recipe.write_text(recipe.read_text().replace("SCORING_VERSION = 1", "SCORING_VERSION = 2"))
    assert edited.planned() == {"score": CELLS, "measure": MODELS * CHECKPOINTS, **TABLES}


def test_another_way_to_encode_plans_everything(study):
    with study.edited("config.yaml") as config:
        config["scoring"]["bos"] = "always"
    assert study.planned() == {"score": CELLS, "measure": MODELS * CHECKPOINTS, **TABLES}


def test_a_check_of_new_cells_and_the_name_of_the_precision_plan_nothing(study):
    with study.edited("config.yaml") as config:
        config["scoring"] |= {"rescore_examples": 2, "dtype": "float32"}
    assert study.planned() == {}


def test_one_deleted_cell_plans_that_cell_and_copies_it(study):
    cell = study.cells()[0]
    content = cell.read_bytes()
    cell.unlink()
    assert study.planned() == {"score": 1, "measure": 1, **TABLES}
    study.run("--until", "score")
    assert cell.read_bytes() == content
    log = study.path / "logs/score" / cell.relative_to(study.path / "results/scores").with_suffix(".log")
    assert log.read_text().endswith(": copied\n")


def test_forcing_all_cells_copies_them_and_recompute_scores_them(study):
    with study.edited("config.yaml") as config:
        config["models"][0]["sizes"] = ["small-d8"]
    shutil.rmtree(study.path / "logs")
    study.run("--forcerun", "score", "--until", "score")
    assert study.loads() == 0
    study.run("--forcerun", "score", "--until", "score", "--config", "recompute=true", cores=1)
    assert study.loads() == CHECKPOINTS


@pytest.mark.parametrize("rule", ["train", "freeze", "fetch"])
def test_an_edited_command_upstream_hides_no_cell(study, tmp_path, rule):
    """Snakemake does not look below a job that it plans already: nothing upstream may be planned idly."""
    edited = edit_package(study, tmp_path, "scoring/padded.py")
    for rules in (tmp_path / "clone/workflow/rules").glob("*.smk"):
        rules.write_text(rules.read_text().replace(f"ebbtide {rule} ", f"ebbtide  {rule} "))
    recipe = tmp_path / "clone/workflow/ebbtide/scoring/version.py"
    recipe.write_text(recipe.read_text().replace("SCORING_VERSION = 1", "SCORING_VERSION = 2"))
    assert edited.planned()["score"] == CELLS


def test_without_history_a_changed_task_is_scored_again(study):
    shutil.rmtree(study.path / ".snakemake")
    with study.edited("tasks/memo_trap.yaml") as task:
        task["source"]["seed"] = 2
    assert study.planned()["score"] >= MODELS * CHECKPOINTS


def test_without_history_a_stale_cell_is_found_and_named(study, tmp_path):
    shutil.rmtree(study.path / ".snakemake")
    edited = edit_package(study, tmp_path, "scoring/padded.py")
    recipe = tmp_path / "clone/workflow/ebbtide/scoring/version.py"
    recipe.write_text(recipe.read_text().replace("SCORING_VERSION = 1", "SCORING_VERSION = 2"))
    done = edited.snakemake("--cores", "2", check=False)
    assert done.returncode != 0
    assert "is stale: recipe is 1, expected 2; delete the file and run snakemake" in done.stdout


def test_a_second_study_shares_the_cells(study):
    other = study.read_yaml("config.yaml")
    study.write_yaml("other.yaml", {**other, "study": "other", "tasks": other["tasks"][:2]})
    command = study.command("other.yaml")
    study.command = lambda: command
    planned = study.planned()
    assert "score" not in planned
    assert planned["measure"] == MODELS * CHECKPOINTS


def edit_package(study: Workspace, tmp_path, module: str, line: str = "EDITED = True") -> Workspace:
    """The study under a checkout of its own in which `module` ends with `line`."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "workflow", clone / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "profiles", clone / "profiles")
    shutil.copy2(ROOT / "Snakefile", clone / "Snakefile")
    path = clone / "workflow/ebbtide" / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    edited = Workspace(study.path)
    command = edited.command()
    edited.command = lambda: [a.replace(str(ROOT / "Snakefile"), str(clone / "Snakefile")) for a in command]
    return edited
