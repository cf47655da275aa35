"""Who leads, and what the hint says."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from ebbtide.cells import store
from ebbtide.checkpoints.findings import allowances
from ebbtide.grid import Checkpoint, Model
from ebbtide.jobs import leads
from ebbtide.jobs.leads import COPY, FOLLOWER, LEAD, ScoreJobs, hint_path, hints, missing
from ebbtide.scoring.proof.load_key import key_of
from ebbtide.study.load_proofs import proof_entries, proof_rules
from ebbtide.study.study import Study
from ebbtide.tasks.definition import Task

TASKS = ("t1", "t2", "t3")


AUDIT: dict[str, Any] = {
    **{"load_loss": "warn", "load_tensors": "stop"},
    "allow": [
        {"finding": "duplicate", "models": ["*"], "reason": "of files"},
        {"finding": "load_loss", "models": ["small"], "steps": [8], "reason": "a spike"},
    ],
}


def checkpoint(model: str, step: int) -> Checkpoint:
    return Checkpoint(
        model=model,
        name=f"step{step}",
        step=step,
        tokens=step * 10,
        weights=f"trained:{model}-{step}",
        tokenizer="toy",
        marker=f"resources/checkpoints/{model}/step{step}/trained-0.json",
        size_bytes=0,
        dtype="bfloat16",
    )


@pytest.fixture
def study(tmp_path: Path) -> Study:
    models = {m: Model(m, tuple(checkpoint(m, step) for step in (0, 8))) for m in ("small", "large")}
    definition: dict[str, Any] = {"source": {"toy": "x"}, "fields": {}}
    tasks = {t: Task(t, Path(f"{t}.yaml"), {**definition, "source": {"toy": t}}, None) for t in TASKS}
    scoring = {
        "dtype": "float32",
        "encoding": "harness",
        "bos": "tokenizer",
        "truncation": "left",
        "max_length": None,
        "backend": "auto",
        "generation_backend": "same",
        "rescore_examples": 0,
        "gpus": None,
        "offload": False,
        "store": str(tmp_path / "cells"),
    }
    return Study(
        "s",
        {"scoring": {**scoring, "load_once_per": "checkpoint"}, "recompute": False, "audit": AUDIT},
        models,
        tasks,
    )


def with_generation(study: Study) -> Study:
    """The study with a first task `g` whose texts are generated."""
    decoding: dict[str, Any] = {"max_tokens": 2, "samples": 1, "temperature": 0, "top_p": 1, "top_k": 0}
    decoding |= {"stop": [], "seed": 0}
    definition = {"source": {"toy": "g"}, "fields": {}, "kind": "generation", "decoding": decoding}
    return replace(study, tasks={"g": Task("g", Path("g.yaml"), definition, None), **study.tasks})


def with_(study: Study, *, recompute: bool = False, **scoring: Any) -> Study:
    changed = {"scoring": {**study.config["scoring"], **scoring}, "recompute": recompute}
    return replace(study, config={**study.config, **changed})


def put(study: Study, model: str, name: str, *tasks: str) -> None:
    """Put cells into the store."""
    for task in tasks:
        tiny.stored(
            Path(study.config["scoring"]["store"]), study.identity(study.checkpoint(model, name), task)
        )


def priorities(study: Study, model: str, name: str) -> list[int]:
    jobs = ScoreJobs(study)
    return [jobs.priority(model, name, task) for task in TASKS]


def test_what_the_store_lacks(study: Study) -> None:
    put(study, "small", "step0", "t2")
    assert missing(study, study.checkpoint("small", "step0")) == ["t1", "t3"]
    assert missing(study, study.checkpoint("small", "step8")) == ["t1", "t2", "t3"]
    assert missing(with_(study, dtype="float64"), study.checkpoint("small", "step0")) == list(TASKS)
    assert missing(with_(study, recompute=True), study.checkpoint("small", "step0")) == list(TASKS)


def test_a_listing_of_the_store_finds_the_same_and_opens_what_is_there(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(study, "small", "step0", "t2")
    [cell] = Path(study.config["scoring"]["store"]).glob("*.parquet")
    monkeypatch.setattr(leads, "LISTED", 1)
    opened: list[str] = []
    is_whole = store.is_whole
    monkeypatch.setattr(store, "is_whole", lambda p, i: bool(opened.append(p.name)) or is_whole(p, i))
    cells = leads.MissingCells(study)
    for _ in range(2):  # each checkpoint is looked for once
        found = [cells.of(checkpoint) for checkpoint in study.checkpoints()]
        assert found == [["t1", "t3"], *([list(TASKS)] * 3)]
    assert opened == [cell.name]
    cell.write_bytes(b"")  # a name alone is no cell
    assert leads.MissingCells(study).of(study.checkpoint("small", "step0")) == list(TASKS)


def test_a_store_that_cannot_be_listed_is_opened_cell_by_cell(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(study, "small", "step0", "t2")
    monkeypatch.setattr(leads, "LISTED", 1)

    def refuse(directory: object) -> None:
        raise PermissionError(directory)

    monkeypatch.setattr(leads.os, "scandir", refuse)
    assert leads.MissingCells(study).of(study.checkpoint("small", "step0")) == ["t1", "t3"]


def test_priorities_are_ordered() -> None:
    assert LEAD > COPY > FOLLOWER


@pytest.mark.parametrize(
    ("ahead", "step0", "step8"),
    [
        ("cell", [COPY, LEAD, LEAD], [LEAD, LEAD, LEAD]),
        ("checkpoint", [COPY, LEAD, FOLLOWER], [LEAD, FOLLOWER, FOLLOWER]),
        ("model", [COPY, LEAD, FOLLOWER], [FOLLOWER, FOLLOWER, FOLLOWER]),
    ],
)
def test_the_first_missing_cell_leads(study: Study, ahead: str, step0: list[int], step8: list[int]) -> None:
    study = with_(study, load_once_per=ahead)
    put(study, "small", "step0", "t1")
    assert priorities(study, "small", "step0") == step0
    assert priorities(study, "small", "step8") == step8
    # Another model has a lead of its own.
    assert ScoreJobs(study).priority("large", "step0", "t1") == LEAD


@pytest.mark.parametrize(
    ("ahead", "step0", "step8"),
    [
        ("cell", [LEAD] * 4, [LEAD] * 4),
        ("checkpoint", [LEAD, LEAD, FOLLOWER, FOLLOWER], [LEAD, LEAD, FOLLOWER, FOLLOWER]),
        ("model", [LEAD, LEAD, FOLLOWER, FOLLOWER], [LEAD, FOLLOWER, FOLLOWER, FOLLOWER]),
    ],
)
def test_each_back_end_has_a_lead(study: Study, ahead: str, step0: list[int], step8: list[int]) -> None:
    """With vLLM one per checkpoint, because a process loads it once."""
    made = with_generation(with_(study, load_once_per=ahead, generation_backend="vllm"))
    jobs = ScoreJobs(made)
    assert [jobs.priority("small", "step0", task) for task in made.tasks] == step0
    assert [jobs.priority("small", "step8", task) for task in made.tasks] == step8


def test_a_whole_checkpoint_hands_the_lead_of_its_model_on(study: Study) -> None:
    study = with_(study, load_once_per="model")
    put(study, "small", "step0", *TASKS)
    assert priorities(study, "small", "step0") == [COPY, COPY, COPY]
    assert priorities(study, "small", "step8") == [LEAD, FOLLOWER, FOLLOWER]


def test_to_recompute_somebody_must_lead(study: Study) -> None:
    put(study, "small", "step0", *TASKS)
    assert priorities(with_(study, recompute=True), "small", "step0") == [LEAD, FOLLOWER, FOLLOWER]


def test_a_hint_holds_the_wanted_cells_in_the_order_of_training_and_tasks(study: Study) -> None:
    wanted = [
        ("small", "step8", "t1"),
        ("small", "step0", "t3"),
        ("small", "step0", "t1"),
        ("large", "step8", "t2"),
    ]
    found = hints(study, wanted, started=5.0)
    assert set(found) == {"small", "large"}
    small = found["small"]
    assert [cell["name"] for cell in small["cells"]] == ["small/step0/t1", "small/step0/t3", "small/step8/t1"]
    assert small["load_once_per"] == "checkpoint"
    assert small["store"] == study.config["scoring"]["store"]
    assert small["recompute_before"] == 0.0
    assert small["rescore_examples"] == 0
    step8 = study.checkpoint("small", "step8")
    assert small["cells"][2] == {
        "name": "small/step8/t1",
        "checkpoint": step8.marker,
        "requests": study.tasks["t1"].frozen,
        "identity": study.identity(step8, "t1"),
    }


def test_a_hint_says_where_load_proofs_are_and_what_their_findings_do(study: Study) -> None:
    [hint] = hints(study, [("small", "step8", "t1")], started=0.0).values()
    assert hint["model"] == "small"
    assert [(entry["name"], entry["step"], entry["tokens"]) for entry in hint["proofs"]] == [
        ("step0", 0, 0),
        ("step8", 8, 80),
    ], "all checkpoints of the model: those of earlier runs are neighbours"
    assert hint["proofs"][1]["key"] == key_of(hint["cells"][0]["identity"])
    assert hint["proof_rules"] == {**AUDIT, "allow": AUDIT["allow"][1:]}
    both = with_generation(with_(study, generation_backend="vllm"))
    [hint] = hints(both, [("small", "step8", "g"), ("small", "step8", "t1")], started=0.0).values()
    assert [entry.get("backend") for entry in hint["proofs"]] == [None, None, "vllm", "vllm"]
    by_task = {cell["identity"]["task"]: key_of(cell["identity"]) for cell in hint["cells"]}
    assert [hint["proofs"][i]["key"] for i in (3, 1)] == [
        by_task[both.tasks[t].identity] for t in ("g", "t1")
    ]
    assert proof_entries(both, both.models["small"]) == proof_entries(study, study.models["small"])
    known = {"finding": "load_tensors", "models": ["small"], "steps": [0], "reason": "known to the authors"}
    of_series: Any = SimpleNamespace(allowances=allowances([known]))
    assert proof_rules(replace(study, hub=(of_series,)))["allow"] == [known, *AUDIT["allow"][1:]]


def test_to_recompute_the_store_is_trusted_from_the_start_of_the_run(study: Study) -> None:
    [hint] = hints(with_(study, recompute=True), [("small", "step0", "t1")], started=5.0).values()
    assert hint["recompute_before"] == 5.0


def test_what_a_cell_is_checked_with_is_no_identity(study: Study) -> None:
    wanted = [("small", "step0", "t1")]
    [plain], [checked] = (
        hints(with_(study, rescore_examples=n), wanted, started=0.0).values() for n in (0, 2)
    )
    assert checked["rescore_examples"] == 2
    assert checked["cells"] == plain["cells"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dtype", "float64"),
        ("encoding", "joint"),
        ("bos", "never"),
        ("truncation", "refuse"),
        ("max_length", 12),
    ],
)
def test_how_requests_are_scored_is_identity(study: Study, key: str, value: object) -> None:
    found = study.checkpoint("small", "step0")
    other = with_(study, **{key: value}).identity(found, "t1")
    assert other == {**study.identity(found, "t1"), key: value}


@pytest.mark.parametrize("backend", ["auto", "transformers", "fake"])
def test_a_back_end_that_may_change_numbers_is_identity(study: Study, backend: str) -> None:
    """Cells of `auto` keep the identity that they had before there was a choice."""
    found = study.checkpoint("small", "step0")
    other = with_(study, backend=backend).identity(found, "t1")
    added = {} if backend == "auto" else {"backend": backend}
    assert other == {**study.identity(found, "t1"), **added}
    assert ("backend" in other) == (backend != "auto")
    [hint] = hints(with_(study, backend=backend), [("small", "step0", "t1")], started=0.0).values()
    assert hint["cells"][0]["identity"] == other  # where the worker reads it


def test_the_identity_holds_the_precision_not_where_it_came_from(study: Study) -> None:
    """What a checkpoint is scored in counts, not whether the study names it or the checkpoint does."""
    found = study.checkpoint("small", "step0")
    own, named = (with_(study, dtype=dtype).identity(found, "t1") for dtype in ("checkpoint", "bfloat16"))
    assert own == named
    assert own["dtype"] == "bfloat16"


def test_nothing_wanted_no_hints(study: Study) -> None:
    assert hints(study, [], started=0.0) == {}
    assert hint_path("small") == "resources/ahead/small.json"
