"""Notices of the texts of a frozen task: white space at borders, repeated examples, choices that start alike.

They are computed from the requests, so they exist for every frozen task. Each names the first example that it
is about, as the model reads it: the end of the context + the beginning of the continuation.

    table      the requests by example, and how a notice names its first row
    borders    white space and tokens at the border;  alike: examples and choices that are alike
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ebbtide.notices import Notice
from ebbtide.tasks.notices.alike import alike
from ebbtide.tasks.notices.borders import borders, missing_values, spanning, tokens_across
from ebbtide.tasks.notices.table import Finding, Table

if TYPE_CHECKING:
    import pandas as pd

    from ebbtide.scoring.tokenizer import Tokenizer

__all__ = ["Finding", "findings", "spanning", "text_notices"]

MANY = 0.05  # share of dropped rows that makes their notice a warning


def text_notices(
    requests: "pd.DataFrame", footer: Mapping[str, Any], tokenizer: "Tokenizer | None" = None
) -> list[Notice]:
    """Return what readers should know of the texts of a frozen task.

    Parameters
    ----------
    requests, footer
        The table and the footer of a frozen task. Of the footer, `task`, `definition`, `dropped`,
        `dropped_rows`, `shots_not_asked`, `byte_order_mark` and `missing_cells` are read; all may be missing.
    tokenizer
        With one, tokens across the border of context and continuation are counted, and choices that start
        alike are compared by their first token instead of their first word.
    """
    return [finding.notice for finding in findings(requests, footer, tokenizer)]


def findings(
    requests: "pd.DataFrame", footer: Mapping[str, Any], tokenizer: "Tokenizer | None" = None
) -> list[Finding]:
    """Return the notices of `text_notices`, each with the row that it names."""
    table = Table(requests, footer)
    found = [*borders(table), *alike(table, tokenizer), *missing_values(table)]
    if tokenizer is not None:
        found += tokens_across(table, tokenizer)
    found += _reading(footer)
    task = str(footer.get("task", ""))
    return [replace(finding, notice=replace(finding.notice, task=task)) for finding in found]


def _reading(footer: Mapping[str, Any]) -> Iterator[Finding]:
    """What was left out when the data were read."""
    dropped = int(footer.get("dropped", 0))
    if dropped:
        total = dropped + int(footer.get("examples", 0))
        first = "".join(f"; the first is {reason}" for reason in footer.get("dropped_rows", [])[:1])
        yield Finding(
            Notice(
                "warning" if dropped > MANY * total else "note",
                "dropped",
                f"{dropped} of {total} rows were dropped (drop_bad_rows){first}.",
                "Correct the rows, or check that the rest is still a fair sample.",
                count=dropped,
            )
        )
    if shots := int(footer.get("shots_not_asked", 0)):
        yield Finding(
            Notice(
                "note",
                "dropped",
                f"{shots} examples are not asked, because they are, or have the prompt of, the few-shot "
                "examples before all others (few_shot.same).",
                count=shots,
            )
        )
    if footer.get("byte_order_mark"):
        yield Finding(Notice("note", "text", "A byte-order mark at the beginning of the data was removed."))
    if cells := footer.get("missing_cells"):
        total = int(footer.get("examples", 0)) + dropped
        yield Finding(
            Notice(
                "warning",
                "text",
                f"{cells['rows']} of {total} rows have an empty cell, or one such as nan or NA, in a column "
                f"that the task reads; the first is {cells['first']}.",
                "If they are missing values, remove these rows from the data: a table of texts cannot tell "
                "them from texts.",
                count=cells["rows"],
            )
        )
