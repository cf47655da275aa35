"""Notices about a study itself."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import tiny
from ebbtide.jobs.leads import check_deleted_weights
from ebbtide.study.checks import check_checkpoints, problem_of
from ebbtide.study.load import load_study
from ebbtide.study.notices import study_notices
from ebbtide.study.study import Study
from ebbtide.tables import REQUESTS, write_parquet
from task_data import define


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for step in (0, 1, 2):
        tiny.hollow_checkpoint(Path(f"r/step{step}"), step)


def study(row: dict[str, Any] | None = None, **config: Any) -> Study:
    models = [{"name": "m", "path": "r/step{step}", "steps": "all", **(row or {})}]
    return load_study({"study": "s", "models": models, "tasks": ["fact_qa"], **config}, [])


def test_a_study_with_tokens_in_one_precision_has_none() -> None:
    assert study_notices(study({"tokens_per_step": 10})) == []


def test_precisions_are_said() -> None:
    for step in (1, 2):
        config = Path(f"r/step{step}/config.json")
        config.write_text(config.read_text().replace("{", '{"dtype": "bfloat16", ', 1))
    notices = study_notices(study({"tokens_per_step": 10}))
    assert [(n.severity, n.detail) for n in notices] == [
        ("warning", "1 of 3 checkpoints are scored in float32, the precision of their files (m/step0)."),
        ("warning", "2 of 3 checkpoints are scored in bfloat16, the precision of their files (m/step1)."),
    ]
    notices = study_notices(study({"tokens_per_step": 10, "steps": [1, 2]}))
    assert [(n.severity, n.remedy) for n in notices] == [("note", "")]
    assert study_notices(study({"tokens_per_step": 10}, scoring={"dtype": "float32"})) == []


def test_deleted_weights_must_not_be_needed(tmp_path: Path) -> None:
    study({"tokens_per_step": 10})
    shutil.rmtree("r/step2")
    made = study({"tokens_per_step": 10})
    assert problem_of(lambda: check_deleted_weights(made)) == (
        "ConfigError: --config: models[0].path: the weights of m/step2 have been deleted, but are needed to "
        "score fact_qa; restore them, or set audit.gone to drop."
    )
    tiny.stored(tmp_path / "cells", made.identity(made.checkpoint("m", "step2"), "fact_qa"))
    assert problem_of(lambda: check_deleted_weights(made)) is None
    dropped = study({"tokens_per_step": 10}, audit={"gone": "drop"})
    assert [c.step for c in dropped.checkpoints()] == [0, 1]
    assert problem_of(lambda: check_deleted_weights(dropped)) is None


def test_what_stops_the_study_has_one_sentence_and_leaves_the_audit_possible() -> None:
    for file in Path("r").glob("*/tokenizer.json"):
        file.unlink()
    made = study({"tokens_per_step": 10})
    assert problem_of(lambda: check_checkpoints(made)) == (
        "ConfigError: --config: models[0].path: no tokenizer.json in r/step0 or its parent. Set `tokenizer:` "
        "to the directory that has it. The audit stops the study: no_tokenizer, m step 0 1 2. The target "
        "audit lists all findings. To continue, set audit.no_tokenizer to drop."
    )
    dropped = study({"tokens_per_step": 10}, audit={"no_tokenizer": "drop"})
    assert not list(dropped.checkpoints())
    assert dropped.dropped() == [["m", f"step{step}", 10 * step] for step in (0, 1, 2)]
    assert [n.detail for n in study_notices(dropped)] == ["The audit drops every checkpoint of the model."]


def test_samples_must_leave_a_prompt_room_in_windows_that_are_known() -> None:
    decoding = {"max_tokens": tiny.WINDOW}
    define([{"prompt": "a"}], kind="generation", decoding=decoding)
    row = {"tokens_per_step": 10}
    assert problem_of(lambda: study(row, tasks=["mine.yaml"])) == (
        "ConfigError: mine.yaml: decoding.max_tokens: found 48, but the window of m is 48 tokens, of which a "
        "prompt needs one; allowed: at most 47."
    )
    shorter = problem_of(lambda: study(row, tasks=["mine.yaml"], scoring={"max_length": 20}))
    assert shorter is not None and "but scoring.max_length of --config is 20 tokens" in shorter
    study(row, tasks=["mine.yaml"], scoring={"backend": "fake"})
    define([{"prompt": "a"}], kind="generation", decoding={"max_tokens": tiny.WINDOW - 1})
    study(row, tasks=["mine.yaml"])


def test_what_a_task_of_lm_eval_generates_must_fit_once_it_is_frozen() -> None:
    keys = {"title": "Mine", "source": {"lm_eval": "gsm8k", "version": "0.4.13"}, "kind": "generation"}
    Path("mine.yaml").write_text(yaml.safe_dump(keys))
    made = study({"tokens_per_step": 10}, tasks=["mine.yaml"])
    frozen = Path(made.tasks["mine"].frozen)
    frozen.parent.mkdir(parents=True)
    rows = pd.DataFrame(
        {"example": ["0"], "choice": [0], "context": ["a"], "continuation": [""], "gold": [True]}
    )
    footer = {"definition": {**keys, "decoding": {"max_tokens": tiny.WINDOW}}}
    write_parquet(rows, frozen, REQUESTS, footer)
    assert problem_of(lambda: study({"tokens_per_step": 10}, tasks=["mine.yaml"])) == (
        "ConfigError: mine.yaml: max_gen_toks of lm-eval's gsm8k: found 48, but the window of m is 48 "
        "tokens, of which a prompt needs one; allowed: at most 47."
    )
    frozen.write_bytes(frozen.read_bytes()[:100])
    study({"tokens_per_step": 10}, tasks=["mine.yaml"])
