"""The values of a paper: every number, setting, table and sentence that its text prints, from the tables."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ebbtide.metrics.chosen import drawn_metrics
from ebbtide.metrics.direction import direction_of
from ebbtide.metrics.registry import METRICS
from ebbtide.notices import KINDS, SEVERITIES, counted
from ebbtide.report.page.answer import answer
from ebbtide.report.paper.sections import section_values
from ebbtide.report.paper.sheets import Tables
from ebbtide.statistics.panel import in_training_order
from ebbtide.study.arms import short_number
from ebbtide.titles import abilities, in_words, title

# Tables with a row for each combination of these columns, whose other columns are values of their own.
KEYS = {
    "outcomes": ("task", "metric", "model"),
    "verdicts": ("task", "metric"),
    "regressions": ("task", "metric", "term"),
    "robustness_verdicts": ("task", "metric"),
    "run_verdicts": ("arm", "task", "suite", "size", "metric"),
    "proxies": ("task", "metric", "proxy"),
}


@dataclass(frozen=True)
class Content:
    """What the values of a paper are made of.

    Attributes
    ----------
    study
        Name of the study.
    config
        Sections of the checked configuration, with defaults: `paper`, `titles`, and those of the analysis.
    metrics
        Rows of `tables.METRICS`.
    tables
        Name of a table without suffix → its rows, for those that the study has.
    figures
        Name of a figure → its caption.
    version
        Of Ebbtide.
    not_drawn
        Name of a figure that is not drawn → a sentence with the reason; see `page.images.not_drawn`.
    """

    study: str
    config: Mapping[str, Any]
    metrics: pd.DataFrame
    tables: Tables
    figures: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    not_drawn: Mapping[str, str] = field(default_factory=dict)


def paper_values(content: Content) -> dict[str, Any]:
    """Return the values: tables, lists, texts, integers and floats, nested by name; None is unknown.

    `paper` is the section of the configuration, `grid` has counts and ranges, `models` and `tasks` have a row
    each, `settings` are the sections of the configuration as they were used, `sections` the results that the
    study has (`sections.section_values`), `limits` the notices by kind, and `values` every row of the tables
    `KEYS` by its key, such as `values.verdicts.memo_trap.accuracy.change`; unknown values are left out.
    """
    metrics, tables, config = content.metrics, content.tables, content.config
    titles = config["titles"]
    names = {task: titles.get(task, title(task)) for task in metrics["task"].unique()}
    chosen = drawn_metrics(metrics, config["regression"]["metric"], config["regression"]["metrics"])
    titled = {name: _titled(table, names) for name, table in tables.items()}
    sizes = _sizes(metrics, config["regression"]["parameters"])
    sections = section_values(
        titled,
        abilities(chosen, titles),
        tables["regressions"],
        config=config,
        figures=content.figures,
        not_drawn=content.not_drawn,
        sizes=sizes,
    )
    return {
        "study": content.study,
        "version": content.version,
        "paper": {name: value for name, value in config["paper"].items() if name != "template"},
        "grid": _grid(metrics, sizes),
        "models": _models(metrics, sizes),
        "tasks": _tasks(metrics, chosen, names),
        "settings": {name: config[name] for name in config if name not in ("paper", "titles")},
        "answer": answer(titled["outcomes"], titled.get("alarms"), titled.get("run_sentences")),
        "sections": sections,
        "limits": _limits(tables.get("notices"), _words(metrics, names, config)),
        "values": {
            name: _by_key(tables[name], key)
            for name, key in KEYS.items()
            if name in tables and len(tables[name])
        },
    }


def _titled(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Return a table with the display names of tasks."""
    if "task" not in table:
        return table
    return table.assign(task=[names.get(task, task) for task in table["task"].fillna("")])


def _sizes(metrics: pd.DataFrame, parameters: str) -> pd.Series:
    """Return the parameters of each model as the regression counts them; 0 is unknown."""
    return metrics.groupby("model", sort=False)[f"parameters_{parameters}"].max().clip(lower=0)


def _grid(metrics: pd.DataFrame, sizes: pd.Series) -> dict[str, Any]:
    cells = metrics[["model", "checkpoint", "task", "source"]].drop_duplicates()
    sources, tokens = cells["source"].value_counts(), metrics["tokens"]
    imported, fake = (int(sources.get(name, 0)) for name in ("imported", "fake"))
    known, trained = sizes[sizes > 0], tokens[tokens > 0]
    return {
        "cells": len(cells),
        "scored": len(cells) - imported - fake,
        "imported": imported,
        "fake": fake,
        "models": cells["model"].nunique(),
        "checkpoints": len(cells[["model", "checkpoint"]].drop_duplicates()),
        "tasks": cells["task"].nunique(),
        "smallest": _short(known.min() if len(known) else 0),
        "largest": _short(known.max() if len(known) else 0),
        "first_tokens": _short(trained.min() if len(trained) else 0),
        "last_tokens": _short(trained.max() if len(trained) else 0),
    }


def _short(count: float) -> str | None:
    return short_number(int(count)) if count > 0 else None


def _models(metrics: pd.DataFrame, sizes: pd.Series) -> list[dict[str, Any]]:
    rows = []
    for model, of in metrics.groupby("model", sort=False):
        checkpoints = in_training_order(of.drop_duplicates("checkpoint"))
        rows.append(
            {
                "name": str(model),
                "parameters": _short(sizes[model]),
                "checkpoints": len(checkpoints),
                "first": str(checkpoints["checkpoint"].iloc[0]),
                "last": str(checkpoints["checkpoint"].iloc[-1]),
                "tokens": _short(checkpoints["tokens"].max()),
            }
        )
    return sorted(rows, key=lambda row: float(sizes[row["name"]]))


def _tasks(
    metrics: pd.DataFrame, chosen: Mapping[str, Sequence[str]], names: Mapping[str, str]
) -> list[dict[str, Any]]:
    rows = []
    for task, of_task in metrics.groupby("task", sort=False):
        for metric in chosen.get(str(task), []):
            of = of_task[of_task["metric"] == metric]
            chance = of["chance"].dropna()
            rows.append(
                {
                    "name": str(task),
                    "title": names[str(task)],
                    "metric": metric,
                    "direction": direction_of(metric),
                    "examples": int(of["n"].max()) if (of["n"] > 0).any() else None,
                    "chance": float(chance.iloc[-1]) if len(chance) else None,
                }
            )
    return rows


def _words(metrics: pd.DataFrame, names: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, str]:
    """Return what readers know by other words: names of tasks and metrics with an underscore, and keys."""
    known = {str(name): in_words(str(name)) for name in (*METRICS, *metrics["metric"].unique())}
    known |= names
    keys = {
        f"{section}.{key}": in_words(key)
        for section, settings in config.items()
        if isinstance(settings, Mapping)
        for key in settings
    }
    return {code: words for code, words in known.items() if "_" in code} | keys


def _limits(notices: pd.DataFrame | None, words: Mapping[str, str]) -> dict[str, Any]:
    """Return the notices by severity and kind, with the first of each as an example.

    What the study does not use is no limit of its numbers, and left out. So are weights that were deleted
    after scoring, also because a bundle never has them: a paper made from one has the same bytes.
    """
    rows = pd.DataFrame(columns=["severity", "kind", "detail"]) if notices is None else notices
    rows = rows[~rows["kind"].isin(["unused", "reused"])]
    kinds = [
        {
            "severity": severity,
            "kind": str(kind).replace("_", " "),
            "meaning": KINDS.get(str(kind), str(kind)),
            "notices": len(of),
            "example": _example(str(of["detail"].iloc[0]), words),
            "about": _said(_about(of.iloc[0]), words),
        }
        for severity in SEVERITIES
        for kind, of in rows[rows["severity"] == severity].groupby("kind", sort=False)
    ]
    return {
        "warnings": int((rows["severity"] == "warning").sum()),
        "notes": int((rows["severity"] == "note").sum()),
        "counts": counted(len(rows), "notice"),
        "kinds": kinds,
    }


def _example(detail: str, words: Mapping[str, str]) -> str:
    """Return a notice without the key of the configuration at its beginning: a paper has no such file."""
    said = _said(re.sub(r"^\w+\[\d+\](\.\w+)*: ", "", detail), words)
    return said[:1].upper() + said[1:]


def _said(text: str, words: Mapping[str, str]) -> str:
    """Return a text with words in the place of code names; names of files stay."""
    if not words:
        return text
    longest_first = "|".join(re.escape(code) for code in sorted(words, key=len, reverse=True))
    return re.sub(rf"(?<![\w.])({longest_first})(?![\w]|\.\w)", lambda found: words[found[1]], text)


def _about(notice: "pd.Series[Any]") -> str:
    places = [notice.get(name) for name in ("model", "checkpoint", "task")]
    return ", ".join(str(place) for place in places if isinstance(place, str) and place)


def _by_key(table: pd.DataFrame, key: Sequence[str]) -> dict[str, Any]:
    """Return the rows of a table as nested mappings; empty parts of a key are left out."""
    found: dict[str, Any] = {}
    for row in table.to_dict("records"):
        parts = [str(row[name]) for name in key if name in row and pd.notna(row[name]) and row[name] != ""]
        place = found
        for part in parts:
            place = place.setdefault(part, {})
        known = {str(name): value for name, value in row.items() if pd.notna(value) and value != ""}
        place |= {name: value for name, value in known.items() if name not in key}
    return found
