"""Samples of lm-evaluation-harness (`--log_samples`), as cells and requests.

A line is an example: `arguments` contains context and continuation of every request, `filtered_resps` its
log-likelihood (as text) and whether it is greedy, `target` the right choice. This suffices for every metric
except those per token, which lm-eval does not log. Lines exported by Ebbtide contain the rest in
`doc.ebbtide`, so they are imported without loss.
"""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.exchange.documents import read_lines
from ebbtide.exchange.lm_eval_json import OWN
from ebbtide.files import file_sha256
from ebbtide.tables import CELL

# Columns that lm-eval does not log, and their values in the cell. `truncated` can only be a flag.
UNKNOWN: dict[str, Any] = {
    "tokens": -1,
    "context_tokens": -1,
    "first_token_loglikelihood": math.nan,
    "truncated": False,
}
_TOLERANCE = 1e-6
_NAME = re.compile(r"samples_(?P<task>.+)_(?P<suffix>[^_]+)\.jsonl")


@dataclass(frozen=True)
class Sampled:
    """Cell and requests of a samples file, and the footer of the cell."""

    rows: pd.DataFrame  # tables.CELL
    requests: pd.DataFrame  # tables.REQUESTS with gold; with role and of if needed
    kind: str  # of the task's definition: choice, sequence, rolling, …
    footer: dict[str, Any]


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
        A line is not a sample, a log-likelihood is not a number, text was generated, an example occurs twice,
        or the right choices contradict the logged accuracy.
    """
    lines = [_line(where, row) for where, row in read_lines(path)]
    if not lines:
        raise CellError(f"{path} contains no samples.")
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
        right = [None] * len(lines) if kind != "choice" else _right(lines, gold)
        rows, requests = _frames(lines, right)
        unknown = [*UNKNOWN, *(["greedy"] if kind == "rolling" else [])]
    footer = {"source": "imported", "imported": source, "unknown": unknown, "requests": len(rows)}
    return Sampled(rows, requests, kind, footer)


@dataclass(frozen=True)
class _Line:
    """One example of a samples file."""

    where: str
    example: str
    filter: str
    requests: list[tuple[str, str]]  # context and continuation
    answers: list[tuple[float, bool]]  # log-likelihood, greedy
    row: Mapping[str, Any]
    rolling: bool

    @property
    def own(self) -> Mapping[str, Any]:
        doc = self.row.get("doc")
        found = doc.get(OWN) if isinstance(doc, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    @property
    def is_mutual(self) -> bool:
        """Whether the second half of the requests are the choices without context (`acc_mutual_info`)."""
        metrics = self.row.get("metrics")
        listed = isinstance(metrics, list) and "acc_mutual_info" in metrics
        return listed and len(self.requests) % 2 == 0

    @property
    def choices(self) -> int:
        return len(self.requests) // 2 if self.is_mutual else len(self.requests)


def _line(where: str, row: Mapping[str, Any]) -> _Line:
    for key in ("doc_id", "arguments", "filtered_resps"):
        if key not in row:
            raise CellError(
                f"{where} has no key {key!r} (found: {', '.join(row)}); expected a sample of lm-eval."
            )
    arguments, responses = row["arguments"], row["filtered_resps"]
    if isinstance(arguments, Mapping):  # {"gen_args_0": {"arg_0": …, "arg_1": …}}; older versions write lists
        arguments = [
            [given[k] for k in sorted(given)] if isinstance(given, Mapping) else given
            for given in arguments.values()
        ]
    if not isinstance(arguments, list) or not isinstance(responses, list) or len(arguments) != len(responses):
        raise CellError(
            f"{where}: arguments and filtered_resps: found no lists of equal length; allowed: one answer per "
            "request."
        )
    if not arguments:
        raise CellError(f"{where}: arguments: found no request.")
    rolling = all(isinstance(given, list) and len(given) == 1 for given in arguments)
    requests = [("", given[0]) if rolling else _pair(given) for given in arguments]
    if not all(len(a) == 2 and all(isinstance(text, str) for text in a) for a in requests):
        raise CellError(
            f"{where}: arguments: found no contexts with continuations. Only tasks of type multiple_choice, "
            "loglikelihood and loglikelihood_rolling have log-likelihoods."
        )
    answers = [_response(answer, f"{where}: filtered_resps[{i}]") for i, answer in enumerate(responses)]
    return _Line(where, str(row["doc_id"]), str(row.get("filter", "none")), requests, answers, row, rolling)


def _pair(given: Any) -> tuple[Any, ...]:
    """Return context and continuation of a request; another number of values if there are no two."""
    return tuple(given[:2]) if isinstance(given, list) else ()


def _response(answer: Any, where: str) -> tuple[float, bool]:
    """Log-likelihood and whether it is greedy, which are numbers or (since 0.4.3) text."""
    value, greedy = (
        (answer[0], answer[1]) if isinstance(answer, list) and len(answer) == 2 else (answer, False)
    )
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise CellError(
            f"{where}: found {answer!r}, allowed: a log-likelihood (generated text has none)."
        ) from None
    if not math.isfinite(number) or str(greedy) not in ("True", "False"):
        raise CellError(f"{where}: found {answer!r}, allowed: a finite log-likelihood, and True or False.")
    return number, str(greedy) == "True"


def _kind(lines: Sequence[_Line]) -> str:
    if all(line.rolling for line in lines):
        return "rolling"
    return "sequence" if all(line.choices == 1 for line in lines) else "choice"


def _frames(lines: Sequence[_Line], right: Sequence[set[int] | None]) -> tuple[pd.DataFrame, pd.DataFrame]:
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


def _exported(lines: Sequence[_Line]) -> tuple[pd.DataFrame, pd.DataFrame]:
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


def _right(lines: Sequence[_Line], gold: str) -> list[set[int]]:
    """Right choices of every example, by the only reading of `gold` that agrees with all logged accuracies.

    A target `1` may be an index or the text of a choice; the logged accuracies decide.
    """
    values = [_value(line, gold) for line in lines]
    fits: list[list[set[int]]] = []
    contradiction: CellError | None = None
    for reading in (_as_indices, _as_labels, _as_texts):
        read = [reading(line, value) for line, value in zip(lines, values, strict=True)]
        right = [found for found in read if found]
        if len(right) < len(lines):
            continue
        try:
            for line, found in zip(lines, right, strict=True):
                _check(line, found, gold)
        except CellError as error:
            contradiction = contradiction or error
            continue
        if right not in fits:
            fits.append(right)
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise CellError(
            f"{lines[0].where}: {gold} may be an index or the text of a choice, and no logged accuracy "
            "decides. Set gold to a field of doc that contains an index."
        )
    raise contradiction or _unreadable(lines, values, gold)


def _unreadable(lines: Sequence[_Line], values: Sequence[Any], gold: str) -> CellError:
    """The error for the first example that no reading fits, else for the first of all."""
    readings = (_as_indices, _as_labels, _as_texts)
    pairs = list(zip(lines, values, strict=True))
    line, value = next((p for p in pairs if not any(reading(*p) for reading in readings)), pairs[0])
    return CellError(
        f"{line.where}: {gold}: found {value!r}, allowed: an index from 0 to {line.choices - 1}, labels 0 "
        "and 1 per choice, or the text of a choice, and a wrong choice. Set gold to another field of doc."
    )


def _value(line: _Line, gold: str) -> Any:
    if gold == "target":
        value = line.row.get("target")
        # lm-eval writes lists as Python text.
        if isinstance(value, str) and re.fullmatch(r"\[.*\]", value, flags=re.DOTALL):
            try:
                return ast.literal_eval(value)
            except (SyntaxError, ValueError):
                return value
        return value
    value = line.row
    for key in gold.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise CellError(f"{line.where}: found no {gold}, to which gold is set.")
        value = value[key]
    return value


def _as_indices(line: _Line, value: Any) -> set[int] | None:
    values = [str(v) for v in (value if isinstance(value, list) else [value])]
    indices = {int(v) for v in values if v.isdecimal()}
    whole = len(indices) == len(values)  # no duplicates, nothing else
    return _some(line, indices) if whole and max(indices, default=line.choices) < line.choices else None


def _as_labels(line: _Line, value: Any) -> set[int] | None:
    if not isinstance(value, list) or len(value) != line.choices or not all(v in (0, 1) for v in value):
        return None
    return _some(line, {k for k, label in enumerate(value) if label})


def _as_texts(line: _Line, value: Any) -> set[int] | None:
    values = {str(v).strip() for v in (value if isinstance(value, list) else [value])}
    texts = [continuation.strip() for _, continuation in line.requests[: line.choices]]
    right = {k for k, text in enumerate(texts) if text in values}
    return _some(line, right) if len(right) == len(values) else None


def _some(line: _Line, right: set[int]) -> set[int] | None:
    """The right choices, if there are both right and wrong ones."""
    return right if 0 < len(right) < line.choices else None


def _check(line: _Line, right: set[int], gold: str) -> None:
    """Raise `CellError` unless these right choices give the logged accuracy: top-1, or MC2."""
    logged = line.row.get("acc")
    if isinstance(logged, bool) or not isinstance(logged, int | float):
        return
    scores = np.array([score for score, _ in line.answers[: line.choices]])
    odds = np.exp(scores - scores.max())
    found = (float(int(np.argmax(scores)) in right), float(odds[sorted(right)].sum() / odds.sum()))
    if min(abs(logged - value) for value in found) > _TOLERANCE:
        raise CellError(
            f"{line.where}: found acc {logged:.6g}, but {gold} gives {found[0]:.6g} (or {found[1]:.6g} as a "
            "probability). Set gold to the field of doc that contains the right choices."
        )
