"""The timeline of large models: all in a range of sizes, but those excluded with a reason."""

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from ebbtide.errors import ConfigError, nearest

COLUMNS = ("name", "model", "date", "parameter_count", "organization", "published", "shown", "reason")
WHERE = "compute_trends.timeline"


def timeline(models: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Return the models of the timeline, those excluded, and those that a paper shows but the table lacks.

    Parameters
    ----------
    models
        Rows of `models.COLUMNS`.
    settings
        `since` and `before` (ISO days), and `timeline`: `parameters` (least and most), `exclude` (model →
        reason), `published` (name in the paper → model, or null if the table does not have it).

    Returns
    -------
    One row per model, by date: `COLUMNS`.

    Raises
    ------
    ConfigError
        `exclude` or `published` names a model that the table does not have.
    """
    chosen: Mapping[str, Any] = settings["timeline"]
    published: Mapping[str, str | None] = chosen["published"]
    names = {model: name for name, model in published.items() if model is not None}
    for key, wanted in (("exclude", chosen["exclude"]), ("published", names)):
        _check_names(wanted, list(models["model"]), f"{WHERE}.{key}")
    least, most = chosen["parameters"]
    dated = (models["date"] >= settings["since"]) & (models["date"] < settings["before"])
    rows = models[dated & models["parameter_count"].between(least, most) | models["model"].isin(list(names))]
    reasons = [
        chosen["exclude"].get(model, "" if inside else "outside of the range of sizes or days")
        for model, inside in zip(
            rows["model"], dated[rows.index] & rows["parameter_count"].between(least, most), strict=True
        )
    ]
    found = rows.assign(
        name=rows["model"].map(lambda model: names.get(model, model)),
        published=rows["model"].isin(list(names)),
        reason=reasons,
        shown=[not reason for reason in reasons],
    )
    absent = [
        {"name": name, "published": True, "shown": False, "reason": "not in the table"}
        for name, model in published.items()
        if model is None
    ]
    lacking = pd.DataFrame(absent, columns=list(COLUMNS)).astype(found[list(COLUMNS)].dtypes)
    rows_of_both: pd.DataFrame = pd.concat([found[list(COLUMNS)], lacking], ignore_index=True)
    return rows_of_both


def unexpected(table: pd.DataFrame) -> list[str]:
    """Return the models that the timeline shows and `published` does not name, if it names any."""
    named = table["published"].astype(bool)
    return [] if not named.any() else list(table.loc[table["shown"].astype(bool) & ~named, "name"])


def _check_names(wanted: Collection[str], found: list[str], where: str) -> None:
    for name in wanted:
        if name not in found:
            raise ConfigError(
                f"{where}: found {name!r}, which is not a model of the table"
                f"{nearest(name, found) or '; allowed: a name in its column Model.'}"
            )
