"""Tidy table of training runs: one row per run and quantity."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import ScalingError
from ebbtide.statistics.compute import compute
from ebbtide.tables import INTEGER, REAL, TEXT, Schema

RUNS = Schema(
    kind="runs",
    columns={
        "train_set": TEXT,
        "model": TEXT,
        "parameters": INTEGER,  # N, as counted by the law
        "tokens": INTEGER,  # D
        "M": REAL,  # nominal tokens per parameter, the label of the run; D/N up to rounding
        "C": REAL,  # 6ND, FLOPs
        "quantity": TEXT,  # loss_… in nats per token, err_… = 1 − accuracy
        "value": REAL,
    },
    key=("train_set", "model", "M", "quantity"),
    remedy="delete the file and run snakemake",
)
RUN_KEY = ["train_set", "model", "M"]
LOSS_PREFIX, ERROR_PREFIX = "loss_", "err_"
_M_TOLERANCE = 0.25  # relative, of D/N around M: small models train on whole batches


def make_runs(rows: Sequence[Mapping[str, Any]] | pd.DataFrame, where: str = "runs") -> pd.DataFrame:
    """Make the table from rows of train_set, model, parameters, tokens, M, quantity, value; C is 6ND.

    Raises `ScalingError` for a missing column, and like `validate_runs`. `where` is named in messages.
    """
    frame = pd.DataFrame(rows)
    missing = [name for name in RUNS.columns if name not in frame and name != "C"]
    if missing:
        raise ScalingError(
            f"{where}: column {missing[0]!r} is missing (found: {', '.join(map(str, frame))})."
        )
    frame = frame.assign(
        C=compute(frame["parameters"].astype(float), frame["tokens"].astype(float)),
        M=frame["M"].astype(float),
        value=frame["value"].astype(float),
    )[list(RUNS.columns)]
    order = ["train_set", "C", "model", "quantity"]
    validate_runs(frame, where)
    return frame.sort_values(order, ignore_index=True, kind="stable")


def validate_runs(runs: pd.DataFrame, where: str = "runs") -> None:
    """Raise `ScalingError` for duplicate runs, missing numbers, or impossible values."""
    if runs.empty:
        raise ScalingError(f"{where}: no runs.")
    for name in ("parameters", "tokens", "M", "value"):
        _refuse(runs, ~runs[name].astype(float).abs().lt(float("inf")), where, name, "a finite number")
    for name in ("parameters", "tokens", "M"):
        _refuse(runs, runs[name] <= 0, where, name, "above 0")
    loss = runs["quantity"].str.startswith(LOSS_PREFIX)
    error = runs["quantity"].str.startswith(ERROR_PREFIX)
    _refuse(runs, ~(loss | error), where, "quantity", f"{LOSS_PREFIX}… or {ERROR_PREFIX}…")
    _refuse(runs, loss & (runs["value"] <= 0), where, "value", "a loss above 0")
    _refuse(runs, error & ~runs["value"].between(0, 1), where, "value", "an error between 0 and 1")
    ratio = runs["tokens"] / runs["parameters"] / runs["M"]
    _refuse(runs, (ratio - 1).abs() > _M_TOLERANCE, where, "M", "tokens per parameter, D/N")
    twice = runs.duplicated(list(RUNS.key))
    if twice.any():
        row = runs[twice].iloc[0]
        raise ScalingError(
            f"{where}: {row['train_set']} {row['model']} at M = {row['M']:g} has {row['quantity']} twice; "
            "each run may count once."
        )


def select(runs: pd.DataFrame, rows: Sequence[Mapping[str, Any]], where: str = "fit") -> pd.DataFrame:
    """Return the runs of `rows`, each {models, M}: models at M tokens per parameter; without M, at any.

    Raises `ScalingError` if a model of a row has no such run.
    """
    parts = []
    for number, row in enumerate(rows):
        for model in row["models"]:
            found = runs[runs["model"] == model]
            if "M" in row:
                found = found[np.isclose(found["M"], row["M"])]
            if found.empty:
                known = ", ".join(sorted(runs["model"].unique()))
                at = f" at M = {row['M']:g}" if "M" in row else ""
                raise ScalingError(
                    f"{where}[{number}]: found no run of {model!r}{at}; allowed models: {known}."
                )
            parts.append(found)
    chosen: pd.DataFrame = pd.concat(parts).drop_duplicates(list(RUNS.key))
    return chosen


def wide(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run and one column per quantity, sorted by train set and compute."""
    index = ["train_set", "model", "parameters", "tokens", "M", "C"]
    table = runs.pivot(index=index, columns="quantity", values="value").reset_index()
    table.columns.name = None
    return table.sort_values(["train_set", "C"], ignore_index=True, kind="stable")


def _refuse(runs: pd.DataFrame, wrong: "pd.Series[bool]", where: str, column: str, allowed: str) -> None:
    if wrong.any():
        row = runs[wrong].iloc[0]
        raise ScalingError(
            f"{where}: {row['train_set']} {row['model']} at M = {row['M']:g}, {row['quantity']}: {column} is "
            f"{row[column]}; allowed: {allowed}."
        )
