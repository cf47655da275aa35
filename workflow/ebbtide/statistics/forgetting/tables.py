"""Tables of forgetting of a study."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ebbtide.statistics.forgetting.forgetting import CURVES, curves, summarise_histories
from ebbtide.statistics.forgetting.history import History, history
from ebbtide.statistics.forgetting.together import forgotten_together, largest_models
from ebbtide.statistics.panel import Trajectory
from ebbtide.tables import REQUESTS, read_footer, read_frame

EXAMPLES = (
    *("task", "metric", "example", "forgotten_in", "models", "in_all_large", "when", "strips"),
    *("prompt", "answer"),
)
RIGHT, WRONG = "●", "○"
MAX_STRIP = 60  # checkpoints per strip; of more, evenly spaced ones are shown


class ForgettingTables(NamedTuple):
    """Rows: model × task; task; model × task × checkpoint; task × forgotten example."""

    summary: pd.DataFrame
    together: pd.DataFrame
    curves: pd.DataFrame
    examples: pd.DataFrame


def forgetting_tables(
    trajectories: Iterable[Trajectory],
    *,
    metrics: Sequence[str],
    parameters: str,
    largest: int,
    streak: int | None,
    alpha: float,
    measured: pd.DataFrame | None = None,
    replicates: Mapping[str, str] | None = None,
) -> ForgettingTables:
    """Compute all tables of forgetting.

    Parameters
    ----------
    metrics
        0/1 metrics to follow; tasks without them use their main metric.
    parameters
        Count that sizes refer to: `total`, `non_embedding`, `active`, `nominal`.
    largest
        Number of largest models for `together` and for the column `in_all_large`, of different recipes.
    streak
        Checkpoints in a row, see `history`; None selects `default_streak`.
    alpha
        Level of the adjusted p.
    measured
        All results of the study (`model`, `task`, `source`); those without examples get a row with the
        reason.
    replicates
        Model → what the models that differ from it only by seed have in common (`replicates.replicates`).
    """
    rows: list[History | tuple[str, str, str, str]] = []
    sizes: dict[str, int] = {}
    followed: set[tuple[str, str]] = set()
    for trajectory in trajectories:
        size = sizes[trajectory.model] = trajectory.parameters.get(parameters, 0)
        for metric in trajectory.available(metrics):
            found = history(trajectory, metric, streak=streak, size=size)
            if metric not in metrics:
                found = _of_first_metric(found, metrics)
            named = (trajectory.model, trajectory.task, metric)
            rows.append((*named, found) if isinstance(found, str) else found)
        followed.add((trajectory.model, trajectory.task))
    if measured is not None:
        rows += _without_examples(measured, followed)
    histories = [row for row in rows if isinstance(row, History)]
    large = largest_models(sizes, largest, replicates)
    drawn = [curves(h) for h in histories]
    return ForgettingTables(
        summarise_histories(rows, alpha),
        forgotten_together(histories, large, replicates),
        pd.concat(drawn, ignore_index=True) if drawn else pd.DataFrame(columns=list(CURVES)),
        _forgotten_examples(histories, large),
    )


def _of_first_metric(found: History | str, wanted: Sequence[str]) -> History | str:
    """Say that a metric was not asked for."""
    missing = f"the task has no metric {' or '.join(wanted)} (trajectories.metrics)"
    if isinstance(found, str):
        return f"{found}; {missing}"
    return replace(found, notes=(f"{missing}: its main metric is followed", *found.notes))


def _without_examples(
    measured: pd.DataFrame, followed: set[tuple[str, str]]
) -> list[tuple[str, str, str, str]]:
    """Return (model, task, metric, reason) of results that have no examples, with an empty metric."""
    rows = []
    for (model, task), of in measured.groupby(["model", "task"], sort=False):
        if (str(model), str(task)) not in followed:
            imported = (of["source"] == "imported").all()
            why = (
                "the results are imported summaries, which have no examples; import the samples of the same "
                "evaluation (format: lm_eval_samples)"
                if imported
                else "lm-eval's own code measures the task as a whole, not example by example"
            )
            rows.append((str(model), str(task), "", f"no forgetting: {why}"))
    return rows


def with_texts(examples: pd.DataFrame, texts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return `examples` with shortened prompt and right answer; `texts` is task → table of `prompts`."""
    parts = [
        rows.drop(columns=["prompt", "answer"]).merge(texts[str(task)], on="example", how="left")
        for task, rows in examples.groupby("task", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)[list(EXAMPLES)] if parts else examples


def texts_of(requests: Iterable[str | Path]) -> dict[str, pd.DataFrame]:
    """Return the tables of `prompts` of all tasks, from their requests, of which a task may have several.

    Raises `CellError` for a file that is missing or damaged.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for path in requests:
        footer = read_footer(path, REQUESTS)
        texts = prompts(read_frame(path, REQUESTS), footer["definition"].get("invert", False))
        found.setdefault(footer["task"], []).append(texts)
    return {task: pd.concat(of, ignore_index=True).drop_duplicates("example") for task, of in found.items()}


def prompts(requests: pd.DataFrame, invert: bool = False) -> pd.DataFrame:
    """Return `example, prompt, answer` of frozen requests: context and continuation of the right choice.

    Examples without a right choice (ratings) use their first choice. `invert` exchanges right and wrong.
    """
    choices = requests[requests["role"] == "choice"] if "role" in requests else requests
    if "gold" in choices:
        right = choices[(choices["gold"] > 0) != invert]
        choices = pd.concat([right, choices[~choices["example"].isin(right["example"])]])
    first = choices.drop_duplicates("example")
    return pd.DataFrame(
        {
            "example": first["example"].astype(str),
            "prompt": [shortened(text, 160, 60) for text in first["context"]],
            "answer": [shortened(text, 100, 0) for text in first["continuation"]],
        }
    )


def shortened(text: str, beginning: int, end: int) -> str:
    """Return a text on one line. Long texts lose their middle, because few-shot prompts differ at the end."""
    if len(text) > beginning + end + 3:
        text = text[:beginning] + " … " + (text[-end:] if end else "")
    return text.replace("\t", " ").replace("\r", "").replace("\n", "⏎")


def strip(right: np.ndarray) -> str:
    """Return one model's answers in training order, ● right and ○ wrong."""
    selected = np.unique(np.linspace(0, len(right) - 1, min(len(right), MAX_STRIP)).round().astype(int))
    return "".join(RIGHT if answer else WRONG for answer in right[selected])


def _forgotten_examples(histories: Sequence[History], large: Sequence[str]) -> pd.DataFrame:
    by_task: dict[tuple[str, str], list[History]] = {}
    for h in histories:
        by_task.setdefault((h.task, h.metric), []).append(h)
    rows = [row for group in by_task.values() for row in _of_task(group, large)]
    table = pd.DataFrame(rows).reindex(columns=list(EXAMPLES))
    return table.astype({"prompt": object, "answer": object}).fillna({"prompt": "", "answer": ""})


def _of_task(histories: Sequence[History], large: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of one task, sorted by the number of models that forgot the example, then by name."""
    indices = [{name: i for i, name in enumerate(h.examples)} for h in histories]
    masks = [h.forgotten for h in histories]
    spans = [h.spans() for h in histories]
    checkpoints = [h.checkpoints["checkpoint"].tolist() for h in histories]
    big = [m for m, h in enumerate(histories) if h.model in large]
    rows = []
    for name in sorted({e for h, mask in zip(histories, masks, strict=True) for e in h.examples[mask]}):
        at = [index.get(name) for index in indices]
        where = [m for m, i in enumerate(at) if i is not None and masks[m][i]]
        when = []
        for m in where:
            learned, lost = (checkpoints[m][ends[at[m]]] for ends in spans[m])
            when.append(f"{histories[m].model}: {learned} → {lost}")
        strips = [
            f"{h.model} {strip(h.right[:, i])}" for h, i in zip(histories, at, strict=True) if i is not None
        ]
        rows.append(
            {
                "task": histories[0].task,
                "metric": histories[0].metric,
                "example": str(name),
                "forgotten_in": len(where),
                "models": ", ".join(histories[m].model for m in where),
                "in_all_large": "yes" if len(big) > 1 and set(big) <= set(where) else "no",
                "when": "; ".join(when),
                "strips": "; ".join(strips),
            }
        )
    return sorted(rows, key=lambda row: -row["forgotten_in"])
