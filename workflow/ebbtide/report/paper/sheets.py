"""Tables of a paper: which columns and rows of a table are printed in each section, as texts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ebbtide.statistics.alarms.alarms import SEVERITIES
from ebbtide.titles import in_words, title

Tables = Mapping[str, pd.DataFrame]
MOST_ROWS = 24  # of a table in print
UNKNOWN = "–"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Sheet:
    """The table of a section.

    Attributes
    ----------
    table
        Name of the table without suffix.
    columns
        Heading → function from a row to the text of its cell.
    chosen
        Function from the table to the rows to print, the most important first.
    about
        What its rows are, for the caption.
    """

    table: str
    columns: Mapping[str, Callable[[Mapping[Any, Any]], str]]
    about: str
    chosen: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows


def number(value: object, digits: int = 3) -> str:
    """Return a number as it is printed, with a true minus sign and powers of ten; a dash if it is unknown."""
    if value is None or value == "" or pd.isna(value):  # type: ignore[call-overload]
        return UNKNOWN
    mantissa, _, exponent = f"{float(value):.{digits}g}".partition("e")  # type: ignore[arg-type]
    power = f" × 10{str(int(exponent)).translate(_RAISED)}" if exponent else ""
    return mantissa.replace("-", "−") + power


def p_value(value: object) -> str:
    """Return a p-value as it is printed."""
    if value is None or pd.isna(value):  # type: ignore[call-overload]
        return UNKNOWN
    return "< 0.001" if float(value) < 0.001 else f"{float(value):.3f}"  # type: ignore[arg-type]


def sheet_values(section: str, tables: Tables) -> dict[str, Any]:
    """Return the `table` of a section as texts; empty if it has none, or no rows."""
    sheet = SHEETS.get(section)
    if sheet is None or sheet.table not in tables:
        return {}
    chosen = sheet.chosen(tables[sheet.table])
    if chosen.empty:
        return {}
    rows = chosen.head(MOST_ROWS).to_dict("records")
    return {
        "table": {
            "headings": list(sheet.columns),
            "rows": [[cell(row) for cell in sheet.columns.values()] for row in rows],
            "about": sheet.about,
            "more": len(chosen) - len(rows),
            "file": f"{sheet.table}.tsv",
        }
    }


def _of(column: str) -> Callable[[Mapping[Any, Any]], str]:
    return lambda row: UNKNOWN if pd.isna(row[column]) or row[column] == "" else str(row[column])


def _number_of(column: str, digits: int = 3) -> Callable[[Mapping[Any, Any]], str]:
    return lambda row: number(row[column], digits)


def _interval(low: str, high: str) -> Callable[[Mapping[Any, Any]], str]:
    def text(row: Mapping[Any, Any]) -> str:
        if pd.isna(row[low]) and pd.isna(row[high]):
            return UNKNOWN
        return f"[{number(row[low], 2)}, {number(row[high], 2)}]"

    return text


def _arrow(row: Mapping[Any, Any]) -> str:
    before, after = ("reference_value", "value") if "reference_value" in row else ("first", "last")
    return f"{number(row[before])} → {number(row[after])}"


def _worst_alarms(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per drop: against the reference of the largest effect, the most severe first."""
    raised = rows[(rows["group"] == "") & (rows["severity"] != "")]
    rank = raised["severity"].map({name: i for i, name in enumerate(SEVERITIES)})
    ordered = raised.assign(rank=rank, size=raised["effect"].abs()).sort_values(
        ["rank", "size"], ascending=False, kind="stable"
    )
    return ordered.drop_duplicates(["model", "task", "metric", "checkpoint"])


def _changes_under(row: Mapping[Any, Any]) -> str:
    columns = ("size", "errors", "model", "left_out", "correction")
    texts = [str(row[name]) for name in columns if str(row.get(name, "")).startswith("changes under ")]
    return "; ".join(text.removeprefix("changes under ") for text in texts) or "no choice"


_METRIC = {"Metric": lambda row: in_words(str(row["metric"]))}
_ABILITY = {"Task": _of("task"), **_METRIC}
_MODEL = {"Model": _of("model")}
SHEETS = {
    "runs": Sheet(
        "run_verdicts",
        {
            "Arm": _of("arm"),
            "Task or suite": lambda row: (
                _of("task")(row) if row["task"] else f"suite {in_words(str(row['suite']))}"
            ),
            "Size": _of("size"),
            **_METRIC,
            "Difference": _number_of("difference"),
            "Interval": _interval("low", "high"),
            "p": lambda row: p_value(row["p_adjusted"]),
            "Verdict": _of("verdict"),
        },
        "Arms compared with the reference; sizes are nominal, or else all parameters",
    ),
    "alarms": Sheet(
        "alarms",
        {
            **_MODEL,
            **_ABILITY,
            "Checkpoint": _of("checkpoint"),
            "Change": _arrow,
            "p": lambda row: p_value(row["p_adjusted"]),
            "Severity": _of("severity"),
        },
        "Drops, the most severe first; each against the reference of its largest effect",
        _worst_alarms,
    ),
    "trends": Sheet(
        "outcomes",
        {
            **_ABILITY,
            **_MODEL,
            "Outcome": _of("outcome"),
            "First → last": _arrow,
            "Slope": _number_of("slope", 2),
            "Interval": _interval("low", "high"),
        },
        "Outcomes of training other than undecided; slopes are per tenfold training tokens",
        lambda rows: rows[rows["outcome"] != "undecided"],
    ),
    "forgetting": Sheet(
        "forgetting",
        {
            **_ABILITY,
            **_MODEL,
            "Learned": _number_of("ever_held", 6),
            "Forgotten": _number_of("forgotten", 6),
            "Expected": _number_of("forgotten_expected"),
        },
        "Curves that forget examples beyond noise: examples that were ever learned, of these forgotten at "
        "the end, and how many the same answers in random order would forget",
        lambda rows: rows[rows["verdict"] == "forgets"],
    ),
    "verdicts": Sheet(
        "verdicts",
        {
            **_ABILITY,
            "Verdict": _of("verdict"),
            "Largest model": _of("model"),
            "First → last": _arrow,
            "Change": _number_of("change"),
        },
        "Verdicts, with the change of the largest model over training",
    ),
    "robustness_verdicts": Sheet(
        "robustness_verdicts",
        {**_ABILITY, "Verdict": _of("base"), "Holds under": _of("survives"), "Changes under": _changes_under},
        "Verdicts on the interaction when one choice of the analysis is changed at a time",
        lambda rows: rows[rows["base"].fillna("") != ""],
    ),
    "resolution": Sheet(
        "resolution",
        {
            **_ABILITY,
            "Size": _of("size"),
            "Signal": _number_of("signal", 2),
            "Noise": _number_of("step_noise", 2),
            "Signal-to-noise": _number_of("snr_within", 2),
            "Detectable": _number_of("mde_averaged", 2),
            "Verdict": _of("verdict"),
        },
        "What each task can tell at the largest size (nominal, or else all parameters); detectable: the "
        "smallest difference of averages over the last checkpoints that is found with a probability of 80 %",
        lambda rows: rows.drop_duplicates(["task", "metric"], keep="last"),
    ),
    "scale_trends": Sheet(
        "scale_trends",
        {
            "Series": _of("series"),
            "Task": _of("task"),
            "Shots": _of("shots"),
            **_METRIC,
            "Class": _of("class"),
        },
        "Classes of curves against training compute",
    ),
    "predictions": Sheet(
        "predictions",
        {
            **_MODEL,
            "Tokens per parameter": _number_of("M"),
            "Quantity": lambda row: title(str(row["quantity"])),
            "Predicted": _number_of("predicted"),
            "Actual": _number_of("actual"),
            "Interval": _interval("low", "high"),
        },
        "Predicted and actual values of runs that are not in the fit",
        lambda rows: rows[~rows["in_fit"].astype(bool)],
    ),
}
