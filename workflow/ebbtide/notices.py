"""Notices: what was defaulted, dropped, truncated, tied, duplicated, reused or not compared in a study.

Every stage returns its own notices as a list; `report.notices` collects those of a study, worst first. A
notice stops nothing. What must stop a run is an error.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SEVERITIES = ("warning", "note")  # a number may be wrong; a number is right, but readers should know
KINDS = {
    "not_compared": "a comparison, trend or test that could not be made",
    "low_power": "comparisons that could not have seen a change worth knowing",
    "suspicious": "results or weights that are probably not what their name says",
    "duplicated": "equal examples, weights or results under different names",
    "out_of_range": "a value or prediction that its metric cannot take",
    "tied": "answers that are right or wrong only by the order of the choices",
    "truncated": "contexts that the model did not read in full",
    "text": "white space or tokens at the border of context and continuation",
    "dropped": "rows, checkpoints or results that were left out",
    "defaulted": "a value that was not given, and what was used instead",
    "converted": "weights that were converted from another format before they were scored",
    "not_audited": "weights or results that no audit has seen",
    "reused": "results of an older run that are shown as they are",
    "unused": "names in the configuration, or files beside the results, that the study does not use",
}


@dataclass(frozen=True)
class Notice:
    """One thing that readers of a study should know.

    Attributes
    ----------
    severity
        One of `SEVERITIES`.
    kind
        One of `KINDS`.
    detail
        One sentence with the number of rows or cells, and the first of them.
    remedy
        One sentence: what to change, with the key; empty if there is nothing to change.
    model, checkpoint, task
        What it is about; empty means all.
    count
        Number of rows, cells or comparisons.
    """

    severity: str
    kind: str
    detail: str
    remedy: str = ""
    model: str = ""
    checkpoint: str = ""
    task: str = ""
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse words that no reader of the table would look for."""
        if self.severity not in SEVERITIES or self.kind not in KINDS:
            raise ValueError(f"notice of severity {self.severity!r}, kind {self.kind!r}")

    def record(self) -> dict[str, Any]:
        """Return the notice as JSON, for footers of tables and params of rules."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(Notice))


def listed(names: Iterable[object], most: int = 3) -> str:
    """Return the first names for a sentence, and how many more there are; unprintable ones are quoted."""
    texts = [text if text.isprintable() else repr(text) for text in map(str, names)]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def counted(things: Collection[object] | int, noun: str) -> str:
    """Return a number with its noun: `1 file`, `2,000 files`."""
    number = things if isinstance(things, int) else len(things)
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def from_records(records: Iterable[Mapping[Any, Any]]) -> list[Notice]:
    """Return the notices that `Notice.record` wrote."""
    return [Notice(**record) for record in records]


def worst_first(notices: Iterable[Notice]) -> list[Notice]:
    """Return the notices once each: warnings first, then by the order of `KINDS`, then the most frequent."""
    kinds = list(KINDS)

    def rank(notice: Notice) -> tuple[int, int, int]:
        return SEVERITIES.index(notice.severity), kinds.index(notice.kind), -notice.count

    return sorted(dict.fromkeys(notices), key=rank)


def notices_table(notices: Iterable[Notice]) -> "pd.DataFrame":
    """Return one row per notice, worst first, columns `COLUMNS`."""
    import pandas as pd

    return pd.DataFrame([n.record() for n in worst_first(notices)], columns=list(COLUMNS))
