"""The browsable table of forgotten examples: one self-contained HTML file."""

import base64
import hashlib
from pathlib import Path

import pandas as pd

from ebbtide.statistics.forgetting.tables import RIGHT, WRONG

TEMPLATES = Path(__file__).parent / "templates"


def forgotten_page(examples: pd.DataFrame, summary: pd.DataFrame, study: str, rows: int) -> str:
    """The page, with at most `rows` examples per task, those forgotten by most models first.

    All text is escaped, and the page's content security policy allows a single script, by its hash, so that
    the text of a task cannot run.
    """
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    script = (TEMPLATES / "forgotten_examples.js").read_text(encoding="utf-8")
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    listed = examples.groupby("task", sort=False).head(rows)
    streaks = sorted({int(streak) for streak in summary["streak"].dropna()})
    return environment.get_template("forgotten_examples.html.jinja").render(
        study=study,
        streak=" or ".join(map(str, streaks)),
        rows=list(listed.itertuples()),
        tasks=list(examples["task"].drop_duplicates()),
        omitted=_omitted(examples, summary, rows),
        right=RIGHT,
        wrong=WRONG,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _omitted(examples: pd.DataFrame, summary: pd.DataFrame, rows: int) -> str:
    """Return what is not in the table, and why."""
    without = summary[summary["streak"].isna()]
    listed = [
        f"{'; '.join(of['task'].dropna().unique())}: {why}."
        for why, of in without.groupby("note", sort=False)
    ]
    left_out = " ".join(["Left out:", *listed]) if listed else ""
    return f"{_listed(examples, summary, rows)} {left_out}".strip()


def _listed(examples: pd.DataFrame, summary: pd.DataFrame, rows: int) -> str:
    if summary["streak"].isna().all():
        return "No task could be followed."
    if examples.empty:
        return "No example was forgotten."
    counts = examples.groupby("task", sort=False).size()
    more = [f"{count - rows} of {task}" for task, count in counts.items() if count > rows]
    if not more:
        return "All forgotten examples are listed."
    return (
        f"At most {rows} per task are listed; the others ({', '.join(more)}) are in forgotten_examples.tsv."
    )
