"""What exports are made of: a cell with its requests, its metrics and its answers."""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import pandas as pd

from ebbtide.metrics import per_example
from ebbtide.metrics.choice import SCORES
from ebbtide.metrics.examples import join
from ebbtide.metrics.of_cell import examples_of as measured_examples

CHOOSING = ("choice", "binary")  # kinds of tasks in which the model chooses


@dataclass(frozen=True)
class Exported:
    """A cell to export.

    Attributes
    ----------
    metrics
        The cell's rows of the metrics table.
    definition
        The task's definition, from the footer of the requests.
    footer
        The cell's footer; `dtype`, `identity` and `unknown` are used.
    version
        The identity of the task's requests.
    """

    task: str
    rows: pd.DataFrame  # tables.CELL
    requests: pd.DataFrame  # tables.REQUESTS
    metrics: pd.DataFrame  # tables.METRICS
    definition: Mapping[str, Any] = field(default_factory=dict)
    footer: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""

    @property
    def kind(self) -> str:
        """The kind of the task."""
        return str(self.definition.get("kind", "choice"))

    @property
    def shots(self) -> int | None:
        """Number of few-shot examples; None for a fixed text, whose number is unknown."""
        few_shot = self.definition.get("few_shot") or {"k": 0}
        return int(few_shot["k"]) if "k" in few_shot else None

    @property
    def written(self) -> datetime:
        """When the cell was scored; the epoch if its footer does not say."""
        time = self.footer.get("written", {}).get("time")
        return datetime.fromisoformat(time) if time else datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class ExportedExample:
    """An example of a cell.

    Attributes
    ----------
    example
        Its name.
    rows
        Its requests with their log-likelihoods or texts, as plain values.
    measured
        Metric → value; NaN where the metric excludes the example.
    chosen
        Metric → index of the choice that it takes for the answer; of metrics that compare scores of choices.
    """

    kind: str
    example: Any
    rows: Sequence[Mapping[str, Any]]
    measured: Mapping[str, float]
    chosen: Mapping[str, int]

    @property
    def prompt(self) -> str:
        """The context; of whole documents the document."""
        first = self.rows[0]
        return str(first["continuation"] if self.kind == "rolling" else first["context"])

    @property
    def choices(self) -> list[str]:
        """The continuations to choose from; empty if the model does not choose."""
        if self.kind not in CHOOSING:
            return []
        return [str(row["continuation"]) for row in self._choices]

    @property
    def right(self) -> list[str]:
        """The right answers, as far as the task has any."""
        if self.kind == "generation":
            return [str(text) for text in json.loads(self.rows[0].get("targets", "[]"))]
        if self.kind == "rolling":
            return []
        return [str(row["continuation"]) for row in self._choices if row.get("gold")]

    def answers(self, metric: str = "accuracy") -> list[str]:
        """Return the choice that a metric takes for the answer, or the texts that are kept.

        Metrics that do not choose go by the log-likelihood, as accuracy does. Empty if there is no answer.
        """
        if self.kind == "generation":
            return [row["text"] for row in self.rows if isinstance(row.get("text"), str)]
        if not self.choices:
            return []
        index = self.chosen.get(metric, self.chosen["accuracy"])
        return [str(self._choices[index]["continuation"])]

    @property
    def loglikelihoods(self) -> list[float | None]:
        """The log-likelihood of each request in nats; empty for generated texts."""
        return [] if self.kind == "generation" else [plain(row["loglikelihood"]) for row in self.rows]

    @property
    def _choices(self) -> list[Mapping[str, Any]]:
        """The requests without partners of choices, in the order of the choices."""
        own = (row for row in self.rows if row.get("role", "choice") == "choice")
        return sorted(own, key=lambda row: int(row["choice"]))


def examples_of(cell: Exported) -> Iterator[ExportedExample]:
    """Return the examples of a cell, in the order of the requests.

    Raises `CellError` if the cell and its requests do not have the same examples and choices.
    """
    join(cell.rows, cell.requests)  # raises if they do not have the same rows
    rows = cell.requests.merge(cell.rows, on=["example", "choice"], sort=False)
    measured = per_example(join(cell.rows, cell.requests), cell.definition)
    names = list(map(str, measured.columns))
    values = dict(zip(measured.index, measured.to_numpy(dtype=float).tolist(), strict=True))
    chosen = _chosen(cell, {"accuracy", *names})
    columns = [rows[name].tolist() for name in rows]  # plain Python values
    records: list[dict[str, Any]] = [
        dict(zip(map(str, rows), row, strict=True)) for row in zip(*columns, strict=True)
    ]
    for example, group in groupby(records, key=lambda row: row["example"]):
        of_example = dict(zip(names, values[example], strict=True))
        yield ExportedExample(cell.kind, example, [*group], of_example, chosen.get(example, {}))


def _chosen(cell: Exported, metrics: Collection[str]) -> dict[Any, dict[str, int]]:
    """Return, for each example, the index that each metric takes for the answer; empty without choices."""
    if cell.kind not in CHOOSING:
        return {}
    x = measured_examples(cell.rows, cell.requests, cell.definition)
    found = {
        name: x.segments.argmax(score(x)) - x.segments.starts
        for name, score in SCORES.items()
        if name in metrics
    }
    indices = zip(*(index.tolist() for index in found.values()), strict=True)
    return {name: dict(zip(found, of, strict=True)) for name, of in zip(x.names, indices, strict=True)}


def defined(cell: Exported) -> list[dict[Any, Any]]:
    """Return the metrics of a cell that have a value."""
    return cell.metrics[cell.metrics["value"].notna()].to_dict("records")


def undefined(cell: Exported) -> Counter[str]:
    """Return the number of metrics without a value (NaN), which JSON does not have, by a name for it."""
    count = int(cell.metrics["value"].isna().sum())
    return Counter({"metrics without a value": count} if count else {})


def plain(value: Any) -> Any:
    """Return a value that JSON can represent: numbers that are not finite become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_line(value: Any) -> str:
    """Return a value as a line of JSON Lines."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
