"""Notices about cells: ties and what accuracy would be without them, contexts that were cut, borders."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import tiny
from ebbtide.arrow import columns_of
from ebbtide.cells.result_audit import audit, read_notices
from ebbtide.metrics.examples import Examples, join
from ebbtide.metrics.notices import cell_notices, checkpoint_notices
from ebbtide.metrics.of_cell import examples_of, measure
from ebbtide.metrics.ties import ties_of
from ebbtide.notices import Notice
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.tables import METRICS, write_parquet

PLACE = {"model": "m", "checkpoint": "step1", "task": "t"}
CHOICE = {"kind": "choice"}


def cell(lps: list[list[float]], gold: list[int], **columns: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of a cell and of its requests: one list of log-likelihoods per example."""
    keys = [(f"e{e}", c) for e, of in enumerate(lps) for c in range(len(of))]
    frame = pd.DataFrame(keys, columns=["example", "choice"])
    requests = frame.assign(
        gold=[c == gold[e] for e, of in enumerate(lps) for c in range(len(of))], context="", continuation=""
    )
    counts = {"tokens": 1, "bytes": 2, "characters": 2, "truncated": False, "border_token": False}
    rows = frame.assign(loglikelihood=[lp for of in lps for lp in of], **(counts | columns))
    return rows, requests


def found(
    rows: pd.DataFrame, requests: pd.DataFrame, footer: dict[str, Any] | None = None, **definition: Any
) -> list[Notice]:
    definition = {**CHOICE, **definition}
    x = examples_of(rows, requests, definition)
    return cell_notices(columns_of(rows), footer or {}, x, definition, PLACE)


def test_a_head_of_zeros_has_accuracy_1_by_the_order_of_choices_and_says_so(tmp_path: Path) -> None:
    scorer = load_scorer(tiny.checkpoint(tmp_path / "checkpoint"))
    with torch.inference_mode():
        scorer.body.decoder.head.weight.zero_()
    rows = [(str(e), c, "the old child", [" young", " tall"][c], c == 0) for e in range(20) for c in range(2)]
    path = tiny.requests(tmp_path / "task.parquet", rows)
    scored, requests = score_requests(scorer, path), pd.read_parquet(path)
    metrics = measure(scored.rows.to_pandas(), requests).set_index("metric")
    assert tuple(metrics.loc["accuracy", ["value", "stderr", "chance"]]) == (1.0, 0.0, 0.5)
    assert metrics.loc["ties", "value"] == 1.0
    [notice] = found(scored.rows.to_pandas(), requests, scored.footer, metrics=["accuracy"])
    assert notice == Notice(
        "warning",
        "tied",
        "The best choices are exactly equal in 20 of 20 examples (the first is '0'), and the first of them "
        "is taken as the answer: accuracy is 1.000, with ties as wrong answers 0.000, with random answers "
        "0.500.",
        "Compare choice_probability and margin, which do not depend on the order of the choices.",
        count=20,
        **PLACE,
    )


def test_16_bits_make_ties_and_the_remedy_is_more_bits() -> None:
    rows, requests = cell([[-1.5, -1.5], [-2.0, -1.0]] * 10, [1, 1] * 10)
    [notice] = found(rows, requests, {"dtype": "bfloat16"}, metrics=["accuracy", "accuracy_per_character"])
    tied = "is 0.500, with ties as wrong answers 0.500, with random answers 0.750"
    assert "in 10 of 20 examples (the first is 'e0')" in notice.detail
    assert notice.detail.endswith(f": accuracy {tied}; accuracy_per_character {tied}.")
    assert notice.remedy == "Score in float32 (scoring.dtype)."
    assert measure(rows, requests).set_index("metric").loc["ties", "value"] == 0.5


def test_each_metric_has_its_own_ties() -> None:
    """-2 in two characters and -3 in three are equal per character only."""
    rows, requests = cell([[-2.0, -3.0], [-1.0, -5.0]], [0, 0], characters=[2, 3, 2, 3], bytes=[2, 2, 2, 2])
    ties = ties_of(Examples(join(rows, requests), CHOICE), CHOICE)
    assert set(ties) == {"accuracy_per_character"}
    of = ties["accuracy_per_character"]
    assert (of.tied.tolist(), of.value, of.as_misses, of.at_random) == ([True, False], 1.0, 0.5, 0.75)
    assert not ties_of(Examples(join(rows, requests), CHOICE), {**CHOICE, "metrics": ["accuracy"]})


def test_a_tie_of_wrong_choices_changes_nothing_and_is_a_note() -> None:
    rows, requests = cell([[-1.0, -1.0, -2.0], [-3.0, -2.0, -1.0]], [2, 2])
    [notice] = found(rows, requests, metrics=["accuracy"])
    assert notice.severity == "note"
    assert "accuracy is 0.500, with ties as wrong answers 0.500, with random answers 0.500." in notice.detail


def test_a_tie_of_three_and_two_right_choices() -> None:
    rows, requests = cell([[-1.0, -1.0, -1.0]], [0])
    requests.loc[1, "gold"] = True
    of = ties_of(Examples(join(rows, requests), CHOICE), CHOICE)["accuracy"]
    assert (of.value, of.as_misses, of.at_random) == (1.0, 0.0, pytest.approx(2 / 3))


def test_inverted_tasks_and_mc1() -> None:
    rows, requests = cell([[-1.0, -1.0, -1.0]], [0])
    inverted = {**CHOICE, "invert": True}
    of = ties_of(Examples(join(rows, requests), inverted), inverted)["accuracy"]
    assert (of.value, of.as_misses, of.at_random) == (0.0, 0.0, pytest.approx(2 / 3))
    best = requests.assign(best=[1, 0, -1])
    of = ties_of(Examples(join(rows, best), CHOICE), CHOICE)["mc1"]
    assert (of.value, of.as_misses, of.at_random) == (1.0, 0.0, 0.5)


def test_no_ties_no_notice() -> None:
    rows, requests = cell([[-1.0, -2.0], [-2.0, -1.0]], [0, 0])
    assert found(rows, requests) == []


@pytest.mark.parametrize(
    ("gold", "severity", "share"), [([0] * 12, "warning", "1.000"), ([0, 1] * 6, "note", "0.500")]
)
def test_the_same_answer_throughout(gold: list[int], severity: str, share: str) -> None:
    rng = np.random.default_rng(0)
    rows, requests = cell([[-1.0 - rng.random(), -3.0 - rng.random()] for _ in gold], gold)
    [notice] = found(rows, requests)
    assert (notice.severity, notice.kind, notice.count) == (severity, "tied", 12)
    assert notice.detail == (
        "The answer is choice 0 in all 12 examples, so accuracy is the share of examples in which that "
        f"choice is right ({share})."
    )


def test_contexts_and_borders_are_counted_and_the_first_is_named() -> None:
    rows, requests = cell(
        [[-1.0, -2.0], [-2.0, -1.0]],
        [0, 0],
        truncated=[False, False, True, True],
        border_token=[False, True, True, False],
    )
    footer = {"model_window": 2048, "window_key": "n_ctx", "identity": {"encoding": "harness"}}
    truncated, border = found(rows, requests, footer)
    assert truncated.detail == (
        "2 of 4 contexts exceeded the window of 2,048 tokens and lost the beginning (the first is example "
        "'e1', choice 0)."
    )
    assert (truncated.kind, truncated.severity, truncated.count) == ("truncated", "warning", 2)
    assert border.detail == (
        "In 2 of 4 requests a token spans the border of context and continuation, so the beginning of the "
        "continuation is not scored (the first is example 'e0', choice 1)."
    )
    assert (border.kind, border.count) == ("text", 2)
    footer["identity"] = {"encoding": "joint", "max_length": 100}
    truncated, border = found(rows, requests, footer)
    assert "window of 100 tokens" in truncated.detail
    assert "the end of the context is scored, too" in border.detail
    old = rows.drop(columns="border_token")  # a cell of an earlier version
    assert [n.kind for n in found(old, requests)] == ["truncated"]


@pytest.mark.parametrize(
    ("parts", "detail"),
    [
        (
            {"kept_least": 96, "kept_median": 118, "kept_most": 131, "of": 500, "left_out": 812},
            "812 of 1000 prompts lost the last of their parts (kept: 96 to 131, 118 in the median; the "
            "longest has 500), because all of them would exceed the window of 2,048 tokens.",
        ),
        (
            {
                "kept_least": 24,
                "kept_median": 24,
                "kept_most": 24,
                "of": 50,
                "left_out": 1000,
                "shared": True,
            },
            "The first 24 of 50 few-shot examples were used in every prompt, because more would exceed the "
            "window of 2,048 tokens.",
        ),
        ({"kept_least": 9, "kept_median": 9, "kept_most": 9, "of": 9, "left_out": 0}, None),
    ],
)
def test_parts_of_prompts_that_were_left_out_are_said(parts: dict[str, Any], detail: str | None) -> None:
    rows, requests = cell([[-1.0, -2.0], [-2.0, -1.0]], [0, 0])
    parts = {"shared": False, "examples": 1000, **parts}
    notices = found(rows, requests, {"model_window": 2048, "parts": parts})
    assert [n.detail for n in notices if n.kind == "truncated"] == ([detail] if detail else [])


@pytest.mark.parametrize(
    ("footer", "kind", "detail"),
    [
        ({"source": "fake"}, "suspicious", "The log-likelihoods are made up and do not measure a model"),
        (
            {"verified": {"examples": 0, "reason": "MemoryError: no"}},
            "not_audited",
            "The cell could not be rescored in float64: MemoryError: no.",
        ),
        ({"identity": {"weights": "sampled:1"}}, "not_audited", "a sample of their bytes only"),
        (
            {"window_key": None, "model_window": 2048},
            "defaulted",
            "config.json sets no context window, so 2,048 tokens were used.",
        ),
    ],
)
def test_what_the_footer_says(footer: dict[str, Any], kind: str, detail: str) -> None:
    rows, requests = cell([[-1.0, -2.0], [-2.0, -1.0]], [0, 0])
    [notice] = found(rows, requests, footer)
    assert (notice.kind, notice.model, notice.checkpoint, notice.task) == (kind, "m", "step1", "t")
    assert detail in notice.detail
    assert cell_notices(columns_of(rows), footer, None, None, PLACE) == [
        notice
    ]  # also where ties are unknown


@pytest.mark.parametrize(
    "footer",
    [
        {"verified": {"examples": 2, "largest_difference": 1e-5}},
        {"identity": {"weights": "sampled:1"}, "weights_sha256": {"model.safetensors": "0"}},
        {"window_key": None, "model_window": 2048, "identity": {"max_length": 512}},
        {"window_key": "max_seq_len", "model_window": 2048},
    ],
)
def test_what_is_in_order_is_not_said(footer: dict[str, Any]) -> None:
    rows, requests = cell([[-1.0, -2.0], [-2.0, -1.0]], [0, 0])
    assert found(rows, requests, footer) == []


def test_documents_without_tokens_are_counted() -> None:
    rows, requests = cell([[-1.0], [0.0]], [0, 0], tokens=[3, 0], bytes=[3, 0])
    rows = rows.assign(words=[1, 1], characters=[3, 0])
    definition = {"kind": "rolling"}
    [notice] = cell_notices(columns_of(rows), {}, examples_of(rows, requests, definition), definition, PLACE)
    assert notice.detail == (
        "1 of 2 documents had no tokens and did not count (the first is example 'e1', choice 0)."
    )


def test_ties_are_findings_of_the_result_audit(tmp_path: Path) -> None:
    rows, requests = cell([[-1.0, -1.0]] * 12, [0] * 12)
    notices = found(rows, requests, metrics=["accuracy"])
    part = tmp_path / "part.parquet"
    frame = pd.DataFrame({name: [0] for name in METRICS.columns})
    texts = {n: ["x"] for n in ("model", "checkpoint", "task", "metric", "source")}
    frame = frame.assign(**texts, value=1.0, stderr=0.0, chance=0.5)
    write_parquet(frame, part, METRICS, {"notices": [n.record() for n in notices]})
    assert read_notices([part]) == notices
    where = {"model": "m", "checkpoint": "step1", "step": 1, "task": "t"}
    digests = pd.DataFrame([{**where, "loglikelihoods": "a"}])
    [finding] = audit(frame.iloc[:0], digests, (), notices).to_dict("records")
    assert finding.items() >= {"severity": "warning", "finding": "tied", **where}.items()
    assert "accuracy is 1.000, with ties as wrong answers 0.000, with random" in finding["detail"]
    note = [Notice("note", "tied", "few", **PLACE), Notice("warning", "truncated", "long", **PLACE)]
    assert audit(frame.iloc[:0], digests, (), note).empty


def places(model: str, tokens: list[int], source: str = "scored") -> pd.DataFrame:
    """A checkpoint at each of the steps 0, 1, 2, …"""
    steps = range(len(tokens))
    names = [f"step{step}" for step in steps]
    columns = {"checkpoint": names, "step": steps, "tokens": tokens}
    return pd.DataFrame({"model": model, **columns, "source": source})


def test_untrained_checkpoints_are_said_once_for_all_models() -> None:
    [one] = checkpoint_notices(pd.concat([places("a", [0, 8, 16]), places("b", [0, 8, 16])]))
    assert (one.severity, one.kind, one.count) == ("note", "dropped", 2)
    assert one.detail == (
        "Untrained checkpoints (step0 of a, step0 of b) are not in trends; alarms compare with them only if "
        "they are the baseline."
    )
    assert checkpoint_notices(places("a", [0])) == []  # nothing but an untrained model


def test_unknown_training_tokens_are_said_once_per_model() -> None:
    [one, _] = checkpoint_notices(places("a", [0, 8, 0, 0, 32]))
    assert (one.severity, one.kind, one.model, one.count) == ("warning", "dropped", "a", 2)
    assert one.detail == (
        "The training tokens of step2, step3 are unknown, so slopes, trends, regressions and axes of "
        "training tokens leave them out."
    )
    [none, _] = checkpoint_notices(places("a", [0, 0, 0], "imported"))
    assert (none.severity, none.kind, none.count) == ("note", "not_compared", 2)
    assert none.detail == (
        "Its training tokens are unknown, so it has no slopes, and is in no regression over tokens."
    )
    assert none.remedy == "Set models[].tokens_per_step in the row of imported."
