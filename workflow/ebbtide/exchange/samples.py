"""Samples of lm-evaluation-harness (`--log_samples`), as cells and requests.

A line is an example: `arguments` contains context and continuation of every request, `filtered_resps` its
log-likelihood (as text) and whether it is greedy, `target` the right choice. This suffices for every metric
except those per token, which lm-eval does not log. Lines exported by Ebbtide contain the rest in
`doc.ebbtide`, so they are imported without loss.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ebbtide.errors import CellError
from ebbtide.exchange.documents import read_lines
from ebbtide.exchange.gold import right_choices
from ebbtide.exchange.lm_eval_json import OWN
from ebbtide.exchange.sample_lines import Line, line_of
from ebbtide.files import file_sha256
from ebbtide.tables import CELL

# Columns that lm-eval does not log, and their values in the cell. `truncated` can only be a flag.
UNKNOWN: dict[str, Any] = {
    "tokens": -1,
    "context_tokens": -1,
    "first_token_loglikelihood": math.nan,
    "truncated": False,
}
_NAME = re.compile(r"samples_(?P<task>.+)_(?P<suffix>[^_]+)\.jsonl")


@dataclass(frozen=True)
class Sampled:
    """Cell and requests of a samples file, and the footer of the cell."""

    rows: pd.DataFrame  # tables.CELL
    requests: pd.DataFrame  # tables.REQUESTS with gold; with role and of if needed
    kind: str  # of the task's definition: choice, sequence, rolling, …
    footer: dict[str, Any]
    examples: int
    left_filters: tuple[str, ...] = ()  # filters whose lines were not read


def is_samples(path: Path) -> bool:
    """Whether a file is named like samples."""
    return _NAME.fullmatch(path.name) is not None


def task_of(path: str | Path) -> tuple[str, str]:
    """Task and suffix in the name `samples_{task}_{suffix}.jsonl`. Raises `CellError` for another name."""
    found = _NAME.fullmatch(Path(path).name)
    if found is None:
        raise CellError(f"{path}: found name {Path(path).name!r}, allowed: samples_TASK_DATE.jsonl.")
    return found["task"], found["suffix"]


def read_samples(path: str | Path, gold: str = "target") -> Sampled:
    """Cell and requests of a samples file.

    Parameters
    ----------
    path
        JSON Lines, one example per line; with several filters, only lines of the first are read.
    gold
        The field with the right choice: `target`, or one of the example's `doc` (`doc.mc2_targets.labels`).
        Its value is an index, a list of indices or of labels 0 and 1 per choice, or the choice's text.

    Returns
    -------
    Columns that lm-eval does not log have the values of `UNKNOWN`; the footer's `unknown` lists them.

    Raises
    ------
    CellError
        A line is not a sample, a log-likelihood is not a number or above 0, an example occurs twice, or the
        right choices contradict the logged accuracy; `GeneratedError` if text was generated.
    """
    lines = [line_of(where, row) for where, row in read_lines(path)]
    if not lines:
        raise CellError(f"{path} contains no samples. Remove it from files, or evaluate again.")
    filters = list(dict.fromkeys(line.filter for line in lines))
    lines = [line for line in lines if line.filter == lines[0].filter]
    seen: dict[str, str] = {}
    for line in lines:
        if line.example in seen:
            raise CellError(
                f"{line.where}: doc_id {line.example} occurs twice (also in {seen[line.example]})."
            )
        seen[line.example] = line.where
    source = {"file": str(path), "sha256": file_sha256(path)}
    own = [line.own for line in lines]
    if all(own):
        rows, requests = _exported(lines)
        unknown: list[str] = sorted({name for o in own for name in o.get("unknown", [])})
        kind = str(own[0].get("kind", "choice"))
    else:
        kind = _kind(lines)
        right = [None] * len(lines) if kind != "choice" else right_choices(lines, gold)
        rows, requests = _frames(lines, right)
        unknown = [*UNKNOWN, *(["greedy"] if kind == "rolling" else [])]
    footer = {"source": "imported", "imported": source, "unknown": unknown, "requests": len(rows)}
    return Sampled(rows, requests, kind, footer, len(lines), tuple(filters[1:]))


def _kind(lines: Sequence[Line]) -> str:
    if all(line.rolling for line in lines):
        return "rolling"
    return "sequence" if all(line.choices == 1 for line in lines) else "choice"


def _frames(lines: Sequence[Line], right: Sequence[set[int] | None]) -> tuple[pd.DataFrame, pd.DataFrame]:
    columns = (
        "example",
        "choice",
        "of",
        "role",
        "context",
        "continuation",
        "gold",
        "loglikelihood",
        "greedy",
    )
    records = [
        (
            line.example,
            number,
            number % line.choices,
            "choice" if number < line.choices else "unconditional",
            *request,
            gold is None or number in gold,
            *answer,
        )
        for line, gold in zip(lines, right, strict=True)
        for number, (request, answer) in enumerate(zip(line.requests, line.answers, strict=True))
    ]
    table = pd.DataFrame(records, columns=list(columns))
    table["bytes"] = [len(text.encode()) for text in table["continuation"]]
    table["characters"] = table["continuation"].str.len().astype("int64")
    extra = ["of", "role"] if (table["role"] != "choice").any() else []
    requests = table[["example", "choice", "context", "continuation", "gold", *extra]]
    return table.assign(**UNKNOWN)[list(CELL.columns)], requests


def _exported(lines: Sequence[Line]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cell and requests of lines that Ebbtide has exported."""
    records = []
    for line in lines:
        kept = line.own.get("rows")
        if not isinstance(kept, list) or len(kept) != len(line.requests):
            raise CellError(f"{line.where}: doc.{OWN} is damaged. Export it again.")
        for request, answer, row in zip(line.requests, line.answers, kept, strict=True):
            logged = {"context": request[0], "continuation": request[1], "loglikelihood": answer[0]}
            records.append({"example": line.own.get("example", line.example), **row, **logged})
    table = pd.DataFrame(records)
    missing = [name for name in CELL.columns if name not in table.columns]
    if missing:
        raise CellError(f"{lines[0].where}: doc.{OWN} has no {missing[0]!r}. Export it again.")
    table["first_token_loglikelihood"] = table["first_token_loglikelihood"].astype(float)  # null is NaN
    measured = [name for name in CELL.columns if name not in ("example", "choice")]
    first = [n for n in ("example", "choice", "context", "continuation", "gold") if n in table.columns]
    others = [name for name in table.columns if name not in (*first, *measured)]
    return table[list(CELL.columns)], table[[*first, *others]]
