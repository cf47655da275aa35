"""The report page: tables and figures of a study in one self-contained HTML file, with the answer first."""

import base64
import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ebbtide.metrics.chosen import drawn_metrics
from ebbtide.notices import counted
from ebbtide.report.page.answer import answer
from ebbtide.report.page.curves import chart, curve_data
from ebbtide.report.page.examples import flip_data
from ebbtide.report.page.images import data_uri, not_drawn
from ebbtide.report.page.lines import line_styles, mean_curves
from ebbtide.report.page.matrix import checkpoint_changes, model_matrix
from ebbtide.report.page.numbers import shown
from ebbtide.report.page.section import Section
from ebbtide.report.page.sections import sections_of
from ebbtide.report.page.texts import texts_of
from ebbtide.statistics.alarms.alarms import SEVERITIES
from ebbtide.titles import title

TEMPLATES = Path(__file__).parent / "templates"
MOST_ROWS = 60  # of a table on the page
MOST_NOTICES = 200


@dataclass(frozen=True)
class Page:
    """What a page is made of.

    Attributes
    ----------
    study
        Name of the study.
    metrics
        Rows of `tables.METRICS`; without any, the page has no curves, changes and examples.
    tables
        Name of a table without suffix → its rows, for those that the study has.
    followed
        `trajectories.metrics`.
    figures
        Name of a figure → its PNG file.
    captions
        Name of a figure → its caption, for readers who do not see it.
    lacking
        Name of a figure that the study cannot have → the reason.
    titles
        Task → title.
    flips
        Rows of flips.parquet.
    alpha
        Level of tests, `trajectories.alpha`.
    averaged
        Model whose checkpoints are averages → the model that they average.
    docs
        Where the documentation is, relative to the page; empty if it is not on this machine.
    place
        Path of the page below the working directory. A copy elsewhere has no links to `docs`.
    generated, kept
        Task that generates texts → whether it keeps them; rows of kept_texts.parquet.
    blurred
        Tasks of which examples that flipped are blurred.
    """

    study: str
    metrics: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    followed: Sequence[str]
    figures: Mapping[str, str]
    captions: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    flips: pd.DataFrame | None = None
    alpha: float = 0.05
    averaged: Mapping[str, str] = field(default_factory=dict)
    docs: str = ""
    lacking: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    generated: Mapping[str, bool] = field(default_factory=dict)
    kept: pd.DataFrame | None = None
    blurred: Sequence[str] = ()


def report_page(page: Page) -> str:
    """Return the page.

    All texts are escaped. The content security policy allows the scripts of the page alone, by their hashes;
    the charts compile expressions, so it must allow `eval`, which reaches no text of a task.
    """
    import vl_convert
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    tables = page.tables
    outcomes, alarms = tables["outcomes"], tables.get("alarms")
    curves, few_curves = curve_data(page.metrics, page.followed)
    changes, few_changes = checkpoint_changes(alarms)
    flips, few_flips = flip_data(page.flips, tables.get("flips"))
    sizes = pd.Series({name: model["parameters"] for name, model in curves["models"].items()}, dtype=float)
    seeds = tables.get("seed_curves")
    lines = line_styles(
        {name: model["parameters"] for name, model in curves["models"].items()}, seeds, page.averaged
    )
    data = {
        "study": page.study,
        "alpha": page.alpha,
        **curves,
        "matrix": model_matrix(outcomes, sizes),
        "changes": changes,
        "flips": flips,
        "main": drawn_metrics(page.metrics),
        "titles": {task: page.titles.get(task, title(task)) for task in page.metrics["task"].unique()},
        "lines": lines,
        "means": mean_curves(seeds, curves["models"]),
        "chart": chart(lines["names"]),
        "docs": page.docs,
        "place": page.place,
        "blurred": list(page.blurred),
    }
    sections = sections_of(tables)
    runtime = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub lacks the default
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    return environment.get_template("page.html.jinja").render(
        study=page.study,
        counts=_counts(page.metrics) if len(page.metrics) else "A study without models.",
        curves=bool(curves["curves"]),
        fake=int((page.metrics["source"] == "fake").sum()),
        answer=answer(outcomes, alarms, tables.get("run_sentences"), tables.get("compute_trends")),
        notices=_notices(tables.get("notices")),
        left_out=[text for text in (*few_curves, few_changes, few_flips, _few_notices(tables)) if text],
        sections=[_section(section, page) for section in sections],
        texts=texts_of(page.generated, page.kept, page.titles),
        outcomes=_table("outcomes", outcomes),
        files=_not_shown(sections, page),
        alpha=page.alpha,
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        data=Markup(_json(data)),
        runtime=Markup(runtime.replace("</script", "<\\/script")),
        script=Markup(script),
        hashes=[_hash(runtime.replace("</script", "<\\/script")), _hash(script)],
    )


def _counts(metrics: pd.DataFrame) -> str:
    cells = metrics[["model", "checkpoint", "task"]].drop_duplicates()
    parts = [counted(cells[name].nunique(), name) for name in ("model", "checkpoint", "task")]
    return f"{counted(len(cells), 'cell')}: {', '.join(parts)}."


def _few_notices(tables: Mapping[str, pd.DataFrame]) -> str:
    more = len(tables.get("notices", ())) - MOST_NOTICES
    return f"{counted(more, 'more notice')} in notices.tsv." if more > 0 else ""


def _notices(notices: pd.DataFrame | None) -> list[dict[str, Any]]:
    return [] if notices is None else notices.fillna("").to_dict("records")[:MOST_NOTICES]  # type: ignore[return-value]


def _section(section: Section, page: Page) -> dict[str, Any]:
    files = {name: page.figures[name] for name in _matching(section, page.figures)}
    lacking = {name: page.lacking[name] for name in _matching(section, page.lacking)}
    reasons = not_drawn(files, lacking)
    return {
        "name": section.name,
        "title": section.title,
        "result": section.result(page.tables),
        "figures": [
            {"name": name, "uri": data_uri(file), "caption": _caption(name, page.captions)}
            for name, file in files.items()
            if name not in reasons
        ],
        "empty": list(reasons.values()),
        "tables": [
            _table(name, page.tables[name])
            for name in section.tables
            if name in page.tables and len(page.tables[name])
        ],
        "method": section.method,
        "page": section.page,
    }


def _matching(section: Section, figures: Iterable[str]) -> list[str]:
    """Return the figures that match the section's patterns, in their order."""
    return [name for pattern in section.figures for name in fnmatch.filter(figures, pattern)]


def _not_shown(sections: Sequence[Section], page: Page) -> str:
    """Return a sentence for each kind of file of the study that is on no part of the page."""
    drawn = {name for section in sections for name in _matching(section, page.figures)}
    shown_in = {"outcomes", "notices", *(name for section in sections for name in section.tables)}
    rest = [name for name in page.tables if name not in shown_in]
    kinds = {
        "Tables": [f"{name}.tsv" for name in rest if len(page.tables[name])],
        "Empty tables": [f"{name}.tsv" for name, rows in page.tables.items() if rows.empty],
        "Figures": [f"figures/{name}.pdf" for name in page.figures if name not in drawn],
    }
    parts = [f"{kind}: {', '.join(names)}." for kind, names in kinds.items() if names]
    values = ["metrics.parquet, with all values."] if len(page.metrics) else []
    return f"In results/{page.study}: {' '.join([*values, *parts])}"


def _caption(name: str, captions: Mapping[str, str]) -> str:
    text = captions.get(name, title(name))
    return text[:1].upper() + text[1:]


def _table(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the head of a table as texts; columns that are empty throughout are left out."""
    if "severity" in rows and name == "alarms":  # alarms first: a head without one would hide them
        rank = rows["severity"].map({severity: -i for i, severity in enumerate(SEVERITIES)}).fillna(1)
        rows = rows.loc[rank.sort_values(kind="stable").index]
    head = rows.head(MOST_ROWS)
    columns = [column for column in rows if (rows[column].notna() & (rows[column] != "")).any()]
    return {
        "name": name,
        "columns": [str(column) for column in columns],
        "numeric": [pd.api.types.is_numeric_dtype(rows[column]) for column in columns],
        "rows": [
            [shown(value) for value in row] for row in head[columns].astype(object).itertuples(index=False)
        ],
        "count": counted(len(rows), "row"),
        "more": len(rows) - len(head),
        "empty": [str(column) for column in rows if column not in columns],
    }


def _json(data: object) -> str:
    """Return JSON that may be the text of a script element: nothing in it ends the element or is markup."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for character, escape in (
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        text = text.replace(character, escape)
    return text


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
