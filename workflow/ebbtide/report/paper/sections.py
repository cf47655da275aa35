"""Results of a paper, section by section: sentences, figures and a table, as far as the study has them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from ebbtide.notices import counted
from ebbtide.report.page.sections import sections_of
from ebbtide.report.paper.sheets import UNKNOWN, Tables, number, sheet_values
from ebbtide.report.summary import verdict_lines
from ebbtide.statistics.regression import TERMS, caption, paper_table
from ebbtide.statistics.regression.paper import HEADINGS
from ebbtide.titles import Ability, in_words

MOST_MODELS = 8  # columns of the matrix of changes


def section_values(
    tables: Tables,
    found: Sequence[Ability],
    regressions: pd.DataFrame,
    *,
    config: Mapping[str, Any],
    figures: Mapping[str, str],
    not_drawn: Mapping[str, str],
    sizes: pd.Series,
) -> dict[str, Any]:
    """Return the sections of results by name, in the order of the paper.

    Each has `title`, `result` (sentences), `figures` (`name`, `caption`), `not_drawn` (a sentence for each
    figure that it lacks), and may have a `table`: `headings`, `rows` of texts, `about`, and `more`, the
    number of rows that are only in `file`. The section `regression` has the rows of `paper_table` (`cells`,
    or the reason in `note`) and the sentences of its caption.

    Parameters
    ----------
    tables
        Tables with display names of tasks.
    found
        Abilities of the regressions.
    regressions
        Rows of regressions.tsv with the names of tasks that `found` has.
    config
        The configuration.
    figures
        Name → caption.
    not_drawn
        Name of a figure that is not drawn → the reason, a sentence.
    sizes
        Parameters by model.
    """
    values: dict[str, Any] = {"change": _changes(tables["outcomes"], sizes)}
    if len(regressions):
        values["regression"] = _regression(regressions, found, config["regression"])
    for section in sections_of(tables):
        names = [*section.figures, *_FURTHER_FIGURES.get(section.name, ())]
        result = RESULTS.get(section.name, section.result)
        values[section.name] = {
            "title": section.title,
            "result": result(tables),
            "figures": [
                {"name": name, "caption": _sentence(CAPTIONS.get(name, text))}
                for name, text in figures.items()
                if name not in not_drawn and _is_one_of(name, names)
            ],
            "not_drawn": [text for name, text in not_drawn.items() if _is_one_of(name, names)],
            **sheet_values(section.name, tables),
        }
    return values


# Captions of figures that the register describes by another one.
CAPTIONS = {"paper": "metrics over training tokens, a panel per task and metric, a line per model"}
# Figures whose names are known only when a study is read, by the beginning of their names.
_FURTHER_FIGURES = {
    "scale_trends": ("scale_",),
    "predictions": ("scaling_laws", "scaling_error", "scaling_relative_error"),
}


def _is_one_of(name: str, names: Sequence[str]) -> bool:
    return any(name == wanted or (wanted.endswith("_") and name.startswith(wanted)) for wanted in names)


def _sentence(text: str) -> str:
    words = text[:1].upper() + text[1:]
    return words if words.endswith(".") else f"{words}."


def _changes(outcomes: pd.DataFrame, sizes: pd.Series) -> dict[str, Any]:
    """Return the change of every task over training, a column per model in the order of size."""
    models = sizes.reindex(outcomes["model"].unique()).fillna(0).sort_values(kind="stable").index
    shown = [str(model) for model in models[-MOST_MODELS:]]
    rows = []
    for (task, metric), of in outcomes.groupby(["task", "metric"], sort=False):
        by_model = {str(row["model"]): row for row in of.to_dict("records")}
        cells = [_change(by_model.get(model)) for model in shown]
        said = [str(by_model[model]["outcome"]) if model in by_model else "" for model in shown]
        rows.append({"task": str(task), "metric": in_words(str(metric)), "cells": cells, "outcomes": said})
    return {"models": shown, "left_out": len(models) - len(shown), "rows": rows}


def _change(row: Mapping[Any, Any] | None) -> str:
    """Return last minus first; a dash for a model without the task, or with one checkpoint."""
    if row is None or row["first_checkpoint"] == row["last_checkpoint"]:
        return UNKNOWN
    return number(row["last"] - row["first"], 2)


def _regression(
    regressions: pd.DataFrame, found: Sequence[Ability], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the regression table of `table.tex`."""
    table = paper_table(regressions, found, settings["alpha"])
    rows = []
    for row in table.to_dict("records"):
        if not row["tokens"]:
            rows.append({"task": row["task"], "note": row["parameters"]})
        else:
            rows.append(
                {
                    "task": row["task"],
                    "cells": [row[term] for term in TERMS],
                    "significant": list(row["significant"]),
                }
            )
    sentences = caption(regressions, settings, settings["alpha"])
    return {
        "headings": list(HEADINGS),
        "tests": int(regressions["t"].notna().sum()),
        "significant": int((regressions["p_adjusted"] < settings["alpha"]).sum()),
        "caption": [text.format(mark="bold") for text in sentences],
        "rows": rows,
    }


def _verdicts(tables: Tables) -> list[str]:
    """Return the verdicts in words; a table has the rest."""
    lines = verdict_lines(tables["verdicts"])[1:]
    return [f"{line[:1].upper()}{line[1:]}.".replace("regression.alpha ", "the level ") for line in lines]


def _robustness(tables: Tables) -> list[str]:
    rows = tables["robustness_verdicts"]
    known = rows[rows["base"].fillna("") != ""]
    counts = [str(text).split(" of ") for text in known["survives"]]
    whole = sum(len(parts) == 2 and parts[0] == parts[1] for parts in counts)
    return [f"{whole} of {counted(len(known), 'verdict')} on the interaction hold under every choice."]


RESULTS: Mapping[str, Callable[[Tables], list[str]]] = {
    "verdicts": _verdicts,
    "robustness_verdicts": _robustness,
}
