"""Results from elsewhere: lm-evaluation-harness's files and published tables."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebbtide.cells.cell import read_cell
from ebbtide.errors import CellError, ConfigError, EbbtideError
from ebbtide.exchange.imports import import_cells, import_metrics
from ebbtide.statistics.regression import regress
from ebbtide.tables import METRICS, REQUESTS, read_footer, read_frame, write_parquet

SAMPLES = Path(__file__).parents[2] / "samples/exchange"
RUN = SAMPLES / "my-lab__my-model"
V03 = SAMPLES / "v03_my-run-1b_step2000.json"
DATE = "2026-11-22T12-00-00.000000"
TOKENS_PER_STEP = 2097152
MODEL = {"name": "my-model", "tokens_per_step": 1000, "parameters": {"total": 50, "non_embedding": 40}}
PYTHIA = {
    "pythia-70m": 70e6,
    "pythia-160m": 160e6,
    "pythia-410m": 410e6,
    "pythia-1b": 1e9,
    "pythia-1.4b": 1.4e9,
    "pythia-2.8b": 2.8e9,
    "pythia-6.9b": 6.9e9,
    "pythia-12b": 12e9,
}
TASKS = {  # names of the published table of tests, in its files
    "Hindsight Neglect": "isp_hindsight_neglect",
    "Into the Unknown": "isp_into_the_unknown",
    "Memo Trap": "isp_memo_trap",
    "Modus Tollens": "isp_modus_tollens",
    "NeQA": "isp_neqa",
    "Pattern Match Suppression": "isp_pattern_matching_suppression",
    "Redefine": "isp_redefine",
    "Repetitive Algebra": "isp_repetitive_algebra",
    "Resisting Correction": "isp_resisting_correction",
    "Sig Figs": "isp_sig_figs",
    "TruthfulQA-MC1": "truthfulqa_mc1",
    "TruthfulQA-MC2": "truthfulqa_mc2",
}


def pythia(**matches: str) -> list[dict[str, Any]]:
    """Rows of the eight sizes of Pythia; `matches` gives some a regular expression."""
    return [
        {
            "name": name,
            "tokens_per_step": TOKENS_PER_STEP,
            "parameters": {"nominal": round(size)},
            **({"match": matches[name]} if name in matches else {}),
        }
        for name, size in PYTHIA.items()
    ]


def values(rows: pd.DataFrame, column: str = "value") -> dict[tuple[str, str], Any]:
    return dict(zip(zip(rows["task"], rows["metric"], strict=True), rows[column], strict=True))


def of_run(run: Path, **more: Any) -> dict[str, Any]:
    return {
        "format": "lm_eval_samples",
        "files": [f"{run}/samples_*.jsonl"],
        "models": [MODEL],
        "tasks": {f"sample_{name}": name for name in ("choice", "pmi", "sequence", "rolling", "digits")},
        **more,
    }


def test_results_of_version_03() -> None:
    model = {"name": "my-run-1b", "tokens_per_step": 10, "parameters": {"non_embedding": 7, "nominal": 9}}
    row = {"format": "lm_eval_results", "files": [str(V03)], "models": [model], "n": {"sample_neqa": 300}}
    rows = import_metrics({**row, "chance": {"sample_neqa": 0.5}})
    assert list(rows.columns) == list(METRICS.columns)
    found = values(rows)
    assert found["sample_neqa", "accuracy"] == 0.4733333333333333
    assert found["sample_neqa", "accuracy_per_character"] == 0.47
    assert found["truthfulqa_mc", "mc2"] == 0.4
    assert found["lambada_openai", "ppl"] == 12.5  # no such metric here: it keeps its name
    assert values(rows, "stderr")["sample_neqa", "accuracy"] == 0.0288
    assert values(rows, "n")["sample_neqa", "accuracy"] == 300
    assert values(rows, "n")["truthfulqa_mc", "mc1"] == 0
    assert values(rows, "chance")["sample_neqa", "accuracy"] == 0.5
    assert math.isnan(values(rows, "chance")["lambada_openai", "ppl"])
    first = rows.iloc[0]
    assert (first["model"], first["checkpoint"], first["step"], first["tokens"]) == (
        *("my-run-1b", "step2000", 2000),
        20000,
    )
    assert first[["parameters_total", "parameters_non_embedding", "parameters_active"]].tolist() == [0, 7, 7]
    assert first["parameters_nominal"] == 9
    assert set(rows["source"]) == {"imported"}


def test_imported_rows_are_a_metrics_table(tmp_path: Path) -> None:
    rows = import_metrics(
        {"format": "lm_eval_results", "files": [f"{RUN}/results_*.json"], "models": [MODEL]}
    )
    write_parquet(rows, tmp_path / "metrics.parquet", METRICS)
    assert len(read_frame(tmp_path / "metrics.parquet", METRICS)) == len(rows) == 11


def test_results_of_version_04() -> None:
    rows = import_metrics(
        {"format": "lm_eval_results", "files": [f"{RUN}/results_*.json"], "models": [MODEL]}
    )
    found, n = values(rows), values(rows, "n")
    assert found["sample_choice", "accuracy"] == pytest.approx(2 / 3)
    assert found["sample_choice", "accuracy_per_byte"] == pytest.approx(2 / 3)
    assert found["sample_pmi", "accuracy_pmi"] == pytest.approx(2 / 3)
    # Of one continuation, acc says whether it is greedy.
    assert found["sample_sequence", "greedy_accuracy"] == 0
    assert found["sample_sequence", "sequence_perplexity"] == pytest.approx(4360.4459312262)
    assert found["sample_rolling", "word_perplexity"] == pytest.approx(355.70183713942157)
    assert n["sample_choice", "accuracy"] == 3
    assert math.isnan(values(rows, "stderr")["sample_rolling", "bits_per_byte"])  # "N/A"
    assert values(rows, "stderr")["sample_choice", "accuracy"] == pytest.approx(1 / 3)
    assert set(rows["tokens"]) == {1_000_000}


def test_names_of_tasks_and_metrics_are_the_studys() -> None:
    row = {"format": "lm_eval_results", "files": [f"{RUN}/results_*.json"], "models": [MODEL]}
    rows = import_metrics({**row, "tasks": {"sample_sequence": "songs"}, "metrics": {"acc": "exact"}})
    assert set(values(rows)) == {("songs", "exact"), ("songs", "sequence_perplexity")}


@pytest.mark.parametrize(
    ("config", "checkpoint"),
    [
        ({"model_args": {"pretrained": "my-lab/my-model", "revision": "step64"}}, "step64"),
        ({"model_args": "pretrained=my-model,dtype=float32", "model_revision": "step8"}, "step8"),
        ({"model_args": "pretrained=my-lab/my-model"}, "step143000"),  # main, of which the study knows
        ({"model_args": "pretrained=/runs/step32/my-model/"}, "step32"),
        ({"model_args": "pretrained=my-model,revision=stage1-step700-tokens3B,parallelize=True"}, "step700"),
        ({"model_args": 'pretrained=my-model,revision=step5,kwargs={"a": 1, "b": 2}'}, "step5"),
    ],
)
def test_the_config_names_model_and_step(config: dict[str, Any], checkpoint: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"results": {"t": {"acc": 0.5}}, "config": config}))
    row = {"format": "lm_eval_results", "files": [str(path)], "models": [MODEL]}
    if checkpoint == "step143000":
        row["steps"] = {"main": 143000}
    assert import_metrics(row)["checkpoint"].tolist() == [checkpoint]


def test_groups_filters_and_mc2(tmp_path: Path) -> None:
    document = {
        "results": {
            "mmlu": {" ": " ", "alias": "mmlu"},
            "gsm8k": {"exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.1, "alias": "x"},
            "truthfulqa_mc2": {"acc,none": 0.4, "acc_stderr,none": "N/A", "strange,none": [1, 2]},
        },
        "groups": {"group": {"acc,none": 0.25, "alias": "group"}},
        "n-shot": {"gsm8k": 5, "truthfulqa_mc2": 0},
        "config": {"model_args": "pretrained=my-model,revision=step1"},
    }
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    row = {"format": "lm_eval_results", "files": [str(path)], "models": [MODEL]}
    assert values(import_metrics(row)) == {
        ("group", "accuracy"): 0.25,
        ("gsm8k", "exact_match[filter=strict-match]"): 0.5,
        ("truthfulqa_mc2", "mc2"): 0.4,
    }
    assert set(import_metrics({**row, "shots": 5})["task"]) == {"gsm8k"}


def test_metrics_of_samples_are_those_that_lm_eval_logged() -> None:
    """The oracle: lm-eval's own results of the same run."""
    rows = import_metrics(of_run(RUN))
    results = import_metrics({**of_run(RUN), "format": "lm_eval_results", "files": [f"{RUN}/results_*.json"]})
    found, expected = values(rows), values(results)
    common = {key for key in expected if key in found}
    assert {metric for _, metric in common} == {
        *("accuracy", "accuracy_per_character", "accuracy_per_byte", "accuracy_pmi"),
        *("greedy_accuracy", "sequence_perplexity", "bits_per_byte"),
    }
    for key in common:
        assert found[key] == pytest.approx(expected[key], rel=1e-9), key
    stderr = values(rows, "stderr")
    assert stderr["choice", "accuracy"] == pytest.approx(values(results, "stderr")["choice", "accuracy"])
    assert set(rows["source"]) == {"imported"}


def test_what_samples_do_not_hold_is_not_measured() -> None:
    metrics = {metric for _, metric in values(import_metrics(of_run(RUN)))}
    assert {m for m in metrics if "token" in m or m == "loss"} == set()
    assert "sequence_loss_per_byte" in metrics


def test_mc2_needs_the_labels() -> None:
    row = of_run(RUN, tasks={"sample_mc2": "mc2"})
    with pytest.raises(CellError, match=r"samples_sample_mc2_.*line 1: found acc 0.982796, but target gives"):
        import_metrics(row)
    rows = import_metrics({**row, "gold": "doc.mc2_targets.labels"})
    assert values(rows)["mc2", "choice_probability"] == pytest.approx(
        json.loads(next(RUN.glob("results_*")).read_text())["results"]["sample_mc2"]["acc,none"], rel=1e-9
    )


def rewritten(tmp_path: Path, task: str, change: Any) -> Path:
    """The run with the lines of one task changed."""
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    path = run / f"samples_{task}_{DATE}.jsonl"
    lines = [json.loads(line) for line in path.read_text().split("\n") if line]
    path.write_text("".join(json.dumps(line) + "\n" for line in change(lines)))
    return run


def test_a_target_may_be_the_text_of_a_choice(tmp_path: Path) -> None:
    right = ["Paris", "four", "Fleisch – roh"]
    run = rewritten(
        tmp_path,
        "sample_choice",
        lambda lines: [{**x, "target": t} for x, t in zip(lines, right, strict=True)],
    )
    row = of_run(run, tasks={"sample_choice": "choice"})
    assert values(import_metrics(row)) == values(
        import_metrics(of_run(RUN, tasks={"sample_choice": "choice"}))
    )


def test_several_choices_may_be_right(tmp_path: Path) -> None:
    run = rewritten(tmp_path, "sample_choice", changed(target="[0, 2]"))
    [cell] = import_cells(of_run(run, tasks={"sample_choice": "c"}))
    assert cell.requests["gold"].tolist() == [True, False, True, False, True, False, True]


def test_an_ambiguous_target_is_refused_unless_accuracies_decide(tmp_path: Path) -> None:
    """lm-eval took the texts 1 and 2 for indices; without its accuracies nobody could know."""
    row = of_run(RUN, tasks={"sample_digits": "digits"})
    assert values(import_metrics(row))["digits", "accuracy"] == pytest.approx(1 / 3)
    run = rewritten(
        tmp_path,
        "sample_digits",
        lambda lines: [{k: v for k, v in line.items() if k != "acc"} for line in lines],
    )
    with pytest.raises(CellError, match="target may be an index or the text of a choice"):
        import_metrics(of_run(run, tasks={"sample_digits": "digits"}))


def test_older_samples_hold_lists_and_numbers(tmp_path: Path) -> None:
    def old(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for line in lines:
            line["arguments"] = [list(a.values()) for a in line["arguments"].values()]
            line["filtered_resps"] = [[float(a), b == "True"] for a, b in line["filtered_resps"]]
            del line["filter"]
        return lines

    run = rewritten(tmp_path, "sample_choice", old)
    assert values(import_metrics(of_run(run))) == values(import_metrics(of_run(RUN)))


def test_requests_are_numbered_beyond_ten(tmp_path: Path) -> None:
    """Twelve choices: gen_args_10 comes after gen_args_9."""

    def many(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        lines[0]["arguments"] = {f"gen_args_{i}": {"arg_0": "x", "arg_1": f" {i}"} for i in range(12)}
        lines[0]["filtered_resps"] = [[str(-20.0 + i), "False"] for i in range(12)]
        return [{**lines[0], "target": "11", "acc": 1.0}]

    [cell] = import_cells(of_run(rewritten(tmp_path, "sample_choice", many), tasks={"sample_choice": "c"}))
    assert cell.requests["continuation"].tolist() == [f" {i}" for i in range(12)]
    assert cell.requests["gold"].tolist() == [False] * 11 + [True]


def test_cells_of_samples_are_cells(tmp_path: Path) -> None:
    for cell in import_cells(of_run(RUN)):
        cell.write(tmp_path / "cell.parquet", tmp_path / "requests.parquet")
        requests = read_frame(tmp_path / "requests.parquet", REQUESTS)
        sha256 = read_footer(tmp_path / "requests.parquet", REQUESTS)["content_sha256"]
        table, footer = read_cell(tmp_path / "cell.parquet", cell.identity(), sha256)
        rows = table.to_pandas()
        assert footer["source"] == "imported"
        assert footer["imported"]["file"].endswith(f"samples_sample_{cell.task}_{DATE}.jsonl")
        assert footer["parameters_total"] == 50
        assert "tokens" in footer["unknown"]
        assert set(rows["tokens"]) == {-1}
        assert rows["first_token_loglikelihood"].isna().all()
        assert len(rows) == len(requests)
    assert cell.checkpoint.name == "step1000"


def test_pmi_keeps_what_is_scored_after_nothing() -> None:
    [cell] = import_cells(of_run(RUN, tasks={"sample_pmi": "pmi"}))
    first = cell.requests[cell.requests["example"] == "0"]
    assert first["role"].tolist() == ["choice"] * 3 + ["unconditional"] * 3
    assert first["of"].tolist() == [0, 1, 2, 0, 1, 2]
    assert first["gold"].tolist() == [True] + [False] * 5


def write_table(path: Path, **columns: Any) -> Path:
    frame = pd.DataFrame(
        {
            "who": ["lab/m-1", "lab/m-1", "lab/m-2", "lab/m-2"],
            "when": ["step1", "step2", "step1", "step2"],
            "what": ["a", "a", "a", "a"],
            "score": [0.1, 0.2, 0.3, 0.4],
            "shots": [0, 0, 0, 0],
            **columns,
        }
    )
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
    return path


def of_table(path: Path, **more: Any) -> dict[str, Any]:
    return {
        "format": "table",
        "files": [str(path)],
        "columns": {"model": "who", "revision": "when", "task": "what", "value": "score"},
        "metric": "accuracy",
        "models": [{"name": "m-1", "tokens_per_step": 10}, {"name": "two", "match": "m-2$"}],
        **more,
    }


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".parquet"])
def test_a_table_of_published_numbers(suffix: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / f"table{suffix}", shots=[0, 0, 0, 5])
    rows = import_metrics(of_table(path, where={"shots": 0}, tasks={"a": "alpha"}, chance={"alpha": 0.25}))
    assert rows["value"].tolist() == [0.1, 0.2, 0.3]
    assert rows["model"].tolist() == ["m-1", "m-1", "two"]
    assert rows["tokens"].tolist() == [10, 20, 0]
    assert rows["chance"].tolist() == [0.25] * 3
    assert set(rows["task"]) == {"alpha"}
    assert rows["stderr"].isna().all()


def test_a_table_needs_no_models(tmp_path: Path) -> None:
    row = of_table(write_table(tmp_path / "table.csv"))
    del row["models"]
    assert import_metrics(row)["model"].tolist() == ["m-1", "m-1", "m-2", "m-2"]


def all_results(shared: Path) -> Path:
    found = sorted(shared.glob("mirror/github/jmichaelov/emergent-inabilities/*/results"))
    if not found:
        pytest.skip("no reference data: ../shared has no results of Emergent inabilities")
    return found[-1]


def test_published_tests_follow_from_the_published_table(shared: Path) -> None:
    """Emergent inabilities: 768 published accuracies in, its 36 published t(60) out."""
    row = {
        "format": "table",
        "files": [str(all_results(shared) / "all_results.tsv")],
        "columns": {
            "model": "ModelName",
            "revision": "ModelRevision",
            "task": "Task",
            "value": "Accuracy",
            "stderr": "Accuracy_SE",
        },
        "metric": "accuracy",
        "tasks": {theirs: name for name, theirs in TASKS.items()},
        "models": pythia(),
    }
    rows = import_metrics(row)
    assert len(rows) == 768
    found = regress(rows, parameters="nominal").set_index(["task", "term"])
    published = pd.read_csv(shared / "reference/emergent_inabilities_tests.tsv", sep="\t")
    assert len(published) == 36
    for test in published.itertuples():
        ours = found.loc[(test.task, test.effect.lower())]
        assert ours["df"] == test.df == 60
        assert ours["t"] == pytest.approx(test.t_published, abs=0.00501), (test.task, test.effect)


def test_results_files_and_the_table_made_of_them_agree(shared: Path) -> None:
    """Two of the published JSON files of version 0.3, against the rows of the published table."""
    directory = all_results(shared)
    rows = import_metrics(
        {"format": "lm_eval_results", "files": [f"{directory}/pythia-*_step*.json"], "models": pythia()}
    )
    table = pd.read_csv(directory / "all_results.tsv", sep="\t")
    tasks = 0
    for row in rows[rows["metric"].isin(["accuracy", "mc1", "mc2"])].itertuples():
        task = row.task.removesuffix("_mc") + ("" if row.metric == "accuracy" else f"_{row.metric}")
        same = table[
            (table["ModelName"] == f"EleutherAI/{row.model}")
            & (table["ModelRevision"] == row.checkpoint)
            & (table["Task"] == task)
        ]
        assert same["Accuracy"].tolist() == pytest.approx([row.value], rel=1e-12)  # 15 digits
        assert same["Accuracy_SE"].tolist() == pytest.approx([row.stderr], rel=1e-12)
        tasks += 1
    assert tasks == 24
    assert set(rows["tokens"]) == {2000 * TOKENS_PER_STEP, 143000 * TOKENS_PER_STEP}


def test_evaluations_of_pythia(shared: Path) -> None:
    path = shared / "reference/pythia_evals.parquet"
    if not path.exists():
        pytest.skip("no reference data: ../shared has no pythia_evals.parquet")
    raw = pd.read_parquet(path)
    row = {
        "format": "table",
        "files": [str(path)],
        "columns": {
            **{name: name for name in ("model", "step", "tokens", "task", "metric", "value", "stderr")},
        },
        "where": {"n_shot": 0, "model": [*(m for m in PYTHIA if m != "pythia-1b"), "pythia-1b-bf16"]},
        "models": pythia(**{"pythia-1b": "^pythia-1b-bf16$"}),
    }
    rows = import_metrics(row)
    chosen = raw[(raw["n_shot"] == 0) & raw["model"].isin(row["where"]["model"])]
    assert len(rows) == len(chosen) > 10000
    assert np.array_equal(rows["value"], chosen["value"])
    assert np.array_equal(rows["tokens"], chosen["tokens"])
    one = rows[(rows["model"] == "pythia-1b") & (rows["metric"] == "accuracy_per_character")]
    assert len(one)
    found = regress(rows, parameters="nominal").set_index(["task", "term"])
    assert found.loc[("arc_easy", "tokens"), "t"] > 5  # an ability that grows with training
    everything = {**row, "where": {}, "models": None}
    del everything["models"]
    with pytest.raises(CellError, match="twice: two results for model"):  # zero and five shots
        import_metrics(everything)
    both = [len(import_metrics({**everything, "where": {"n_shot": shots}})) for shots in (0, 5)]
    assert sum(both) == len(raw)


def bad_results(tmp_path: Path, text: str) -> dict[str, Any]:
    (tmp_path / "results.json").write_text(text)
    return {"format": "lm_eval_results", "files": [str(tmp_path / "results.json")], "models": [MODEL]}


CONFIG = '"config": {"model_args": "pretrained=my-model,revision=step1"}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"results\.json is not readable JSON"),
        ("[]", r"results\.json: found JSON of type list"),
        ("{}", r"results: missing or empty \(found: nothing\)"),
        ('{"results": {}}', "results: missing or empty"),
        ('{"results": {"t": 3}}', r"results\.t: found 3, expected metrics"),
        ('{"results": {"t": {"alias": "t"}}}', "no task has a metric"),
        (
            '{"results": {"t": {"acc,none": NaN}}}',
            r"results\.t\.acc,none: found nan, allowed: a finite number",
        ),
        ('{"results": {"t": {"acc": Infinity}}}', r"results\.t\.acc: found inf"),
        ('{"results": {"t": {"acc": 1}}}', r"config\.model_args: found None, allowed: pretrained="),
        (
            '{"results": {"t": {"acc": 1}}, "config": {"model_args": "pretrained=other,revision=step1"}}',
            r"found model 'other', which no row of study\.models matches; allowed: my-model",
        ),
        (
            '{"results": {"t": {"acc": 1}}, "config": {"model_args": "pretrained=my-model"}}',
            r"found no step in the revision 'main' and the name 'my-model'.*'main' under study\.steps",
        ),
    ],
)
def test_bad_results(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CellError, match=message):
        import_metrics(bad_results(tmp_path, text), "study")


def test_two_files_for_one_cell(tmp_path: Path) -> None:
    text = '{"results": {"t": {"acc": 1}}, ' + CONFIG + "}"
    (tmp_path / "again.json").write_text(text)
    row = bad_results(tmp_path, text)
    row["files"] = [f"{tmp_path}/*.json", f"{tmp_path}/again.json"]  # the second names no further file
    with pytest.raises(
        CellError, match=r"again\.json and .*results\.json: two results for model my-model, .*task t"
    ):
        import_metrics(row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": {"tt": "x"}}, r"study\.tasks: found 'tt', which is not in the files; allowed: t"),
        ({"files": ["nowhere/*.json"]}, r"files\[0\]: found 'nowhere/\*\.json', which matches no file"),
        ({"format": "lm_eval"}, "format: found 'lm_eval'; allowed: lm_eval_results"),
        ({"step": "step(\\d+)"}, r"study\.step: found .*allowed: a pattern with the group"),
        ({"step": "("}, r"study\.step: found '\(', not a regular expression"),
        ({"models": [{"name": "a"}, {"name": "a"}]}, "two models named 'a'"),
        ({"models": [{"name": "my-model", "match": "["}]}, r"models\[0\]\.match: found '\['"),
        ({"models": [{"nmae": "a"}]}, r"models\[0\]\.nmae: unknown key"),
        (
            {"columns": {"model": "a", "task": "b", "value": "c"}},
            r"study\.columns: found with format lm_eval_results, which has no such key",
        ),
        ({"shots": 3}, r"study\.shots: found 3, but no task"),
        (
            {"models": [{"name": "a", "match": "my"}, {"name": "b", "match": "mod"}]},
            r"which 2 rows of study\.models match \(a, b\)",
        ),
    ],
)
def test_bad_specifications(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    row = bad_results(tmp_path, '{"results": {"t": {"acc": 1}}, ' + CONFIG + "}")
    with pytest.raises(EbbtideError, match=message):
        import_metrics({**row, **change}, "study")


@pytest.mark.parametrize(
    ("columns", "more", "message"),
    [
        ({"score": [0.1, None, 0.3, 0.4]}, {}, "row 2: column 'score': found nan, allowed: a finite number"),
        ({"score": ["0.1", "0.2", "n/a!", "1"]}, {}, "row 3: column 'score': found 'n/a!'"),
        ({"who": ["lab/m-1", "lab/m-1", "x", "lab/m-2"]}, {}, "found model 'x', which no row of"),
        ({"what": ["a", "a", "a", None]}, {}, "row 4: column 'what' is empty"),
        ({"when": ["step1", "last", "step1", "step2"]}, {}, "found no step in the revision 'last'"),
        ({"when": ["step1", "step1", "step1", "step2"]}, {}, r"table\.csv twice: two results for model m-1"),
        ({"s": [1, 2, 1.5, 2]}, {"s": "s"}, "row 3: column 's': found 1.5, allowed: a whole number"),
        ({}, {"where": {"shot": 0}}, "no column 'shot', which study.where.shot names"),
        ({}, {"where": {"shots": 1}}, "found no row that study.where selects"),
        ({}, {"metric": None}, "set either metric"),
    ],
)
def test_bad_tables(columns: Any, more: dict[str, Any], message: str, tmp_path: Path) -> None:
    row = of_table(write_table(tmp_path / "table.csv", **columns))
    if "s" in more:
        row["columns"] = {
            **{k: v for k, v in row["columns"].items() if k != "revision"},
            "step": more.pop("s"),
        }
    row = {k: v for k, v in {**row, **more}.items() if v is not None}
    with pytest.raises(EbbtideError, match=message):
        import_metrics(row, "study")


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    row = of_table(write_table(tmp_path / "table.csv"))
    row["columns"]["value"] = "scores"
    with pytest.raises(
        CellError, match=r"no column 'scores', which study\.columns\.value names; .*did you mean 'score'"
    ):
        import_metrics(row, "study")
    (tmp_path / "table.txt").write_text("")
    with pytest.raises(CellError, match=r"found suffix '\.txt', allowed: \.tsv, \.csv, \.parquet"):
        import_metrics(of_table(tmp_path / "table.txt"))
    (tmp_path / "table.parquet").write_text("no Parquet")
    with pytest.raises(CellError, match=r"table\.parquet cannot be read"):
        import_metrics(of_table(tmp_path / "table.parquet"))


def changed(**keys: Any) -> Any:
    return lambda lines: [{**lines[0], **keys}, *lines[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [], "contains no samples"),
        (lambda lines: [3], "line 1: found .3., expected a JSON object"),
        (
            lambda lines: [{k: v for k, v in lines[0].items() if k != "arguments"}],
            "line 1 has no key 'arguments'",
        ),
        (lambda lines: [*lines, lines[0]], "line 4: doc_id 0 occurs twice"),
        (changed(filtered_resps=["Paris"]), "one answer per request"),
        (changed(filtered_resps=["Paris", "Rome", "Lyon"]), "found 'Paris', allowed: a log-likelihood"),
        (changed(filtered_resps=[["nan", "True"]] * 3), "allowed: a finite log-likelihood"),
        (changed(target="7"), "found '7', allowed: an index from 0 to 2"),
        (changed(target="London"), "found 'London'"),
        (changed(target="2"), "line 1: found acc 1, but target gives 0"),
        (
            changed(arguments={f"gen_args_{i}": {"arg_0": "x", "arg_1": {"until": []}} for i in range(3)}),
            "Only tasks of type multiple_choice",
        ),
    ],
)
def test_bad_samples(change: Any, message: str, tmp_path: Path) -> None:
    run = rewritten(tmp_path, "sample_choice", change)
    with pytest.raises(CellError, match=message):
        import_metrics(of_run(run, tasks={"sample_choice": "choice"}))


def test_samples_need_their_results(tmp_path: Path) -> None:
    run = rewritten(tmp_path, "sample_choice", list)
    (run / f"results_{DATE}.json").unlink()
    with pytest.raises(CellError, match=rf"results_{DATE}\.json in the same directory"):
        import_metrics(of_run(run))
    (run / "notes.jsonl").write_text("{}")
    with pytest.raises(CellError, match=r"found name 'notes\.jsonl', allowed: samples_TASK_DATE\.jsonl"):
        import_metrics({**of_run(run), "files": [f"{run}/*.jsonl"]})


def test_two_samples_files_for_one_cell(tmp_path: Path) -> None:
    run = rewritten(tmp_path, "sample_choice", list)
    for name in (f"samples_sample_choice_{DATE}.jsonl", f"results_{DATE}.json"):
        shutil.copy(run / name, run / name.replace(DATE, "later"))
    with pytest.raises(
        CellError, match=r"samples_sample_choice_2026.* and .*samples_sample_choice_later\.jsonl"
    ):
        import_metrics(of_run(run))


def test_a_field_that_gold_names_must_be_there() -> None:
    with pytest.raises(CellError, match=r"found no doc\.labels, to which gold is set"):
        import_metrics(of_run(RUN, tasks={"sample_mc2": "m"}, gold="doc.labels"))
    with pytest.raises(ConfigError, match="gold: found 'labels'"):
        import_metrics(of_run(RUN, gold="labels"))
