"""The summary of a study: outcomes, verdicts, what readers should know, and where the files are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ebbtide.notices import Notice, counted, worst_first
from ebbtide.statistics.compute_trends.sentences import growth_sentences, share_sentences
from ebbtide.statistics.regression.design import NO_REGRESSION

TERMINAL_LINES = 25  # of each section; the file has all
HEADING = "Over training, first → last trained checkpoint"


def summarise(
    metrics: pd.DataFrame,
    outcomes: pd.DataFrame,
    verdicts: pd.DataFrame | None,
    notices: Sequence[Notice],
    files: Sequence[str],
    *,
    robustness: pd.DataFrame | None = None,
    runs: pd.DataFrame | None = None,
    compute: pd.DataFrame | None = None,
    academia: pd.DataFrame | None = None,
    ratings: Sequence[str] = (),
) -> str:
    """Return the summary as text: sections of lines, separated by blank lines.

    Parameters
    ----------
    metrics
        Rows of `tables.METRICS`; none in a study without models.
    outcomes
        See `report.outcomes`.
    verdicts
        Rows of verdicts.tsv.
    notices
        What readers should know; a made-up number (`scoring.backend: fake`) has a line of its own, the first.
    files
        Paths to name at the end; those that exist when the run ends.
    robustness
        Rows of robustness_verdicts.tsv: under how many other choices of the analysis each verdict holds.
    runs
        Rows of run_sentences.tsv, if the study compares runs.
    compute, academia
        Rows of compute_trends.tsv and academia.tsv, if the study has a table of models.
    ratings
        What ratings tell, in sentences.
    """
    sections = [
        _grid(metrics) if len(metrics) or compute is None else [],
        _outcome_lines(outcomes),
        verdict_lines(verdicts, robustness),
        run_lines(runs),
        compute_lines(compute, academia),
        ["Expected ratings against true ones, with confidence intervals", *ratings] if ratings else [],
        notice_lines(notices),
        [f"Files: {', '.join(files)}."] if files else [],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def for_terminal(text: str, file: str | Path, most: int = TERMINAL_LINES) -> str:
    """Return the text with at most `most` lines of each section; the last one counts what `file` has more."""
    sections = []
    for section in text.split("\n\n"):
        lines = section.split("\n")
        more = len(lines) - most
        sections.append(
            "\n".join([*lines[:most], f"… and {more} more lines in {file}"] if more > 1 else lines)
        )
    return "\n\n".join(sections)


def notice_lines(notices: Sequence[Notice]) -> list[str]:
    """Return a heading with counts, and one line per notice, worst first; none without notices."""
    ordered = worst_first(notices)
    if not ordered:
        return []
    warnings = sum(notice.severity == "warning" for notice in ordered)
    counts = [counted(n, name) for n, name in ((warnings, "warning"), (len(ordered) - warnings, "note")) if n]
    return [f"What to know before you use these numbers: {' and '.join(counts)}", *map(_notice, ordered)]


def _notice(notice: Notice) -> str:
    where = ", ".join(
        f"{name} {value}"
        for name, value in (
            ("model", notice.model),
            ("checkpoint", notice.checkpoint),
            ("task", notice.task),
        )
        if value
    )
    label = f"{notice.severity:<7}  {notice.kind.replace('_', ' ')}"
    return f"{label}: {f'{where}: ' if where else ''}{notice.detail} {notice.remedy}".rstrip()


def _grid(metrics: pd.DataFrame) -> list[str]:
    cells = metrics[["model", "checkpoint", "task", "source"]].drop_duplicates()
    imported, fake = (int((cells["source"] == name).sum()) for name in ("imported", "fake"))
    grid = " × ".join(counted(cells[name].nunique(), name) for name in ("model", "checkpoint", "task"))
    scored = [counted(len(cells) - imported, "cell") + " scored"] if len(cells) > imported else []
    given = [f"{counted(imported, 'cell')} imported"] if imported else []
    warning = f"FAKE: {counted(fake, 'cell')} with made-up numbers (scoring.backend: fake), not results."
    return [*([warning] if fake else []), f"{', '.join(scored + given) or 'No cells'}: {grid}."]


def _outcome_lines(outcomes: pd.DataFrame) -> list[str]:
    if outcomes.empty:
        return []
    slopes = outcomes["slope"].notna().any()
    unit = "; slope [confidence interval] per tenfold training tokens" if slopes else ""
    rows = outcomes.to_dict("records")
    widths = {name: max(len(str(row[name])) for row in rows) for name in ("outcome", "task", "model")}
    return [f"{HEADING}{unit}", *(_outcome(row, widths) for row in rows)]


def _outcome(row: Mapping[Any, Any], widths: Mapping[str, int]) -> str:
    names = "  ".join(f"{row[name]!s:<{width}}" for name, width in widths.items())
    parts = [f"{row['metric']} {_number(row['first'])} → {_number(row['last'])}"]
    if row["first_checkpoint"] == row["last_checkpoint"]:
        parts = [f"{row['metric']} {_number(row['last'])} at {row['last_checkpoint']}"]
    elif row["best"] not in (row["first"], row["last"]) and row["best_checkpoint"]:
        parts.append(f"best {_number(row['best'])} at {row['best_checkpoint']}")
    if row["outcome"] == "got worse, then better":
        parts.append(f"worst {_number(row['worst'])} at {row['worst_checkpoint']}")
    if pd.notna(row["slope"]):
        parts.append(f"slope {row['slope']:+.2g} [{row['low']:.2g}, {row['high']:.2g}]")
    if row["evidence"] and not (row["low"] > 0 or row["high"] < 0):
        parts.append(row["evidence"])  # the slope alone does not show the change
    if pd.notna(row["minimum_detectable_drop"]) and row["outcome"] in ("undecided", "no change"):
        parts.append(f"detectable drop {row['minimum_detectable_drop']:.2g}")
    if row["outcome"] == "undecided" and row["reason"]:
        parts.append(str(row["reason"]))
    return f"{names}  {'; '.join(parts)}"


def run_lines(runs: pd.DataFrame | None) -> list[str]:
    """Return a heading and the sentences of a comparison of runs; none without one."""
    if runs is None or runs.empty:
        return []
    references = " and ".join(dict.fromkeys(runs["reference"]))
    return [f"Runs compared with {references}, over their last checkpoints", *runs["sentence"]]


def compute_lines(compute: pd.DataFrame | None, academia: pd.DataFrame | None) -> list[str]:
    """Return a heading, the growth of training compute by sector, and the share of academia; or none."""
    if compute is None or academia is None:
        return []
    sentences = [*growth_sentences(compute), *share_sentences(academia)]
    return ["Training compute of published models, with confidence intervals", *sentences]


def _number(value: float) -> str:
    return "unknown" if pd.isna(value) else f"{value:.3g}"


def _survival(robustness: pd.DataFrame | None) -> Mapping[tuple[str, str], str]:
    """Return under how many choices of the analysis "with size" holds, by task and metric."""
    rows = [] if robustness is None else robustness.to_dict("records")
    return {(row["task"], row["metric"]): f" ({row['survives']} choices)" for row in rows if row["survives"]}


def verdict_lines(verdicts: pd.DataFrame | None, robustness: pd.DataFrame | None = None) -> list[str]:
    """Return the verdicts of the regressions, by verdict; for those undecided, also the reason.

    Why a task has no regression is among the notices.
    """
    survival = _survival(robustness)
    if verdicts is None or verdicts.empty:
        return []
    several = set(verdicts.loc[verdicts["task"].duplicated(), "task"])
    names = [
        f"{row['task']} {row['metric']}" if row["task"] in several else str(row["task"])
        for row in verdicts.to_dict("records")
    ]
    table = verdicts.assign(name=names)
    sized = table["verdict"] == "ebbs with size"
    keys = zip(table["task"], table["metric"], strict=True)
    table["name"] += [
        survival.get(key, "") if is_sized else "" for key, is_sized in zip(keys, sized, strict=True)
    ]
    lines = ["Regression on model size and training tokens, all models together"]
    for verdict in ("ebbs with size", "ebbs", "rises"):
        found = table[table["verdict"] == verdict]["name"]
        if len(found):
            lines.append(f"{verdict}: {', '.join(found)}")
    without = table["why"].fillna("").str.startswith(NO_REGRESSION)
    if without.any():
        lines.append(f"{NO_REGRESSION}, for the reasons below: {', '.join(table[without]['name'])}")
    undecided = table[(table["verdict"] == "undecided") & ~without]
    for reason, rows in undecided.fillna({"why": ""}).groupby("why", sort=False):
        because = f" ({reason!s})".replace("summary.txt", "above") if reason else ""
        lines.append(f"undecided: {', '.join(rows['name'])}{because}")
    return lines
