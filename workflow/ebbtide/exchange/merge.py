"""One table of all imported results: files of the same run, groups and their parts, and scored results."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.exchange.runs import Resolved
from ebbtide.files import file_sha256
from ebbtide.metrics.direction import is_accuracy
from ebbtide.notices import Notice, counted, listed
from ebbtide.tables import METRICS

_KEY = list(METRICS.key)
_CELL = ["model", "checkpoint", "task"]
_AGREE = 1e-6  # relative difference between what a tool reports and what follows from its samples


@dataclass(frozen=True)
class Found:
    """The results of one file.

    Attributes
    ----------
    where
        Key of the row of `imported`.
    rows
        Rows of the metrics table.
    beside
        For samples, the results file of the same run.
    loglikelihoods
        For samples, the digest of the answers.
    parts
        Groups of tasks → their parts, by their names here.
    keeps_groups
        Whether groups and their parts are both wanted.
    """

    where: str
    format: str
    file: str
    rows: pd.DataFrame
    resolved: Sequence[Resolved]
    beside: str = ""
    loglikelihoods: str = ""
    parts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    keeps_groups: bool = True

    @property
    def has_examples(self) -> bool:
        """Whether the file has results of single examples."""
        return bool(self.beside)


def merged(found: Sequence[Found]) -> tuple[pd.DataFrame, list[Notice]]:
    """The rows of all files, each metric of a cell once, and what was recognised or left out.

    Raises `CellError` for two results of one cell that are not of one run, and for two models whose inferred
    names are the same.
    """
    _check_names(found)
    rows = pd.concat(
        [
            one.rows.assign(file=one.file, where=one.where, samples=one.has_examples, of=number)
            for number, one in enumerate(found)
        ],
        ignore_index=True,
    )
    rows, same = _without_same_runs(rows, found)
    rows, grouped = _without_groups(rows, found)
    repeated = rows.duplicated(_KEY, keep=False)
    if repeated.any():
        raise _two_results(rows[repeated])
    return rows[[*METRICS.columns, "file"]], [*same, *grouped]


def _check_names(found: Iterable[Found]) -> None:
    """Raise `CellError` if two models of different origin would have one name."""
    origins: dict[str, tuple[str, str]] = {}  # name → origin, file
    for one in found:
        for name, origin in ((r.row.model, r.origin) for r in one.resolved if "/" in r.origin):
            first, file = origins.setdefault(name, (origin, one.file))
            if first != origin:
                raise two_models(name, (first, file), (origin, one.file), one.where)


def two_models(name: str, first: tuple[str, str], second: tuple[str, str], where: str) -> CellError:
    """Return the error for two origins, each with its file, from which the same name is inferred."""
    return CellError(
        f"{first[1]} and {second[1]}: found two models, {first[0]} and {second[0]}, that would both be "
        f"called {name!r}. Name them under {where}.models, with match."
    )


def _without_same_runs(rows: pd.DataFrame, found: Sequence[Found]) -> tuple[pd.DataFrame, list[Notice]]:
    """Leave out metrics of results files whose samples are imported, too."""
    own = rows[rows["samples"]]
    twice = rows[~rows["samples"]].reset_index().merge(own, on=_KEY, suffixes=("", "_own"))
    if twice.empty:
        return rows, []
    same = [
        _same_file(file, found[int(of)].beside) or agrees
        for file, of, agrees in zip(twice["file"], twice["of_own"], _agree(twice), strict=True)
    ]
    left = twice[np.array(same, dtype=bool)]
    if left.empty:
        return rows, []
    files = list(dict.fromkeys(left["file"]))
    cells = left.drop_duplicates(_CELL)
    notice = Notice(
        "note",
        "duplicated",
        f"{listed(files)} and samples are of the same runs: for {len(left)} metrics of {len(cells)} cells "
        "the values from the samples are used.",
        count=len(left),
    )
    return rows[~rows.index.isin(left["index"])], [notice]


def _agree(twice: pd.DataFrame) -> Iterator[bool]:
    """Whether all values of a cell, from results and from samples, agree.

    Accuracies per character or byte are left out, because lm-eval does not count the delimiter.
    """
    close = np.isclose(twice["value"], twice["value_own"], rtol=_AGREE, atol=_AGREE)
    differs = ~close & ~twice["metric"].str.startswith("accuracy_per_").to_numpy()
    cells = [*_CELL, "file"]
    different = set(map(tuple, twice.loc[differs, cells].to_numpy()))
    return (tuple(cell) not in different for cell in twice[cells].to_numpy())


def _same_file(first: str, second: str) -> bool:
    one, other = Path(first), Path(second)
    if one.resolve() == other.resolve():
        return True
    return one.stat().st_size == other.stat().st_size and file_sha256(one) == file_sha256(other)


def _without_groups(rows: pd.DataFrame, found: Sequence[Found]) -> tuple[pd.DataFrame, list[Notice]]:
    """Leave out aggregates of groups of which the parts are imported as samples."""
    parts: dict[str, frozenset[str]] = {}
    for one in found:
        if not one.keeps_groups:
            for group, members in one.parts.items():
                parts[group] = parts.get(group, frozenset()) | members
    present = set(rows.loc[rows["samples"], "task"])
    left = [group for group, members in parts.items() if members & present]
    out = rows["task"].isin(left) & ~rows["samples"]
    if not out.any():
        return rows, []
    notice = Notice(
        "note",
        "dropped",
        f"the aggregates of {listed(left)} are left out, because their parts are imported as samples.",
        "Set groups: both in the row of imported to keep them.",
        count=int(out.sum()),
    )
    return rows[~out], [notice]


def _two_results(repeated: pd.DataFrame) -> CellError:
    first = repeated.iloc[0]
    rows = repeated.loc[(repeated[_KEY] == first[_KEY]).all(axis=1)]
    files = list(dict.fromkeys(rows["file"]))
    where = " and ".join(dict.fromkeys(rows["where"]))
    values = " and ".join(f"{value:.6g}" for value in rows["value"].unique()[:2])
    return CellError(
        f"{where}: {' and '.join(files[:2]) if len(files) > 1 else files[0] + ' twice'}: two results for "
        f"{', '.join(f'{k} {first[k]}' for k in _KEY)} ({values}). Remove one from files, or narrow shots, "
        "tasks or where."
    )


def joined(scored: pd.DataFrame, imported: pd.DataFrame) -> tuple[pd.DataFrame, list[Notice]]:
    """The table of metrics: scored and imported rows, with facts that only one of them knows.

    Of the same model, sizes of imported rows that are unknown are taken from scored ones; of the same
    checkpoint, training tokens; of the same task and metric, chance levels.

    Raises `CellError` for a cell that is both scored and imported, and for a checkpoint with two steps or
    two numbers of tokens.
    """
    both = imported.merge(scored[_KEY], on=_KEY)
    if len(both):
        row = both.iloc[0]
        raise CellError(
            f"{row['file']}: model {row['model']}, checkpoint {row['checkpoint']}, task {row['task']}: "
            "scored by this study as well as imported. Leave the task out of the row of "
            "imported (key tasks), or set results: scored or results: imported."
        )
    filled, notices = imported.copy(), []
    sizes = [c for c in METRICS.columns if c.startswith("parameters_")]
    for column, key in [*((c, ["model"]) for c in sizes), ("tokens", ["model", "checkpoint"])]:
        known = _of_scored(scored[scored[column] > 0], filled, key, column)
        if column == "tokens":
            _check_tokens(filled, known)
        gap = known.notna() & (filled[column] == 0)
        filled[column] = filled[column].mask(gap, known).astype("int64")
        notices += _taken(filled[gap], column, "model")
    known = _of_scored(scored[scored["chance"].notna()], filled, ["task", "metric"], "chance")
    gap = known.notna() & filled["chance"].isna() & filled["metric"].map(is_accuracy)
    filled["chance"] = filled["chance"].mask(gap, known)
    notices += [*_taken(filled[gap], "chance", "task"), *_without_chance(filled)]
    columns = list(METRICS.columns)
    # A table without rows has no types, and would take away those of the other's columns without a value.
    parts = [rows[columns] for rows in (scored, filled) if len(rows)]
    return pd.concat(parts or [filled[columns]], ignore_index=True), notices


def _of_scored(scored: pd.DataFrame, rows: pd.DataFrame, key: list[str], column: str) -> pd.Series:
    """The value of a column in scored rows of the same key, for every row; NaN if there is none."""
    known = scored.groupby(key)[column].first().rename("known")
    return rows[key].join(known, on=key)["known"].astype(float)


def _check_tokens(rows: pd.DataFrame, known: pd.Series) -> None:
    wrong = known.notna() & (rows["tokens"] > 0) & (rows["tokens"] != known)
    if wrong.any():
        row = rows[wrong].iloc[0]
        raise CellError(
            f"{row['file']}: model {row['model']}, checkpoint {row['checkpoint']}: found {row['tokens']} "
            f"training tokens, but the scored checkpoint has {known[wrong].iloc[0]:.0f}. Correct "
            "models[].tokens_per_step in the row of imported, or give the imported model another name."
        )


def _taken(rows: pd.DataFrame, column: str, of: str) -> list[Notice]:
    """The notice that values which imported results lack are those of scored cells."""
    if rows.empty:
        return []
    what = {"chance": "chance level", "tokens": "training tokens"}.get(column, column)
    detail = f"The {what} of imported {listed(rows[of].unique())}: not in the files, so as in scored results."
    return [Notice("note", "defaulted", detail, count=len(rows))]


def _without_chance(rows: pd.DataFrame) -> list[Notice]:
    """The notice of imported accuracies without a chance level, in the files or in scored results."""
    tasks = list(rows.loc[rows["metric"].map(is_accuracy) & rows["chance"].isna(), "task"].unique())
    if not tasks:
        return []
    detail = (
        f"Chance level unknown of {counted(tasks, 'imported task')} ({listed(tasks)}), so their heat maps "
        "show the change from the first checkpoint."
    )
    return [Notice("note", "not_compared", detail, "Set chance in the row of imported.", count=len(tasks))]
