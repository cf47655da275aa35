"""Every Eval Ever and Inspect: cells of every kind in their formats, by what these demand."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebbtide.exchange.every_eval_ever import NO_SAMPLES, export_every_eval_ever
from ebbtide.exchange.exported import Exported, examples_of
from ebbtide.exchange.inspect_log import export_inspect
from ebbtide.exchange.specification import CheckpointRow, sizes
from ebbtide.metrics.of_cell import measure
from ebbtide.tables import METRICS

TIME = "2026-03-04T05:06:07+00:00"
CHECKPOINT = CheckpointRow("m", "step5", 5, 500, sizes({"total": 90}))
COLUMNS = ["example", "choice", "context", "continuation", "gold"]

CHOICE = pd.DataFrame(
    [
        (f"e{e}", c, f'Q "{e}"\u2028?', text, c == e % 2)
        for e in range(4)
        for c, text in enumerate((" ab", " c"))
    ],
    columns=COLUMNS,
)
SEQUENCE = pd.DataFrame([(str(e), 0, "Twinkle", " star", True) for e in range(3)], columns=COLUMNS)
ROLLING = pd.DataFrame([(str(e), 0, "", f"Document {e}", True) for e in range(3)], columns=COLUMNS)
RATING = pd.DataFrame(
    [(str(e), c, f"Film {e} is a", f" {c + 1}", c + 1.0, 1.0 + e) for e in range(3) for c in range(5)],
    columns=["example", "choice", "context", "continuation", "value", "target"],
)
ROLES = ("choice", "choice", "other", "other")
ODDS = pd.DataFrame(
    [
        (
            str(e),
            c,
            ("one", "other")[c // 2],
            (" yes", " no")[c % 2],
            c == 0,
            ("choice", "other")[c // 2],
            c % 2,
        )
        for e in range(3)
        for c in range(4)
    ],
    columns=[*COLUMNS, "role", "of"],
)
KINDS = {
    "choice": (CHOICE, {}),
    "sequence": (SEQUENCE, {"source": {"dataset": "owner/name", "split": "test"}}),
    "rolling": (ROLLING, {}),
    "rating": (RATING, {}),
    "log_odds": (ODDS, {}),
}


def cell(kind: str, loglikelihoods: Any = None) -> Exported:
    requests, more = KINDS[kind]
    n = len(requests)
    if loglikelihoods is None:
        loglikelihoods = -3 - np.random.default_rng(0).exponential(5, n)  # probabilities below 1
    rows = requests[["example", "choice"]].assign(
        loglikelihood=loglikelihoods,
        tokens=2,
        bytes=[len(text.encode()) for text in requests["continuation"]],
        characters=requests["continuation"].str.len(),
        greedy=False,
        first_token_loglikelihood=-1.0,
        context_tokens=3,
        truncated=False,
    )
    definition = {"kind": kind, **more}
    metrics = measure(rows, requests, definition).assign(**CHECKPOINT.columns(), task=kind, source="scored")
    footer = {"identity": {"weights": "w", "dtype": "float32"}, "written": {"time": TIME, "version": "0.1.0"}}
    return Exported(kind, rows, requests, metrics[list(METRICS.columns)], definition, footer, "id")


@pytest.mark.parametrize("export", [export_every_eval_ever, export_inspect])
def test_equal_results_make_equal_files(export: Any, tmp_path: Path) -> None:
    cells = [cell(kind) for kind in KINDS]
    found = []
    for name in ("one", "two"):
        export(cells, CHECKPOINT, tmp_path / name, "s")
        files = (path for path in (tmp_path / name).rglob("*") if path.is_file())
        found.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert found[0] == found[1] and len(found[0]) >= len(KINDS)
    other = CheckpointRow("m", "step6", 6, 600, sizes({}))
    export(cells, other, tmp_path / "one", "s")
    assert len([path for path in (tmp_path / "one").rglob("*") if path.is_file()]) == 2 * len(found[0])


def test_the_answer_is_that_of_each_metric() -> None:
    """` ab` is more probable, and ` c` more probable per character... of three and two characters."""
    [first, *_] = examples_of(cell("choice", [-3.0, -3.1] * 4))
    assert first.answers("accuracy") == first.answers() == first.answers("margin") == [" ab"]
    [first, *_] = examples_of(cell("choice", [-3.0, -2.5] * 4))
    assert (first.answers("accuracy"), first.answers("accuracy_per_character")) == ([" c"], [" ab"])


def test_partners_of_choices_are_no_answers(tmp_path: Path) -> None:
    """The unconditional requests of the first choices precede the choices in their table."""
    partners = CHOICE.assign(context="Answer:", choice=CHOICE["choice"] + 2, role="unconditional")
    partners["of"] = CHOICE["choice"]
    requests = pd.concat([partners, CHOICE.assign(role="choice", of=CHOICE["choice"])])
    requests = requests.sort_values(["example", "of", "choice"], kind="stable").reset_index(drop=True)
    one = replace(cell("choice"), requests=requests)
    rows = pd.concat([one.rows, one.rows.assign(choice=one.rows["choice"] + 2, loglikelihood=-1.0)])
    rows = requests[["example", "choice"]].merge(rows, on=["example", "choice"])
    one = replace(one, rows=rows)
    for found, expected in zip(examples_of(one), examples_of(cell("choice")), strict=True):
        assert found.choices == expected.choices == [" ab", " c"]
        assert found.answers() == expected.answers() and found.right == expected.right


# --- Every Eval Ever ---------------------------------------------------------------------------

UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def records(to: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(to.rglob("*.json")):
        yield path, json.loads(path.read_text())


def strings(details: Mapping[str, Any]) -> bool:
    return all(isinstance(value, str) for value in details.values())


def test_records_have_what_the_schema_demands(tmp_path: Path) -> None:
    cells = {kind: cell(kind) for kind in KINDS}
    left = export_every_eval_ever(list(cells.values()), CHECKPOINT, tmp_path, "s")
    found = {
        record["evaluation_results"][0]["evaluation_name"]: (path, record)
        for path, record in records(tmp_path)
    }
    assert set(found) == set(KINDS)
    for kind, (path, record) in found.items():
        assert re.fullmatch(rf"data/{kind}/s/m-step5/{UUID4}\.json", path.relative_to(tmp_path).as_posix())
        assert record["schema_version"] == "0.3.0" and record["retrieved_timestamp"] == "1772600767"
        assert record["evaluation_id"] == f"{kind}/s/m-step5/1772600767"
        assert record["source_metadata"]["source_type"] == "evaluation_run"
        assert record["eval_library"] == {"name": "ebbtide", "version": "0.1.0"}
        details = record["model_info"]["additional_details"]
        assert record["model_info"]["id"] == "s/m-step5" and strings(details)
        assert (details["deployment_type"], details["training_tokens"]) == ("self_deployed", "500")
        values = cells[kind].metrics.dropna(subset="value").set_index("metric")["value"].to_dict()
        results = record["evaluation_results"]
        assert {one["evaluation_result_id"]: one["score_details"]["score"] for one in results} == values
        for one in results:
            config, score = one["metric_config"], one["score_details"]
            low, high = (float(config[f"{end}_score"]) for end in ("min", "max"))
            assert low <= score["score"] <= high and isinstance(config["lower_is_better"], bool)
            assert strings(score["details"]) and strings(one["source_data"]["additional_details"])
    sequence = found["sequence"][1]["evaluation_results"][0]["source_data"]
    assert (sequence["source_type"], sequence["hf_repo"]) == ("hf_dataset", "owner/name")
    without = [kind for kind, (_, record) in found.items() if "detailed_evaluation_results" not in record]
    assert left[f"cells {NO_SAMPLES}"] == len(without)
    assert "rolling" in without and "choice" not in without


def test_samples_refer_to_their_record_and_results(tmp_path: Path) -> None:
    one = cell("choice")
    export_every_eval_ever([one], CHECKPOINT, tmp_path, "s")
    [(path, record)] = records(tmp_path)
    reference = record["detailed_evaluation_results"]
    companion = path.with_name(f"{path.stem}_samples.jsonl")
    assert reference["file_path"] == companion.relative_to(tmp_path).as_posix()
    assert reference["checksum"] == hashlib.sha256(companion.read_bytes()).hexdigest()
    rows = [json.loads(line) for line in companion.read_text().splitlines()]  # also at U+2028
    assert len(rows) == reference["total_rows"]
    assert {row["evaluation_id"] for row in rows} == {record["evaluation_id"]}
    assert {row["model_id"] for row in rows} == {record["model_info"]["id"]}
    scores = pd.DataFrame(
        [(row["evaluation_result_id"], row["evaluation"]["score"]) for row in rows],
        columns=["metric", "score"],
    )
    results = {r["evaluation_result_id"]: r["score_details"]["score"] for r in record["evaluation_results"]}
    for metric, mean in scores.groupby("metric")["score"].mean().items():
        assert mean == pytest.approx(results[str(metric)])
    assert {"accuracy", "accuracy_per_character"} <= set(scores["metric"])
    for row in rows:
        assert row["interaction_type"] == "single_turn" and row["input"]["choices"] == [" ab", " c"]
        [answer] = row["output"]["raw"]
        assert row["answer_attribution"][0]["extracted_value"] == answer
        if row["evaluation_result_id"] in ("accuracy", "accuracy_per_character"):
            assert row["evaluation"]["is_correct"] == (answer in row["input"]["reference"])
        assert len(json.loads(row["metadata"]["loglikelihoods"])) == 2


def test_names_that_no_path_takes_are_changed(tmp_path: Path) -> None:
    export_every_eval_ever([cell("choice")], CheckpointRow("a:b", "c?", 1, 1, sizes({})), tmp_path, "data")
    [(path, record)] = records(tmp_path)
    assert path.parent.relative_to(tmp_path).as_posix() == "data/choice/data-/a-b-c-"
    assert record["model_info"]["id"] == "data-/a-b-c-"


# --- Inspect -----------------------------------------------------------------------------------


def logs(to: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    return {log["eval"]["task"]: (path, log) for path, log in records(to)}


def test_logs_have_what_inspect_reads(tmp_path: Path) -> None:
    cells = {kind: cell(kind) for kind in KINDS}
    export_inspect(list(cells.values()), CHECKPOINT, tmp_path, "s")
    found = logs(tmp_path)
    assert set(found) == set(KINDS)
    for kind, (path, log) in found.items():
        name = path.relative_to(tmp_path).as_posix()
        assert re.fullmatch(r"inspect/m__step5/2026-03-04T05-06-07\+00-00_[a-z-]+_[0-9a-f]{22}\.json", name)
        # The header is read as a stream that ends at the samples.
        assert list(log) == ["version", "status", "eval", "plan", "results", "stats", "samples"]
        assert (log["version"], log["status"], log["eval"]["created"]) == (2, "success", TIME)
        assert log["eval"]["model"] == "ebbtide/m-step5" and log["eval"]["metadata"]["training_tokens"] == 500
        values = cells[kind].metrics.dropna(subset="value").set_index("metric")["value"].to_dict()
        scores = log["results"]["scores"]
        assert {score["name"]: score["metrics"]["mean"]["value"] for score in scores} == values
        assert (
            log["results"]["total_samples"]
            == len(log["samples"])
            == cells[kind].requests["example"].nunique()
        )
        assert log["eval"]["dataset"]["sample_ids"] == [sample["id"] for sample in log["samples"]]
    sample = found["choice"][1]["samples"][0]
    assert (sample["choices"], sample["target"]) == ([" ab", " c"], [" ab"])
    assert sample["scores"]["accuracy"]["answer"] == sample["output"]["completion"]
    assert sample["scores"]["accuracy"]["value"] == float(sample["output"]["completion"] == " ab")
    assert len(sample["metadata"]["loglikelihoods"]) == 2
    document = found["rolling"][1]["samples"][0]
    assert document["input"] == "Document 0" and "choices" not in document
    assert found["log_odds"][1]["samples"][0]["metadata"]["continuations"] == [" yes", " no"] * 2


def test_numbers_that_json_lacks_are_left_out_and_counted(tmp_path: Path) -> None:
    one = cell("choice")
    one.metrics.loc[one.metrics["metric"] == "margin", "value"] = np.nan
    for export, of in ((export_every_eval_ever, "e"), (export_inspect, "i")):
        assert export([one], CHECKPOINT, tmp_path / of, "s")["metrics without a value"] == 1
        assert "NaN" not in "".join(path.read_text() for path in (tmp_path / of).rglob("*.json*"))


def generated(count: int, *, kept: bool) -> Exported:
    """A cell of one prompt and `count` samples, of which the first is right."""
    keys = {"example": ["a"] * count, "choice": range(count)}
    asked = {"context": "Say", "continuation": "", "gold": True, "targets": '["yes"]'}
    numbers = dict.fromkeys(("tokens", "characters", "bytes", "words", "context_tokens"), 3)
    shares = dict.fromkeys(("distinct_1", "distinct_2", "repetition"), 0.5)
    requests, rows = pd.DataFrame({**keys, **asked}), pd.DataFrame({**keys, **numbers, **shares})
    rows = rows.assign(ended="eos", exact=[1.0, 0.0, 0.0][:count], loglikelihood=-6.0)
    rows = rows.assign(text=["yes", "no", "no"][:count]) if kept else rows
    decoding = {"temperature": 1.0, "top_p": 0.9, "top_k": 0, "max_tokens": 5, "stop": ["\n"]}
    definition = {"kind": "generation", "decoding": decoding}
    metrics = measure(rows, requests, definition).assign(**CHECKPOINT.columns(), task="g", source="scored")
    return Exported("g", rows, requests, metrics, definition, {"written": {"time": TIME}}, "id")


@pytest.mark.parametrize("kept", [True, False])
def test_generated_texts_are_exported_only_if_they_are_kept(kept: bool, tmp_path: Path) -> None:
    export_every_eval_ever([generated(1, kept=kept)], CHECKPOINT, tmp_path, "s")
    export_inspect([generated(2, kept=kept)], CHECKPOINT, tmp_path, "s")
    [sample] = logs(tmp_path / "inspect")["g"][1]["samples"]
    assert (sample["input"], sample["target"]) == ("Say", ["yes"]) and sample["metadata"] == {}
    texts = [choice["message"]["content"] for choice in sample["output"]["choices"]]
    assert texts == (["yes", "no"] if kept else [])
    [path] = tmp_path.rglob("*_samples.jsonl")
    [row] = [json.loads(line) for line in path.read_text().splitlines()]
    assert row["evaluation_result_id"] == "exact_match"
    assert row["output"]["raw"] == (["yes"] if kept else [])
    assert row["evaluation"] == {"score": 1.0, "is_correct": True}
    [(_, record)] = records(tmp_path / "data")
    arguments = record["evaluation_results"][0]["generation_config"]["generation_args"]
    assert arguments == {"temperature": 1.0, "top_p": 0.9, "max_tokens": 5}


def test_several_samples_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    left = export_every_eval_ever([generated(3, kept=True)], CHECKPOINT, tmp_path, "s")
    assert left == {f"cells {NO_SAMPLES}": 1}
