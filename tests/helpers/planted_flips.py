"""A study of made-up cells in which known examples flip."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import tiny
from ebbtide.cells import store
from ebbtide.cells.cell import write_cell
from ebbtide.jobs.freeze_task import freeze_task
from ebbtide.study.load import read_study
from ebbtide.study.study import Study
from ebbtide.tables import REQUESTS, read_footer, read_frame
from task_data import json_lines, put

COUNTRIES = ("France", "Japan", "Peru")
N = 24  # examples; example i is in COUNTRIES[i % 3]
# Right at step 1 of every model: all but 22 and 23. Their margins, of the two choices, are 1 nat.
ALWAYS_WRONG_FIRST = (22, 23)
LOST = (0, 3, 6, 9, 12, 15, 1, 4, 7, 10, 2)  # of model a: 6 in France, 4 in Japan, 1 in Peru; 0 loses most
GAINED = (23,)
ALSO_LOST = {"b": (0, 3), "c": (0,)}
EVIL = "\x1b[31mred\u202e <script>alert(1)</script>\ttab"


def margins(model: str, step: int) -> list[float]:
    """The planted margin of every example: of a right answer above 0."""
    found = [-1.0 if i in ALWAYS_WRONG_FIRST else 1.0 for i in range(N)]
    if step == 1:
        return found
    for rank, i in enumerate(LOST if model == "a" else ALSO_LOST[model]):
        found[i] = -3.0 + 0.1 * rank
    for i in GAINED if model == "a" else ():
        found[i] = 2.0
    return found


def questions() -> list[dict[str, Any]]:
    text = {5: EVIL}
    return [
        {
            "prompt": f"Question {i}: {text.get(i, 'what?')}\nAnswer:",
            "classes": [" yes", f" no{EVIL if i == 0 else ''}"],
            "answer_index": i % 2,
            "country": COUNTRIES[i % 3],
        }
        for i in range(N)
    ]


def write_study(models: Sequence[str] = ("a", "b", "c"), **task: Any) -> Study:
    """A study in the working directory: models, two checkpoints each, and one frozen task, without cells."""
    for number, model in enumerate(models):
        for step in (1, 2):
            tiny.hollow_checkpoint(Path(f"{model}/step{step}"), 10 * number + step)
    source = put(json_lines(questions()), "t.jsonl")
    definition = {"title": "T", "source": source, "groups": {"country": "country"}, **task}
    Path("t.yaml").write_text(yaml.safe_dump(definition))
    config = {
        "study": "s",
        "models": [
            {"name": model, "path": f"{model}/step{{step}}", "steps": [1, 2], "tokens_per_step": 100}
            for model in models
        ],
        "tasks": ["t.yaml"],
        "scoring": {"dtype": "float32", "load_once_per": "checkpoint"},
    }
    Path("s.yaml").write_text(yaml.safe_dump(config))
    study = read_study("s.yaml")
    freeze_task("t.yaml", study.tasks["t"].frozen)
    return study


def put_cell(
    study: Study,
    model: str,
    step: int,
    loglikelihoods: Mapping[tuple[str, int], float],
    path: Path | None = None,
) -> Path:
    """Write the cell of a checkpoint to the store, or to `path`."""
    frozen = study.tasks["t"].frozen
    asked = read_frame(frozen, REQUESTS)
    values = [loglikelihoods[key] for key in zip(asked["example"], asked["choice"], strict=True)]
    rows = asked[["example", "choice"]].assign(
        loglikelihood=values,
        tokens=2,
        bytes=[len(text.encode()) for text in asked["continuation"]],
        characters=asked["continuation"].str.len().astype("int64"),
        greedy=False,
        first_token_loglikelihood=values,
        context_tokens=3,
        truncated=False,
    )
    checkpoint = study.checkpoint(model, f"step{step}")
    identity = study.identity(checkpoint, "t")
    path = path or store.path_of(study.config["scoring"]["store"], identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    sha256 = read_footer(frozen, REQUESTS)["content_sha256"]
    sizes = {"parameters_total": 3, "parameters_non_embedding": 2}
    write_cell(rows, path, identity, {"requests": len(rows), "requests_sha256": sha256, **sizes})
    return path


def planted(model: str, step: int) -> dict[tuple[str, int], float]:
    """Log-likelihoods with the planted margins: -4 nats of the wrong choice."""
    return {
        (str(i), choice): -4.0 + (margin if choice == i % 2 else 0.0)
        for i, margin in enumerate(margins(model, step))
        for choice in (0, 1)
    }


def scored_study(**task: Any) -> Study:
    """The study with all cells in the store."""
    study = write_study(**task)
    for model in study.models:
        for step in (1, 2):
            put_cell(study, model, step, planted(model, step))
    return study
