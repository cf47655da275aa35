"""The tables of forgetting of a whole study."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ebbtide.statistics.forgetting.forgetting import CURVES, curves, summarise_histories
from ebbtide.statistics.forgetting.history import History, history
from ebbtide.statistics.forgetting.together import forgotten_together, largest_models
from ebbtide.statistics.panel import Trajectory

EXAMPLES = (
    *("task", "metric", "example", "forgotten_in", "models", "in_all_large", "when", "strips"),
    *("prompt", "answer"),
)
RIGHT, WRONG = "●", "○"
STRIP = 60  # most checkpoints of a strip; of more, evenly spread ones


class ForgettingTables(NamedTuple):
    """One row per model × task; per task; per model × task × checkpoint; per task × forgotten example."""

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
    hold: int | None,
    alpha: float,
) -> ForgettingTables:
    """All tables; the models of the second and of `in_all_large` are the `largest` ones by `parameters`."""
    rows: list[History | tuple[str, str, str, str]] = []
    sizes: dict[str, int] = {}
    for trajectory in trajectories:
        size = sizes[trajectory.model] = trajectory.parameters.get(parameters, 0)
        for metric in trajectory.watched(metrics):
            found = history(trajectory, metric, hold=hold, size=size)
            named = (trajectory.model, trajectory.task, metric)
            rows.append((*named, found) if isinstance(found, str) else found)
    histories = [row for row in rows if isinstance(row, History)]
    large = largest_models(sizes, largest)
    drawn = [curves(h) for h in histories]
    return ForgettingTables(
        summarise_histories(rows, alpha),
        forgotten_together(histories, large),
        pd.concat(drawn, ignore_index=True) if drawn else pd.DataFrame(columns=list(CURVES)),
        _forgotten_examples(histories, large),
    )


def with_texts(examples: pd.DataFrame, texts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`examples` with the beginning of the prompt and the right answer; `texts`: task → `prompts` of it."""
    parts = [
        rows.drop(columns=["prompt", "answer"]).merge(texts[str(task)], on="example", how="left")
        for task, rows in examples.groupby("task", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)[list(EXAMPLES)] if parts else examples


def prompts(requests: pd.DataFrame, invert: bool = False) -> pd.DataFrame:
    """`example, prompt, answer` of frozen requests: the context of the right choice, and its continuation.

    Where no choice is right by itself (ratings), the first one's. Inverted, right is wrong.
    """
    asked = requests[requests["role"] == "choice"] if "role" in requests else requests
    if "gold" in asked:
        right = asked[(asked["gold"] > 0) != invert]
        asked = pd.concat([right, asked[~asked["example"].isin(right["example"])]])
    first = asked.drop_duplicates("example")
    return pd.DataFrame(
        {
            "example": first["example"].astype(str),
            "prompt": [shortened(text, 160, 60) for text in first["context"]],
            "answer": [shortened(text, 100, 0) for text in first["continuation"]],
        }
    )


def shortened(text: str, beginning: int, end: int) -> str:
    """A text on one line, its middle left out where it is long: few-shot prompts differ at the end."""
    if len(text) > beginning + end + 3:
        text = text[:beginning] + " … " + (text[-end:] if end else "")
    return text.replace("\t", " ").replace("\r", "").replace("\n", "⏎")


def strip(right: np.ndarray) -> str:
    """One model's answers in the order of training, ● right and ○ wrong."""
    shown = np.unique(np.linspace(0, len(right) - 1, min(len(right), STRIP)).round().astype(int))
    return "".join(RIGHT if answer else WRONG for answer in right[shown])


def _forgotten_examples(histories: Sequence[History], large: Sequence[str]) -> pd.DataFrame:
    by_task: dict[tuple[str, str], list[History]] = {}
    for h in histories:
        by_task.setdefault((h.task, h.metric), []).append(h)
    rows = [row for group in by_task.values() for row in _of_task(group, large)]
    table = pd.DataFrame(rows).reindex(columns=list(EXAMPLES))
    return table.astype({"prompt": object, "answer": object}).fillna({"prompt": "", "answer": ""})


def _of_task(histories: Sequence[History], large: Sequence[str]) -> list[dict[str, Any]]:
    """Forgotten in most models first, then by name."""
    places = [{name: i for i, name in enumerate(h.examples)} for h in histories]
    masks = [h.forgotten for h in histories]
    spans = [h.spans() for h in histories]
    checkpoints = [h.places["checkpoint"].tolist() for h in histories]
    big = [m for m, h in enumerate(histories) if h.model in large]
    rows = []
    for name in sorted({e for h, mask in zip(histories, masks, strict=True) for e in h.examples[mask]}):
        at = [place.get(name) for place in places]
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
