"""Freezing: build the table of requests from the rows of a task's data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ebbtide.corpus import World
from ebbtide.errors import TaskError
from ebbtide.logs import log
from ebbtide.tasks.dataset_rows import pinned_rows
from ebbtide.tasks.definition import Task, texts_of
from ebbtide.tasks.few_shot import Shot, Shots
from ebbtide.tasks.formats import in_format
from ebbtide.tasks.kinds import Example, Request
from ebbtide.tasks.local_data import contents_of_source
from ebbtide.tasks.parts import PARTS, offsets_of, with_parts
from ebbtide.tasks.prepare import identity_of as prepared_by
from ebbtide.tasks.prepare import rows_of
from ebbtide.tasks.render import BadRow, Row, fields_read, literal_of, text_of
from ebbtide.tasks.rows import Rows, begins_with_mark
from ebbtide.tasks.texts import text_digests, texts_record

if TYPE_CHECKING:
    import pandas as pd

_MISSING = ("", "nan", "NaN", "NA", "N/A", "<NA>", "None", "null", "NULL")
Before: TypeAlias = tuple[Callable[[str], list[str]], Callable[[str], bool]]
SHOWN = 10  # dropped rows whose reason is in the footer


def freeze(task: Task) -> "pd.DataFrame":
    """Return the requests of a task, one row per example and choice.

    The columns are `example, choice, context, continuation, gold`.
    `gold` is true for a right choice, or its weight. Some tasks have further columns:

    role, of
        The role: `choice` (after the prompt), `other` (the same choices after the other prompt of log odds),
        `stop` (after the completion of a sequence) or `unconditional`; and the choice that the row refers to.
        Rows of other roles are numbered K, K+1, …
    best
        1: the right answer of MC1, 0: a wrong answer of MC1, -1: not a choice of MC1.
    value, target
        The value of a choice, and the true value of the example.
    group_{name}
        The example's level of each group.
    parts
        Where each part of the context that may be left out begins, and the last ends (`scoring.fitting`).

    Raises `TaskError`, naming file and row, for data from which no requests can be made.
    """
    return freeze_counting(task).requests


def frozen(task: Task) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """Return the requests of a task and the record for their footer. Raises the errors of `freeze`."""
    if "lm_eval" in task.definition["source"]:
        requests, record = _lm_eval_requests(task)
        written = footer(task, len(requests), requests["example"].nunique())
        return requests, {
            **written,
            "texts": texts_record(text_digests(requests)),
            "definition": {**task.definition, "kind": record["kind"], **_keys_of_lm_eval(task, record)},
            "lm_eval": record,
        }
    requests, dropped, not_asked = freeze_counting(task)
    record = footer(task, len(requests), requests["example"].nunique(), dropped)
    if (task.definition.get("few_shot") or {}).get("same"):
        record["shots_not_asked"] = not_asked
    record["texts"] = texts_record(text_digests(requests))
    if task.data is not None and begins_with_mark(Path(task.data)):
        record["byte_order_mark"] = "removed"
    record |= prepared_by(task.definition["source"])
    if missing := missing_cells(task):
        record["missing_cells"] = {"rows": len(missing), "first": missing[0]}
    if "path" in task.definition["source"]:
        record["contents"] = contents_of_source(task.definition["source"])
    return requests, record


def missing_cells(task: Task) -> list[str]:
    """Describe the cells of a CSV or TSV file that stand for missing values, in columns that the task reads.

    Such a file has only texts: an empty cell is an empty text. One text per row.
    """
    source = task.definition["source"]
    format_ = source.get("prepare", source).get("format")
    if task.data is None or format_ not in ("csv", "tsv"):
        return []
    read = fields_read(text for _, text in texts_of(task.definition))
    return [
        f"row {number}, column {name}: {row[name]!r}"
        for number, row in enumerate(rows_of(Path(task.data), source, f"{task.file}: source"), start=1)
        for name in [n for n in row if n in read and row[n] is not None and row[n].strip() in _MISSING][:1]
    ]


def _lm_eval_requests(task: Task) -> "tuple[pd.DataFrame, dict[str, Any]]":
    from ebbtide.tasks.lm_eval.freeze import requests_of

    source = task.definition["source"]
    given = {k: source[k] for k in ("include_path", "num_fewshot", "seed", "limit") if k in source}
    requests, record = requests_of(source["lm_eval"], **given)
    for key, found in (("version", record["lm_eval"]), ("documents_sha256", record["documents_sha256"])):
        if source.get(key, found) != found:
            raise TaskError(
                f"{task.file}: source.{key}: found {found}, expected {source[key]} as in the definition."
            )
    return requests, record


def _keys_of_lm_eval(task: Task, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that lm-eval decides. Raises `TaskError` if the definition has another kind."""
    stated = task.definition.get("kind")
    if record["kind"] != "generation":
        if stated is not None:
            raise TaskError(
                f"{task.file}: kind: found {stated!r}, but lm-eval's {record['task']} is of type "
                f"{record['output_type']}; remove the key."
            )
        return {}
    if stated is None:
        log.warning(
            "%s: %s generates text; add `kind: generation`, so that a version of Ebbtide that samples "
            "otherwise scores it again",
            task.file,
            record["task"],
        )
    keys = record["keys"]
    return {**keys, "decoding": {**keys["decoding"], **task.definition.get("decoding", {})}}


class Frozen(NamedTuple):
    """Requests, why rows were dropped (`drop_bad_rows: true`), and examples that are shots of all others."""

    requests: "pd.DataFrame"
    dropped: list[str]
    not_asked: int


def freeze_counting(task: Task) -> Frozen:
    """Return the requests of a task, and what was left out."""
    from ebbtide.corpus import HELD_OUT, held_out_requests, toy_requests

    source = task.definition["source"]
    if "lm_eval" in source:
        return Frozen(_lm_eval_requests(task)[0], [], 0)
    if "toy" in source:
        world = World(**source["world"])
        if source["toy"] == HELD_OUT:
            texts = held_out_requests(world, source["mixture"], source["examples"], source["seed"])
            return Frozen(texts, [], 0)
        requests = toy_requests(source["toy"], world, source["examples"], source["seed"])
        after = _after_shots(requests, task)
        return Frozen(after, [], requests["example"].nunique() - after["example"].nunique())
    return _requests(_rows(task), task)


def _rows(task: Task) -> Rows:
    """Return the rows of the task's data. Raises `TaskError` if their number differs from the definition."""
    source = task.definition["source"]
    if task.data is None and "prepare" not in source:
        return pinned_rows(source, f"{task.file}: source")
    rows = rows_of(Path(task.data or ""), source, f"{task.file}: source")
    expected = source.get("rows")
    if expected is not None and len(rows) != expected:
        raise TaskError(
            f"{task.file}: source.rows: found {len(rows)} rows in {task.origin}, expected {expected}."
        )
    return rows


def footer(task: Task, rows: int, examples: int, dropped: Sequence[str] = ()) -> dict[str, Any]:
    """Return the record for the footer of frozen requests.

    If dropping is allowed, it has `dropped`, the number of rows, and `dropped_rows`, why the first of them.
    """
    record = {
        "task": task.name,
        "identity": task.identity,
        "definition": dict(task.definition),
        "licence": task.definition.get("licence", ""),
        "requests": rows,
        "examples": examples,
    }
    if task.definition.get("drop_bad_rows"):
        record |= {"dropped": len(dropped), "dropped_rows": list(dropped[:SHOWN])}
    return record


def _requests(rows: list[dict[str, Any]], task: Task) -> Frozen:
    import pandas as pd

    example_of = _example_of(task)
    examples: list[tuple[str, Example, dict[str, str]]] = []
    dropped: list[str] = []
    for number, row in enumerate(rows):
        try:
            examples.append((str(number), *example_of(row)))
        except BadRow as error:
            problem = f"row {number + 1}: {error}"
            if not task.definition.get("drop_bad_rows"):
                raise TaskError(f"{task.origin}: {problem}.") from None
            log.warning("dropped: %s: %s.", task.origin, problem)
            dropped.append(problem)
    if not examples:
        raise TaskError(f"{task.origin} has no {'usable ' if dropped else ''}rows.")
    before, is_asked = _shots([example for _, example, _ in examples], task)
    columns: dict[str, list[Any]] = {}
    for name, example, levels in examples:
        if not is_asked(example.prompt):
            continue
        shots = before(example.prompt)
        for choice, request in enumerate(example.requests):
            for column, value in _row(name, choice, request, shots, task, levels).items():
                columns.setdefault(column, []).append(value)
    if not all(isinstance(weight, bool) for weight in columns["gold"]):
        columns["gold"] = [float(weight) for weight in columns["gold"]]
    requests = pd.DataFrame(columns)
    return Frozen(requests, dropped, len(examples) - requests["example"].nunique())


def _example_of(task: Task) -> Callable[[Row], tuple[Example, dict[str, str]]]:
    """Return a function from a row to its requests and its level of each group. It raises `BadRow`."""
    definition = task.definition
    make = in_format(task.kind.maker(definition["fields"], definition.get("delimiter", "")), definition)
    if "fit" in definition:
        make = with_parts(make, definition["fit"])
    groups = {name: text_of(spec) for name, spec in definition.get("groups", {}).items()}
    alone = literal_of(definition["unconditional"]) if "unconditional" in definition else None

    def example_of(row: Row) -> tuple[Example, dict[str, str]]:
        if None in row:
            raise BadRow(f"more cells than the header has names ({row[None]!r})")  # type: ignore[index]
        example = make(row)
        levels = {f"group_{name}": text(row) for name, text in groups.items()}
        return (example if alone is None else _with_unconditional(example, alone(row))), levels

    return example_of


def _with_unconditional(example: Example, context: str) -> Example:
    again = tuple(
        replace(
            request,
            context=context,
            role="unconditional",
            extra={**request.extra, PARTS: [0]} if PARTS in request.extra else request.extra,
        )
        for request in example.requests
    )
    return replace(example, requests=example.requests + again)


def _after_shots(requests: "pd.DataFrame", task: Task) -> "pd.DataFrame":
    """Add the few-shot examples of a generated task, if its definition has any."""
    right = requests[requests["gold"]]
    pool = [Shot(c, c + word) for c, word in zip(right["context"], right["continuation"], strict=True)]
    before, is_asked = _before(pool, task)
    asked = requests[[is_asked(context) for context in requests["context"]]].reset_index(drop=True)
    shots = [before(context) for context in asked["context"]]
    contexts = ["".join(texts) + own for texts, own in zip(shots, asked["context"], strict=True)]
    after = asked.assign(context=contexts)
    if _fits_shots(task):
        after[PARTS] = list(map(offsets_of, shots))
    return after


def _fits_shots(task: Task) -> bool:
    """Whether few-shot examples may be left out where a window is too small for all."""
    return bool((task.definition.get("few_shot") or {}).get("fit"))


def _shots(examples: Sequence[Example], task: Task) -> Before:
    """Return functions from a prompt to the few-shot texts before it, and to whether it is asked."""
    texts = [(e.prompt, e.asked or e.prompt, e.answer) for e in examples]
    return _before(
        [Shot(prompt, asked + answer) for prompt, asked, answer in texts if answer is not None], task
    )


def _before(pool: Sequence[Shot], task: Task) -> Before:
    few_shot = task.definition.get("few_shot")
    if few_shot is None:
        return lambda prompt: [], lambda prompt: True
    separator = few_shot["separator"]
    if "prefix" in few_shot:
        prefix = [few_shot["prefix"] + separator]
        return lambda prompt: prefix, lambda prompt: True

    def refused(error: BadRow) -> TaskError:
        return TaskError(f"{task.file}: {error} in {task.origin}.")

    try:
        shots = Shots(pool, few_shot["k"], separator, few_shot["seed"], same=few_shot.get("same", False))
    except BadRow as error:
        raise refused(error) from None

    def before(prompt: str) -> list[str]:
        try:
            return shots.before(prompt)
        except BadRow as error:
            raise refused(error) from None

    return before, shots.is_asked


def _row(  # noqa: PLR0917  (the parts of one row)
    example: str, choice: int, request: Request, shots: list[str], task: Task, levels: Mapping[str, str]
) -> dict[str, Any]:
    """Build one row of the table. All rows of a task have the same columns."""
    if request.role == "unconditional":  # which few-shot examples do not precede
        shots = []
    row: dict[str, Any] = {
        "example": example,
        "choice": choice,
        "context": "".join(shots) + request.context,
        "continuation": request.continuation,
        "gold": request.gold,
    }
    if task.kind.has_roles(task.definition):
        row |= {"role": request.role, "of": request.of}
    if _fits_shots(task):
        row[PARTS] = offsets_of(shots)
    return {**row, **request.extra, **levels}
