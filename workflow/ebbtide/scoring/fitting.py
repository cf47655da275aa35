"""Fit prompts into a window: leave out the last of their parts, as many as must be.

context    head | part 0 | part 1 | … | part n-1 | tail
offsets         ^        ^        ^              ^          the column `parts`: n + 1 characters

Parts are kept from the first on, so prompts that share their first parts still share their tokens.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import median_low
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ebbtide.arrow import key_codes
from ebbtide.errors import ScoringError
from ebbtide.scoring.encoding import NO_LIMIT, by_text, encode
from ebbtide.tables import FOOTER

if TYPE_CHECKING:
    from ebbtide.scoring.tokenizer import Tokenizer

PARTS = "parts"  # the column of requests and of cells

# Tokens that a text may lose where a part is put into it: one border becomes two, and at each of them tokens
# across it may replace two more.
_JOINED = 4
_FEW = 64  # requests of a group that are encoded at once: those of an example share their context

Lengths = Callable[[Sequence[int], Sequence[int]], list[int]]  # rows, parts kept → tokens that are read


@dataclass(frozen=True, eq=False)
class Fitted:
    """The contexts that a model reads (R), and how many of their parts they have."""

    contexts: list[str]
    kept: np.ndarray  # (R,) int64
    available: np.ndarray  # (R,) int64
    example: np.ndarray  # (R,) int64: equal for the requests of an example
    shared: bool  # whether all examples have the same number

    @property
    def facts(self) -> dict[str, Any]:
        """The footer entry `parts`: least, median and most parts kept of an example, and what there was.

        `of` is the greatest number that an example has, `left_out` the number of examples that lost some.
        """
        some = np.flatnonzero(self.available > 0)
        rows = some[np.unique(self.example[some], return_index=True)[1]]
        kept = self.kept[rows].tolist() or [0]
        return {
            "kept_least": min(kept),
            "kept_median": median_low(kept),
            "kept_most": max(kept),
            "of": int(self.available[rows].max(initial=0)),
            "left_out": int((self.kept < self.available)[rows].sum()),
            "examples": len(rows),
            "shared": self.shared,
        }


def with_kept(context: str, offsets: Sequence[int], kept: int) -> str:
    """Return a context with the first `kept` of its parts."""
    return context[: offsets[kept]] + context[offsets[-1] :]


def fit(
    tokenizer: "Tokenizer", table: pa.Table, names: Sequence[str], *, window: int, **rules: Any
) -> Fitted:
    """Return the contexts of requests with as many of their parts, from the first on, as fit the window.

    All requests of an example have the same number; in a task whose few-shot examples are the parts
    (`few_shot.fit`), all requests of the task. What fits is decided by the tokens of the whole text. The
    tokens of its parts, each encoded once, only say which number to try first; a number is not tried if it
    would fit only because its borders save more than four tokens.

    Parameters
    ----------
    table
        Requests (columns `example, choice, context, continuation, parts`).
    names
        Name of each request in errors.
    window, rules
        Those of `encoding.encode`.

    Raises
    ------
    ScoringError
        Not even one part fits; and the errors of `encode`.
    """
    contexts, continuations = (table.column(name).to_pylist() for name in ("context", "continuation"))
    offsets = table.column(PARTS).to_pylist()
    available = np.array([len(ends) - 1 for ends in offsets], dtype=np.int64)
    example, shared = key_codes(table, ["example"]), _is_shared(table)

    def lengths(rows: Sequence[int], kept: Sequence[int]) -> list[int]:
        texts = [with_kept(contexts[i], offsets[i], n) for i, n in zip(rows, kept, strict=True)]
        encoded = encode(
            tokenizer,
            texts,
            [continuations[i] for i in rows],
            [names[i] for i in rows],
            **{**rules, "window": NO_LIMIT},
        )
        return (np.diff(encoded.bounds) - 1).tolist()  # type: ignore[no-any-return]

    sizes = _sizes(tokenizer, contexts, continuations, offsets, names)
    kept = available.copy()
    some = np.flatnonzero(available > 0)
    group = np.zeros(len(table), dtype=np.int64) if shared else example
    members: dict[int, list[int]] = {}
    for row in some.tolist():
        members.setdefault(int(group[row]), []).append(row)
    found = _Search(members, available, sizes, window, lengths, names).found()
    for number, rows in members.items():
        kept[rows] = np.minimum(found[number], available[rows])
    fitted = [with_kept(contexts[i], offsets[i], int(n)) for i, n in enumerate(kept)]
    return Fitted(fitted, kept, available, example, shared)


@dataclass(frozen=True)
class _Sizes:
    """Estimates from the tokens of single pieces: of the text without parts, and of its first n parts."""

    rest: int
    first: list[int]  # n + 1, cumulative

    def of(self, parts: int) -> int:
        """Of the text with the first `parts` of its parts, or with all if it has fewer."""
        return self.rest + self.first[min(parts, len(self.first) - 1)]


class _Search:
    """The greatest number of parts that fits, for every group of requests."""

    def __init__(  # noqa: PLR0917 (what a search needs)
        self,
        members: Mapping[int, list[int]],
        available: np.ndarray,
        sizes: Sequence[_Sizes],
        window: int,
        lengths: Lengths,
        names: Sequence[str],
    ) -> None:
        self._members, self._available, self._sizes = members, available, sizes
        self._window, self._lengths, self._names = window, lengths, names
        self._most = {g: int(available[rows].max()) for g, rows in members.items()}
        self._fits = dict.fromkeys(members, 0)  # the greatest number that is known to fit
        self._exceeds = {g: most + 1 for g, most in self._most.items()}  # the least that does not
        self._longest: dict[int, tuple[int, int]] = {}  # tokens and row, as tried last

    def found(self) -> dict[int, int]:
        """Return the number for every group. Raises `ScoringError` where it is 0."""
        tried = {g: self._first(g) for g in self._members}
        while tried:
            self._try(tried)
            tried = {g: n for g in tried if (n := self._next(g, tried[g])) is not None}
        return self._fits

    def _first(self, group: int) -> int:
        """The number that fits by the sizes of single pieces, at least 1."""
        sizes = [self._sizes[row] for row in self._members[group]]
        fitting = (bisect_right(of.first, self._window - of.rest) - 1 for of in sizes if self._exceeds_at(of))
        return max(1, min(fitting, default=self._most[group]))

    def _exceeds_at(self, size: _Sizes) -> bool:
        return size.of(len(size.first)) > self._window

    def _try(self, tried: Mapping[int, int]) -> None:
        """Encode the groups with a number of parts; note whether it fits, and the longest request."""
        first = {g: self._first_rows(g, n) for g, n in tried.items()}
        longest = self._measured(first, tried)
        others = {
            g: [row for row in self._members[g] if row not in first[g]]
            for g, (length, _) in longest.items()
            if length <= self._window and len(first[g]) < len(self._members[g])
        }
        for g, found in self._measured(others, tried).items():
            longest[g] = max(longest[g], found)
        self._longest |= longest
        for g, (length, _) in longest.items():
            bound = self._fits if length <= self._window else self._exceeds
            bound[g] = tried[g]

    def _first_rows(self, group: int, parts: int) -> list[int]:
        """The requests to encode first: of a whole task, one that is probably too long if any is."""
        rows = self._members[group]
        if len(rows) <= _FEW:
            return rows
        if group in self._longest:
            return [self._longest[group][1]]
        return [max(rows, key=lambda row: self._sizes[row].of(parts))]

    def _measured(
        self, rows: Mapping[int, Sequence[int]], tried: Mapping[int, int]
    ) -> dict[int, tuple[int, int]]:
        """The tokens of the longest of some rows of each group, and the row."""
        flat = [(g, row) for g, of_group in rows.items() for row in of_group]
        kept = [min(tried[g], int(self._available[row])) for g, row in flat]
        longest: dict[int, tuple[int, int]] = {}
        if flat:
            for (g, row), length in zip(flat, self._lengths([row for _, row in flat], kept), strict=True):
                longest[g] = max(longest.get(g, (0, row)), (length, row))
        return longest

    def _next(self, group: int, tried: int) -> int | None:
        """The number to try after another one; None if the answer is known."""
        fits, exceeds, (length, row) = self._fits[group], self._exceeds[group], self._longest[group]
        if exceeds == 1:
            raise ScoringError(
                f"{self._names[row]}: not even one of {self._most[group]} parts fits: {length} tokens to "
                f"read exceed the window of {self._window}; shorten the prompt, or use a longer "
                "window."
            )
        if exceeds - fits == 1:
            return None
        size, room = self._sizes[row], self._window - length
        if fits == tried and size.of(tried + 1) - size.of(tried) - _JOINED > room:
            return None
        wanted = bisect_right(size.first, size.of(tried) - size.rest + room) - 1
        return min(max(wanted, fits + 1), exceeds - 1)


def _sizes(
    tokenizer: "Tokenizer",
    contexts: Sequence[str],
    continuations: Sequence[str],
    offsets: Sequence[Sequence[int]],
    names: Sequence[str],
) -> list[_Sizes]:
    """Estimate the tokens of every request from those of its pieces, each distinct text encoded once."""
    # Requests of an example share their context, and many contexts their parts.
    pieces: dict[tuple[str, int], list[str]] = {}
    named: dict[str, str] = {}  # text → a request that has it
    for context, continuation, ends, name in zip(contexts, continuations, offsets, names, strict=True):
        named.setdefault(continuation, name)
        if (context, ends[0]) not in pieces:
            parts = [context[a:b] for a, b in pairwise(ends)]
            pieces[context, ends[0]] = [context[: ends[0]], context[ends[-1] :], *parts]
            for text in pieces[context, ends[0]]:
                named.setdefault(text, name)
    tokens = {
        text: len(ids) for text, ids in by_text(tokenizer.ids, list(named), list(named.values())).items()
    }
    sizes = {
        key: (tokens[head] + tokens[tail], list(accumulate((tokens[text] for text in parts), initial=0)))
        for key, (head, tail, *parts) in pieces.items()
    }
    # The model reads all tokens but the last, which makes room for a token at the beginning.
    return [
        _Sizes(sizes[context, ends[0]][0] + tokens[continuation], sizes[context, ends[0]][1])
        for context, continuation, ends in zip(contexts, continuations, offsets, strict=True)
    ]


def _is_shared(table: pa.Table) -> bool:
    """Whether all examples of frozen requests have the same number of parts: their few-shot examples."""
    footer = json.loads((table.schema.metadata or {}).get(FOOTER, b"{}"))
    return bool((footer.get("definition", {}).get("few_shot") or {}).get("fit"))
