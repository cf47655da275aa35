"""A cell joined with its frozen requests, checked, as arrays.

A row of another role than `choice` refers to one of the choices (`of`). Its log-likelihood becomes a column
of that choice, named after the role: `unconditional`, `other`, `stop`. The remaining rows are the choices.
The kind of the task defines what its rows must have (`ebbtide.tasks.kinds`).
"""

from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from ebbtide.arrow import Columns, columns_of, first_bytes
from ebbtide.errors import CellError, TaskError
from ebbtide.metrics.segments import Segments
from ebbtide.tasks.generation.pipelines import EXACT, exact_columns, is_exact, of_filter, pipelines_of
from ebbtide.tasks.kinds import KINDS, Kind, kind_of

if TYPE_CHECKING:
    import pandas as pd

    Table: TypeAlias = pa.Table | pd.DataFrame | Mapping[str, np.ndarray]

GROUP = "group_"
# Of requests: texts, of which metrics need only the following, and where their parts begin.
TEXTS = ("context", "continuation", "parts")
ANSWERS = "answers_"  # and k: every example has at least k samples with a value `exact` (of a pipeline)
LEADING_SPACE = "leading_space"  # whether the continuation begins with a space

_KEYS = ["example", "choice"]
_COUNTS = ("tokens", "bytes", "characters")


def without_texts(requests: "Table") -> Columns:
    """Return the columns of requests but for their texts, and `LEADING_SPACE` if they have continuations."""
    if isinstance(requests, pa.Table):
        kept = columns_of(requests.select([name for name in requests.column_names if name not in TEXTS]))
        if "continuation" in requests.column_names:
            kept[LEADING_SPACE] = first_bytes(requests.column("continuation")) == ord(" ")
        return kept
    kept = columns_of(requests)
    texts, *_ = (kept.pop(name, None) for name in ("continuation", "context", "parts"))
    if texts is not None:
        kept[LEADING_SPACE] = np.array([str(text).startswith(" ") for text in texts], dtype=bool)
    return kept


def join(cell: "Table", requests: "Table", order: np.ndarray | None = None) -> Columns:
    """Join a cell and its requests, without the texts; rows are sorted by example and choice.

    `order` is the `key_order` of the requests, if it is known. Raises `CellError` if an example or choice is
    in only one of them, or if there are none.
    """
    asked, given = without_texts(requests), columns_of(cell)
    if not len(asked["example"]) and not len(given["example"]):
        raise CellError("the requests have no examples.")
    order = of_cell = key_order(asked) if order is None else order
    if not _same_keys(asked, given):  # unusual: scoring keeps the order
        of_cell = key_order(given)
        _check_keys(asked, given, order, of_cell)
    renamed = {n if n in _KEYS or n not in given else f"{n}_of_request": v for n, v in asked.items()}
    right = {name: values for name, values in given.items() if name not in _KEYS}
    return {n: v[order] for n, v in renamed.items()} | {n: v[of_cell] for n, v in right.items()}


def key_order(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the order of rows by example (texts by code point), then by choice; stable."""
    examples = rows["example"]
    if examples.dtype == object:  # sorting each name once is several times faster than sorting rows
        rank = {name: i for i, name in enumerate(sorted(set(examples)))}
        examples = np.array([rank[name] for name in examples], dtype=np.int64)
    order: np.ndarray = np.lexsort((rows["choice"], examples))
    return order


def _same_keys(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[key], b[key]) for key in _KEYS)


def _check_keys(asked: Columns, given: Columns, order: np.ndarray, of_cell: np.ndarray) -> None:
    """Raise `CellError` unless both have the same keys, each once."""
    ordered = [{key: rows[key][by] for key in _KEYS} for rows, by in ((asked, order), (given, of_cell))]
    if _same_keys(*ordered):
        return
    keys = [list(zip(*(rows[key].tolist() for key in _KEYS), strict=True)) for rows in ordered]
    for side, own, others in (("requests", *keys), ("cell", *keys[::-1])):
        alone = [key for key in own if key not in set(others)]
        if alone:
            raise CellError(f"example {alone[0][0]}, choice {alone[0][1]} is only in the {side}.")
    raise CellError("the cell or the requests have a choice twice.")


Check = Callable[["Examples"], None]
CHECKS: dict[str, Check] = {}


def check_of(kind: str) -> Callable[[Check], Check]:
    """Register a function that raises `CellError` for examples that are invalid for a kind.

    It checks what the description of the kind (rows, gold, columns) cannot express.
    """

    def register(check: Check) -> Check:
        CHECKS[kind] = check
        return check

    return register


class Examples:
    """The examples of a cell: their choices as arrays of rows, sorted by example and choice.

    Parameters
    ----------
    joined
        Rows of a cell and of its frozen task, as `join` returns them.
    definition
        Definition of the task; only `kind` (default `choice`), `invert` and the names of `texts.pipelines`
        are used. `invert` exchanges right and wrong choices.

    Raises
    ------
    CellError
        A row without its partner, a missing column, a wrong number of rows, an example without a right or a
        wrong choice, or a log-likelihood that is not finite.
    TaskError
        An unknown kind, or `invert` for a kind without right and wrong choices.
    """

    def __init__(self, joined: Columns, definition: Mapping[str, Any]) -> None:
        self.kind = kind_of(definition)
        self.invert = bool(definition.get("invert", False))
        if self.invert and not self.kind.invertible:
            raise TaskError(f"invert: the kind {self.kind.name} has no right and wrong choices to exchange.")
        pipelines = exact_columns(pipelines_of(definition.get("texts", {})))
        renamed = {column: of_filter(EXACT, name) for name, column in pipelines.items()}
        self.rows = {renamed.get(name, name): values for name, values in _choices(joined).items()}
        self.segments = Segments(self.rows["example"])
        self.names: np.ndarray = self.segments.first(self.rows["example"])
        self._groups: dict[str, tuple[np.ndarray, list[str]]] = {}
        self._check()

    def __len__(self) -> int:
        return len(self.segments)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns that metrics may need; counts are included if they are known in all rows."""
        least = 1 if self.kind.needs == "loglikelihoods" else 0  # a document or a sample may be empty
        unknown = {c for c in _COUNTS if c in self.rows and not (self.rows[c] >= least).all()}
        answers = [
            f"{ANSWERS}{k}{name.removeprefix(EXACT)}"
            for name in filter(is_exact, self.rows)
            for k in range(1, int(self.segments.sum(np.isfinite(self.column(name))).min()) + 1)
        ]
        return (*(name for name in self.rows if name not in unknown), *answers)

    def after(self, pipeline: str) -> "Examples":
        """Return the examples with `exact` of a pipeline of filters."""
        of_pipeline = copy(self)
        of_pipeline.rows = {**self.rows, EXACT: self.rows[of_filter(EXACT, pipeline)]}
        return of_pipeline

    def column(self, name: str) -> np.ndarray:
        """Return a column as floats, one per row."""
        values: np.ndarray = self.rows[name].astype(float)
        return values

    def of_example(self, name: str) -> np.ndarray:
        """Return a column that is constant within examples as floats, one per example."""
        values: np.ndarray = self.segments.first(self.column(name))
        return values

    def group(self, name: str) -> tuple[np.ndarray, list[str]]:
        """Return every example's level in a group as an index, -1 for none, and the sorted levels."""
        if name not in self._groups:
            values = self.rows[GROUP + name].tolist()
            texts = [None if value is None or value != value else str(value) for value in values]  # noqa: PLR0124
            levels = sorted({text for text in texts if text is not None})
            code: dict[str | None, int] = {None: -1, **{level: i for i, level in enumerate(levels)}}
            codes = np.array([code[text] for text in texts], dtype=np.int64)
            of_example = self.segments.first(codes)
            differs = self.segments.sum(codes != of_example[self.segments.of])
            self.refuse(differs > 0, f"has more than one {GROUP}{name}")
            self._groups[name] = of_example, levels
        return self._groups[name]

    @property
    def groups(self) -> list[str]:
        """Names of the groups of the requests."""
        return [c.removeprefix(GROUP) for c in self.rows if c.startswith(GROUP)]

    @cached_property
    def lp(self) -> np.ndarray:
        """Log-likelihood of each choice, nats."""
        return self.column("loglikelihood")

    @cached_property
    def gold(self) -> np.ndarray:
        """Whether each choice is right."""
        right: np.ndarray = (self.column("gold") > 0) != self.invert
        return right

    @cached_property
    def right_count(self) -> np.ndarray:
        """Number of right choices, per example."""
        return self.segments.sum(self.gold)

    @cached_property
    def right(self) -> np.ndarray:
        """log Σ exp(lp) over the right choices, per example."""
        return self.segments.log_sum_exp(np.where(self.gold, self.lp, -np.inf))

    @cached_property
    def wrong(self) -> np.ndarray:
        """log Σ exp(lp) over the wrong choices, per example."""
        return self.segments.log_sum_exp(np.where(self.gold, -np.inf, self.lp))

    @cached_property
    def total(self) -> np.ndarray:
        """log Σ exp(lp) over all choices, per example."""
        return self.segments.log_sum_exp(self.lp)

    @cached_property
    def probability(self) -> np.ndarray:
        """exp(lp) divided by its sum over the choices, per row."""
        normalised: np.ndarray = np.exp(self.lp - self.total[self.segments.of])
        return normalised

    @cached_property
    def answer(self) -> np.ndarray:
        """Row of the choice with the highest log-likelihood, the first of equal ones, per example."""
        return self.segments.argmax(self.lp)

    def right_where(self, score: np.ndarray) -> np.ndarray:
        """Return 1.0 if the first choice with the highest score is right, else 0.0, per example."""
        right: np.ndarray = self.gold[self.segments.argmax(score)].astype(float)
        return right

    def tied(self, score: np.ndarray) -> np.ndarray:
        """Return whether more than one choice has the highest score, per example."""
        equal: np.ndarray = self.segments.sum(score == self.segments.max(score)[self.segments.of]) > 1
        return equal

    def _check(self) -> None:
        if not np.isfinite(self.lp).all():
            row = int(np.argmin(np.isfinite(self.lp)))
            raise CellError(
                f"example {self.rows['example'][row]}, choice {self.rows['choice'][row]} has the "
                f"log-likelihood {self.lp[row]}, which is not finite."
            )
        kind = self.kind
        if kind.rows is not None:
            self.refuse(
                self.segments.sizes != kind.rows,
                f"has {{}} choices, but the kind {kind.name} has {kind.rows}",
            )
        if kind.gold == "choices":
            one_sided = (self.right_count == 0) | (self.right_count == self.segments.sizes)
            self.refuse(one_sided, "needs a right and a wrong choice")
        if "best" in self.rows:
            best = self.column("best")
            right, choices = self.segments.sum(best == 1), self.segments.sum(best >= 0)
            self.refuse(
                (right != 1) | (choices < 2), "needs one best and a wrong choice in the column 'best'"
            )
        for name in (*kind.roles, *kind.columns):
            if name not in self.rows:
                raise CellError(f"the requests have no {name!r}, which the kind {kind.name} needs.")
        for name in kind.columns:
            self.refuse(
                self.segments.sum(~np.isfinite(self.column(name))) > 0, f"has a {name} that is not a number"
            )
        for name in kind.example_columns:
            differs = self.column(name) != self.of_example(name)[self.segments.of]
            self.refuse(self.segments.sum(differs) > 0, f"has more than one {name}")
        if kind.name in CHECKS:
            CHECKS[kind.name](self)

    def refuse(self, bad: np.ndarray, reason: str) -> None:
        """Raise `CellError` with the reason for the first example that is `bad`, if there is any."""
        if bad.any():
            first = int(np.argmax(bad))
            raise CellError(f"example {self.names[first]} {reason.format(self.segments.sizes[first])}.")


def _choices(joined: Columns) -> Columns:
    """Return the rows of role `choice`, with other roles as columns.

    These are the log-likelihood (`ROLE`), and whether it is greedy (`ROLE_greedy`) if that is known.
    """
    if "role" not in joined:
        return joined
    of_role = joined["role"]
    roles = list(dict.fromkeys(["unconditional", *chain.from_iterable(map(_roles, KINDS.values()))]))
    unknown = sorted(set(of_role.tolist()) - {"choice", *roles})
    if unknown:
        raise CellError(f"role: found {unknown[0]!r}, allowed: choice, {', '.join(roles)}.")
    rows = {name: values[of_role == "choice"] for name, values in joined.items()}
    keys = _key_list(rows["example"], rows["choice"])
    of = joined.get("of", joined["choice"])
    for role in roles:
        in_role = of_role == role
        if not in_role.any():
            continue
        partners = _key_list(joined["example"][in_role], of[in_role])
        found = dict(zip(partners, np.flatnonzero(in_role).tolist(), strict=True))
        if len(found) < len(partners):
            example, choice = next(key for i, key in enumerate(partners) if key in partners[:i])
            raise CellError(f"example {example} has two rows of the role {role} for choice {choice}.")
        for lacks, own, others in ((role, keys, found.keys()), ("choice", partners, set(keys))):
            if alone := [key for key in own if key not in others]:
                example, choice = alone[0]
                raise CellError(f"example {example}, choice {choice} has no row of the role {lacks}.")
        places = np.array([found[key] for key in keys])
        rows[role] = joined["loglikelihood"][places].astype(float)
        if "greedy" in joined:
            rows[f"{role}_greedy"] = joined["greedy"][places]
    return rows


def _roles(kind: Kind) -> tuple[str, ...]:
    return (*kind.roles, *kind.field_roles.values())


def _key_list(examples: np.ndarray, choices: np.ndarray) -> list[tuple[Any, int]]:
    return list(zip(examples.tolist(), choices.tolist(), strict=True))
