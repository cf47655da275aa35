"""Compare regressions with the values printed in a paper."""

from pathlib import Path

import pandas as pd

from ebbtide.errors import ConfigError, first_line, nearest
from ebbtide.statistics.regression.design import TERMS

REQUIRED = ("task", "term", "t")


def read_published(path: str | Path) -> pd.DataFrame:
    """Read a TSV of printed values: columns task, term, t, and metric if a task has several.

    Lines that begin with # are comments; other columns are ignored. Raises `ConfigError` for an invalid file.
    """
    try:
        table = pd.read_csv(path, sep="\t", comment="#")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:  # parser errors are ValueErrors
        raise ConfigError(f"{path} cannot be read as a table ({first_line(error)}).") from None
    for column in REQUIRED:
        if column not in table:
            found = ", ".join(map(str, table.columns))
            raise ConfigError(f"{path}: column {column!r} is missing (found: {found}).")
    wrong = pd.to_numeric(table["t"], errors="coerce").isna()
    if wrong.any():
        row = table[wrong].iloc[0]
        raise ConfigError(f"{path}: task {row['task']}, {row['term']}: t is {row['t']}; allowed: a number.")
    return table.astype({"t": float})


def with_published(regressions: pd.DataFrame, published: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the regressions with a column `t_published`, empty where the paper prints no value.

    Rows are joined by task and term, and by metric if the published table has that column. `source` is its
    path, for error messages. Raises `ConfigError` for a row without a matching regression, or a duplicate
    row.
    """
    keys = ["task", "metric", "term"] if "metric" in published else ["task", "term"]
    tasks = list(map(str, regressions["task"].unique()))
    allowed = {"task": tasks, "term": list(TERMS), "metric": sorted(map(str, regressions["metric"].unique()))}
    for key in keys:
        for name in map(str, published[key].unique()):
            if name not in allowed[key]:
                raise ConfigError(
                    f"{source}: {key}: found {name!r}; allowed: {', '.join(allowed[key])}"
                    f"{nearest(name, allowed[key]) or '.'}"
                )
    twice = published[published.duplicated(keys)]
    if len(twice):
        row = ", ".join(str(twice.iloc[0][key]) for key in keys)
        raise ConfigError(f"{source}: found two rows for {row}; allowed: one.")
    several = regressions.groupby("task")["metric"].nunique()
    for task in published["task"].unique() if "metric" not in published else ():
        if several[task] > 1:
            raise ConfigError(
                f"{source}: task {task} has several metrics in this study; add a column metric."
            )
    printed = published[[*keys, "t"]].rename(columns={"t": "t_published"})
    joined = regressions.merge(printed, how="left", on=keys, validate="one_to_one")
    if joined["t_published"].notna().sum() < len(printed):
        rows = printed.merge(regressions[keys], on=keys, how="left", indicator=True)
        lost = rows[rows["_merge"] == "left_only"].iloc[0]
        raise ConfigError(
            f"{source}: the study has no regression {', '.join(str(lost[key]) for key in keys)}."
        )
    return joined
