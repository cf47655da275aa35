"""Files of one run, groups and their parts, imported beside scored results: what wins, and what is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebbtide.errors import CellError, ConfigError
from ebbtide.exchange.imports import import_metrics, import_results
from ebbtide.exchange.merge import joined
from ebbtide.notices import Notice
from ebbtide.statistics.regression import regress
from ebbtide.tables import METRICS, read_frame, write_parquet
from lm_eval_files import curve_lines, generated_line, write_run

ARGS = "pretrained=lab/m,revision=step1"
MMLU = {
    "results": {
        "mmlu": {"acc,none": 0.5},
        "mmlu_stem": {"acc,none": 0.4},
        "mmlu_physics": {"acc,none": 0.4},
        "mmlu_law": {"acc,none": 0.6},
        "arc": {"acc,none": 0.7},
    },
    "group_subtasks": {"mmlu": ["mmlu_stem", "mmlu_law"], "mmlu_stem": ["mmlu_physics"], "arc": []},
}


def of(format_: str, directory: Path, pattern: str, **keys: Any) -> dict[str, Any]:
    return {"format": f"lm_eval_{format_}", "files": [f"{directory}/{pattern}"], **keys}


def said(notices: list[Notice], kind: str) -> list[Notice]:
    return [notice for notice in notices if notice.kind == kind]


@pytest.mark.parametrize("rows", ["one glob", "two rows", "two rows and a copy"])
def test_results_beside_samples_of_the_same_run_are_recognised(rows: str, tmp_path: Path) -> None:
    generated = [generated_line(0)]
    extra = {"t": {"f1,none": 0.25}}
    write_run(tmp_path / "run", ARGS, {"t": curve_lines(4, 3), "gsm8k": generated}, results=extra)
    given = {
        "one glob": [of("samples", tmp_path, "run/*")],
        "two rows": [of("results", tmp_path, "run/results*"), of("samples", tmp_path, "run/samples*")],
        "two rows and a copy": [
            of("samples", tmp_path, "run/samples*"),
            of("results", tmp_path, "copy/*.json"),
        ],
    }[rows]
    (tmp_path / "copy").mkdir()
    document = next((tmp_path / "run").glob("results*")).read_text()
    (tmp_path / "copy/results_other.json").write_text(document + "\n")
    found = import_results(given)
    values = found.metrics.set_index(["task", "metric"])["value"]
    assert values["t", "accuracy"] == 0.75
    assert values["t", "margin"]  # only the samples have it
    assert values["t", "f1"] == 0.25  # only the results have it
    assert values["gsm8k", "exact_match[filter=strict-match]"] == 1
    [same] = said(found.notices, "duplicated")
    assert same.detail.endswith(
        "and samples are of the same runs: for 1 metrics of 1 cells the values from the samples are used."
    )
    [means] = [n for n in said(found.notices, "not_compared") if "are means" in n.detail]
    assert "forgetting, early warning and example model for 1 task (gsm8k) of 1 model" in means.detail
    assert means.remedy.startswith("Evaluate with --log_samples")


def test_results_of_another_run_are_not_the_same(tmp_path: Path) -> None:
    write_run(tmp_path / "a", ARGS, {"t": curve_lines(4, 3)})
    write_run(tmp_path / "b", ARGS, {"t": curve_lines(4, 2)})
    rows = [of("samples", tmp_path, "a/samples*"), of("results", tmp_path, "b/results*")]
    message = r"two results for model m, checkpoint step1, task t, metric accuracy \(0\.75 and 0\.5\)"
    with pytest.raises(CellError, match=message):
        import_results(rows)


def test_samples_among_results_are_said(tmp_path: Path) -> None:
    write_run(tmp_path, ARGS, {"t": curve_lines(4, 3)})
    found = import_results([of("results", tmp_path, "*")])
    assert len(found.metrics) == 1
    [left] = said(found.notices, "dropped")
    assert "format lm_eval_results reads no samples; 1 file skipped" in left.detail
    assert left.remedy.startswith("Set format: lm_eval_samples")


def test_summaries_say_what_they_cannot_give(tmp_path: Path) -> None:
    write_run(tmp_path, ARGS, {}, results={"t": {"acc,none": 0.5}, "u": {"acc,none": 0.25}})
    (tmp_path / "t.csv").write_text("model,step,task,value\nm,2,t,0.5\n")
    columns = {name: name for name in ("model", "step", "task", "value")}
    table = {"format": "table", "files": [f"{tmp_path}/t.csv"], "columns": columns, "metric": "accuracy"}
    notices = import_results([of("results", tmp_path, "results*"), table]).notices
    means = [n for n in notices if "are means" in n.detail]
    assert [n.detail for n in means] == [
        "imported[0]: results of lm-eval are means, so there are no alarms, trends, forgetting, early "
        "warning and example model for 2 tasks (t, u) of 1 model.",
        "imported[1]: tables of published numbers are means, so there are no alarms, trends, forgetting, "
        "early warning and example model for 1 task (t) of 1 model.",
    ]
    assert means[0].remedy == "Evaluate with --log_samples and import the samples (format: lm_eval_samples)."


@pytest.mark.parametrize(
    ("groups", "tasks"),
    [
        (None, {"mmlu", "arc"}),
        ("aggregates", {"mmlu", "arc"}),
        ("parts", {"mmlu_physics", "mmlu_law", "arc"}),
        ("both", {"mmlu", "mmlu_stem", "mmlu_physics", "mmlu_law", "arc"}),
    ],
)
def test_groups_and_their_parts_do_not_both_enter(
    groups: str | None, tasks: set[str], tmp_path: Path
) -> None:
    write_run(tmp_path, ARGS, {}, **MMLU)
    keys = {} if groups is None else {"groups": groups}
    found = import_results([of("results", tmp_path, "results*", **keys)])
    assert set(found.metrics["task"]) == tasks
    left = said(found.notices, "dropped")
    assert len(left) == (groups != "both")
    if groups == "parts":
        assert "2 tasks left out, because their parts are imported: mmlu, mmlu_stem" in left[0].detail
    elif left:
        assert (
            "3 tasks left out, because their group is imported: mmlu_law, mmlu_physics, mmlu_st"
            in left[0].detail
        )
        assert "imported[0].groups to parts or both" in left[0].remedy


def test_listed_tasks_are_imported_whatever_their_group(tmp_path: Path) -> None:
    write_run(tmp_path, ARGS, {}, **MMLU)
    rows = import_metrics(of("results", tmp_path, "results*", tasks={"mmlu": "mmlu", "mmlu_law": "law"}))
    assert set(rows["task"]) == {"mmlu", "law"}
    table = {"format": "table", "files": ["x.csv"], "metric": "a", "groups": "both"}
    with pytest.raises(ConfigError, match="groups: found with format table"):
        import_metrics({**table, "columns": {"model": "m", "task": "t", "value": "v", "step": "s"}})


def test_an_aggregate_of_imported_samples_is_left_out(tmp_path: Path) -> None:
    write_run(
        tmp_path,
        ARGS,
        {"mmlu_law": curve_lines(4, 3)},
        results=MMLU["results"],
        group_subtasks=MMLU["group_subtasks"],
    )
    rows = [of("samples", tmp_path, "samples*"), of("results", tmp_path, "results*")]
    found = import_results(rows)
    assert set(found.metrics["task"]) == {"mmlu_law", "arc"}
    assert any("the aggregates of mmlu are left out" in n.detail for n in found.notices)
    both = import_results([rows[0], {**rows[1], "groups": "both"}])
    assert {"mmlu", "mmlu_law"} <= set(both.metrics["task"])


def test_equal_answers_at_two_checkpoints_are_suspicious(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        lines = curve_lines(4, 3 if step < 3 else 2)
        write_run(tmp_path / str(step), f"pretrained=lab/m,revision=step{step}", {"t": lines})
    notices = import_results([of("samples", tmp_path, "*/samples*")]).notices
    [equal] = said(notices, "suspicious")
    assert (equal.severity, equal.model) == ("warning", "m")
    assert equal.detail == "Imported samples are bit-equal at step1, step2 in 1 task (t)."


def test_chance_comes_from_the_choices_of_the_task(tmp_path: Path) -> None:
    configs = {"t": {"output_type": "multiple_choice", "doc_to_choice": ["A", "B", "C", "D"]}}
    write_run(tmp_path, ARGS, {}, results={"t": {"acc,none": 0.5}, "u": {"acc,none": 0.5}}, configs=configs)
    chance = import_metrics(of("results", tmp_path, "results*")).set_index("task")["chance"]
    assert chance["t"] == 0.25 and np.isnan(chance["u"])
    given = of("results", tmp_path, "results*", chance={"t": 0.3})
    assert import_metrics(given).set_index("task")["chance"]["t"] == 0.3


def test_filters_can_be_regressed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for size in ("70m", "160m", "410m"):
        for step in (1000, 2000, 4000, 8000):
            values = {
                "exact_match,flexible-extract": float(rng.uniform(0, 1)),
                "exact_match,strict-match": 0.1,
            }
            args = f"pretrained=EleutherAI/pythia-{size},revision=step{step}"
            write_run(tmp_path / f"{size}{step}", args, {}, results={"gsm8k": values})
    rows = import_metrics(of("results", tmp_path, "*/results*"))
    metric = "exact_match[filter=flexible-extract]"
    table = regress(rows, metric="accuracy", metrics_of={"gsm8k": [metric]})
    assert set(table["metric"]) == {metric} and table["p"].notna().all()


def row(**values: Any) -> dict[str, Any]:
    base = {
        **dict.fromkeys(METRICS.columns, 0),
        **{"model": "m", "checkpoint": "step1", "step": 1, "tokens": 10, "task": "t", "metric": "accuracy"},
        **{"value": 0.5, "stderr": 0.1, "chance": 0.25, "source": "scored"},
    }
    return {**base, **values}


def test_imported_rows_take_what_scored_ones_know() -> None:
    scored = pd.DataFrame([row(parameters_non_embedding=7)])
    theirs = {"tokens": 0, "source": "imported", "chance": np.nan, "file": "f.json"}
    imported = pd.DataFrame(
        [row(task="u", **theirs), row(checkpoint="step2", **theirs), row(model="n", **theirs)]
    )
    table, notices = joined(scored, imported)
    assert list(table.columns) == list(METRICS.columns) and len(table) == 4
    assert table["tokens"].tolist() == [10, 10, 0, 0]
    assert table["parameters_non_embedding"].tolist() == [7, 7, 7, 0]
    assert table["chance"].isna().tolist() == [False, True, False, False]
    assert [n.kind for n in notices] == ["defaulted"] * 3 + ["not_compared"]
    assert "Chance level unknown of 1 imported task (u)" in notices[-1].detail  # that of t is known by now


def test_imports_without_any_chance_or_error_are_a_table_of_metrics(tmp_path: Path) -> None:
    """Of a study that scores nothing, such as one of losses only."""
    unknown = {"chance": np.nan, "stderr": np.nan, "source": "imported", "file": "f.json"}
    table, _ = joined(pd.DataFrame(columns=list(METRICS.columns)), pd.DataFrame([row(**unknown)]))
    write_parquet(table, tmp_path / "metrics.parquet", METRICS)
    assert read_frame(tmp_path / "metrics.parquet", METRICS)["chance"].isna().all()


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({}, "f.json: model m, checkpoint step1, task t: scored by this study as well as imported. Leave"),
        (
            {"task": "u", "tokens": 99},
            "found 99 training tokens, but the scored checkpoint has 10. Correct models",
        ),
    ],
)
def test_contradictions_of_scored_and_imported_are_refused(theirs: dict[str, Any], message: str) -> None:
    imported = pd.DataFrame([row(source="imported", file="f.json", **theirs)])
    with pytest.raises(CellError, match=message):
        joined(pd.DataFrame([row()]), imported)
