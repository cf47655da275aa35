"""The requests of a frozen task as columns and by example, and notices that name the first row."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebbtide.notices import Notice
from ebbtide.tasks.kinds import kind_of

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 30  # characters on either side of the border


@dataclass(frozen=True)
class Finding:
    """A notice, and the row of the requests (its position) that it names; None if it names none."""

    notice: Notice
    row: int | None = None


class Table:
    """The requests of a frozen task, as columns and by example."""

    def __init__(self, requests: "pd.DataFrame", footer: Mapping[str, Any]) -> None:
        definition = footer.get("definition", {})
        self.kind = kind_of(definition)
        self.generated = "toy" in definition.get("source", {})
        self.examples = requests["example"].astype(str).tolist()
        self.choices = requests["choice"].tolist()
        self.contexts: list[str] = requests["context"].tolist()
        self.continuations: list[str] = requests["continuation"].tolist()
        self.gold = requests["gold"].tolist() if "gold" in requests else None
        self.best = requests["best"].tolist() if "best" in requests else None
        self.roles = requests["role"].tolist() if "role" in requests else ["choice"] * len(requests)
        self.groups: dict[str, list[str]] = {
            str(name): requests[name].astype(str).tolist()
            for name in requests
            if str(name).startswith("group_")
        }
        self.rows: dict[str, list[int]] = {}  # of the role `choice`, by example
        for row, (example, role) in enumerate(zip(self.examples, self.roles, strict=True)):
            of_example = self.rows.setdefault(example, [])
            if role == "choice":
                of_example.append(row)

    def finding(
        self, rows: Sequence[int], what: str, severity: str, kind: str, remedy: str
    ) -> Iterator[Finding]:
        """Yield the notice that `what` holds of these rows, one row per example, if there are any."""
        if not rows:
            return
        first = min(rows)
        where = f"the first is example {self.examples[first]}, choice {self.choices[first]}"
        detail = f"{len(rows)} of {len(self.rows)} examples {what}; {where}: {self.as_read(first)}."
        yield Finding(Notice(severity, kind, detail, remedy, count=len(rows)), first)

    def as_read(self, row: int) -> str:
        """Return the end of the context and the beginning of the continuation, quoted."""
        context, continuation = self.contexts[row], self.continuations[row]
        before = ("…" if len(context) > SHOWN else "") + context[-SHOWN:]
        after = continuation[:SHOWN] + ("…" if len(continuation) > SHOWN else "")
        return f"{before!r} + {after!r}"

    def where(self, holds: Callable[[int], bool]) -> list[int]:
        """Return the first row of each example for which a condition holds."""
        first: dict[str, int] = {}
        for row, example in enumerate(self.examples):
            if example not in first and holds(row):
                first[example] = row
        return list(first.values())
