"""A cell joined with its frozen requests, checked, as arrays.

A row of another role than `choice` refers to one of the choices (`of`). Its log-likelihood becomes a column
of that choice, named after the role: `unconditional`, `other`. The remaining rows are the choices. The kind
of the task defines what its rows must have (`ebbtide.tasks.kinds`).
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute

from ebbtide.errors import CellError, TaskError
from ebbtide.metrics.segments import Segments
from ebbtide.tasks.kinds import KINDS, kind_of

GROUP = "group_"

_KEYS = ["example", "choice"]
_COUNTS = ("tokens", "bytes", "characters")


def join(cell: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """Join a cell and its requests, without the texts.

    Raises `CellError` if an example or choice is in only one of them, or if there are none.
    """
    wanted = [c for c in requests.columns if c not in ("context", "continuation")]
    if len(cell) == len(requests) and all(cell[key].equals(requests[key]) for key in _KEYS):
        # The usual case: scoring keeps the order, and a cell has each key once.
        renamed = {c: f"{c}_of_request" for c in wanted if c not in _KEYS and c in cell.columns}
        rows = pd.concat([requests[wanted].rename(columns=renamed), cell.drop(columns=_KEYS)], axis=1)
        if len(rows) == len(cell) > 0:
            return rows
    rows = requests[wanted].merge(
        cell, on=_KEYS, how="outer", indicator="side", sort=False, suffixes=("_of_request", "")
    )
    alone = rows["side"] != "both"
    if alone.any():
        row = rows[alone].iloc[0]
        side = "requests" if row["side"] == "left_only" else "cell"
        raise CellError(f"example {row['example']}, choice {row['choice']} is only in the {side}.")
    if rows.empty:
        raise CellError("the requests have no examples.")
    return rows.drop(columns="side")


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by (example, choice), with Arrow, which sorts texts several times faster than pandas."""
    keys = pa.table({key: pa.array(rows[key], from_pandas=True) for key in _KEYS})
    order = pa.compute.sort_indices(keys, sort_keys=[(key, "ascending") for key in _KEYS])
    return rows.take(order.to_numpy()).reset_index(drop=True)


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
        Rows of a cell and of its frozen task, in any order.
    definition
        Definition of the task; only `kind` (default `choice`) and `invert` are used. `invert` exchanges right
        and wrong choices.

    Raises
    ------
    CellError
        A row without its partner, a missing column, a wrong number of rows, an example without a right or a
        wrong choice, or a log-likelihood that is not finite.
    TaskError
        An unknown kind, or `invert` for a kind without right and wrong choices.
    """

    def __init__(self, joined: pd.DataFrame, definition: Mapping[str, Any]) -> None:
        self.kind = kind_of(definition)
        self.invert = bool(definition.get("invert", False))
        if self.invert and not self.kind.invertible:
            raise TaskError(f"invert: the kind {self.kind.name} has no right and wrong choices to exchange.")
        self.rows = _choices(joined)
        self.segments = Segments(self.rows["example"].to_numpy())
        self.index = pd.Index(self.segments.first(self.rows["example"].to_numpy()), name="example")
        self._check()

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def columns(self) -> frozenset[str]:
        """Columns that metrics may need; counts are included if they are known in all rows."""
        least = 0 if self.kind.needs == "losses" else 1  # a document may be empty
        unknown = {c for c in _COUNTS if c in self.rows and not (self.rows[c] >= least).all()}
        return frozenset(self.rows.columns) - unknown

    def column(self, name: str) -> np.ndarray:
        """Return a column as floats, one per row."""
        values: np.ndarray = self.rows[name].to_numpy(dtype=float)
        return values

    def of_example(self, name: str) -> np.ndarray:
        """Return a column that is constant within examples as floats, one per example."""
        values: np.ndarray = self.segments.first(self.column(name))
        return values

    def group(self, name: str) -> tuple[np.ndarray, list[str]]:
        """Return every example's level in a group as an index, -1 for none, and the sorted levels."""
        codes, levels = pd.factorize(self.rows[GROUP + name])
        texts = np.array([str(level) for level in levels], dtype=object)
        names, ranks = np.unique(texts, return_inverse=True)
        codes = np.where(codes < 0, -1, np.r_[ranks, -1][codes])
        of_example = self.segments.first(codes)
        differs = self.segments.sum(codes != of_example[self.segments.of])
        self.refuse(differs > 0, f"has more than one {GROUP}{name}")
        return of_example, names.tolist()

    @property
    def groups(self) -> list[str]:
        """Names of the groups of the requests."""
        return [c.removeprefix(GROUP) for c in self.rows.columns if c.startswith(GROUP)]

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
            row = self.rows.iloc[int(np.argmin(np.isfinite(self.lp)))]
            raise CellError(
                f"example {row['example']}, choice {row['choice']} has the log-likelihood "
                f"{row['loglikelihood']}, which is not finite."
            )
        kind = self.kind
        if kind.rows is not None:
            self.refuse(
                self.segments.sizes != kind.rows,
                f"has {{}} choices, but the kind {kind.name} has {kind.rows}",
            )
        if kind.gold == "choices":
            share = self.segments.mean(self.gold)
            self.refuse((share == 0) | (share == 1), "needs a right and a wrong choice")
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
            raise CellError(f"example {self.index[first]} {reason.format(self.segments.sizes[first])}.")


def _choices(joined: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of role `choice`, sorted, with the log-likelihoods of other roles as columns."""
    if "role" not in joined:
        return in_order(joined)
    roles = list(dict.fromkeys(["unconditional", *(role for kind in KINDS.values() for role in kind.roles)]))
    unknown = set(joined["role"].unique()) - {"choice", *roles}
    if unknown:
        raise CellError(f"role: found {unknown.pop()!r}, allowed: choice, {', '.join(roles)}.")
    of = joined["of"] if "of" in joined else joined["choice"]
    rows = in_order(joined[joined["role"] == "choice"])
    for role in roles:
        in_role = joined["role"] == role
        if not in_role.any():
            continue
        partners = pd.DataFrame(
            {
                "example": joined.loc[in_role, "example"],
                "choice": of[in_role],
                role: joined.loc[in_role, "loglikelihood"].astype(float),
            }
        )
        repeated = partners[partners.duplicated(_KEYS)]
        if len(repeated):
            row = repeated.iloc[0]
            raise CellError(
                f"example {row['example']} has two rows of the role {role} for choice {row['choice']}."
            )
        both = rows.merge(partners, on=_KEYS, how="outer", indicator="side")
        if (both["side"] != "both").any():
            row = both[both["side"] != "both"].iloc[0]
            lacks = role if row["side"] == "left_only" else "choice"
            raise CellError(
                f"example {row['example']}, choice {row['choice']} has no row of the role {lacks}."
            )
        rows = in_order(both.drop(columns="side"))
    return rows
