"""Notices of the compute trend: models left out, uncertain values, and shares that robust weights move."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ebbtide.notices import Notice, counted, listed
from ebbtide.statistics.compute_trends.academia import collapsed
from ebbtide.statistics.compute_trends.models import NO_COMPUTE, NO_DATE, NO_SECTOR, used
from ebbtide.statistics.compute_trends.timeline import unexpected

ROUNDING = 5e-4  # of printed shares
IN_TREND = "in no line, doubling time or share"
REMEDIES = {
    NO_COMPUTE: "The trends are those of models whose compute is known.",
    NO_DATE: "",
    NO_SECTOR: "",
}


def notices(tables: Mapping[str, pd.DataFrame]) -> Iterator[Notice]:
    """Yield what readers of `compute_models, compute_trends, academia, timeline` should know."""
    rows = tables["compute_models"].fillna({"reason": "", "confidence": "", "sector": ""})
    yield from _left_out(rows)
    yield from _repeated(rows)
    yield from _uncertain(used(rows))
    for row in tables["compute_trends"].fillna({"note": ""}).to_dict("records"):
        if row["note"]:
            models = int(row["n"])
            detail = f"compute_trends.tsv, {row['sector']} ({counted(models, 'model')}): {row['note']}."
            yield Notice("note", "not_compared", detail, count=models)
    if tables["academia"].empty:
        detail = "There are too few models for a share of academia, so academia.tsv is empty."
        yield Notice("note", "not_compared", detail, "Widen compute_trends.since and before.")
    yield from _impossible(tables["academia"])
    for curve in collapsed(tables["academia"]):
        yield _moved(curve)
    yield from _timeline(tables["timeline"].fillna({"reason": ""}))


def _left_out(models: pd.DataFrame) -> Iterator[Notice]:
    for reason, rows in models[models["reason"] != ""].groupby("reason", sort=False):
        detail = (
            f"{len(rows)} of {len(models)} models of the table are {IN_TREND}: {reason} "
            f"({listed(rows['model'])})."
        )
        remedy = REMEDIES.get(str(reason), "Set compute_trends.since and before to use other days.")
        yield Notice("note", "dropped", detail, remedy, count=len(rows))


def _repeated(models: pd.DataFrame) -> Iterator[Notice]:
    again = models[models["model"].duplicated()]
    if len(again):
        detail = (
            f"{counted(len(again), 'row')} of the table have the name of another: {listed(again['model'])}."
        )
        yield Notice("warning", "duplicated", detail, "Each counts as a model.", count=len(again))


def _uncertain(rows: pd.DataFrame) -> Iterator[Notice]:
    counts = rows["confidence"].replace("", "not given").value_counts()
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    unsure = int(counts.drop("Confident", errors="ignore").sum())
    if unsure:
        detail = f"The compute of {unsure} of {len(rows)} models is not a confident estimate ({words})."
        yield Notice("note", "suspicious", detail, "Intervals do not contain this error.", count=unsure)


def _impossible(academia: pd.DataFrame) -> Iterator[Notice]:
    out = academia[~academia["share"].between(-ROUNDING, 1 + ROUNDING)]
    if len(out):
        worst = out.iloc[int((out["share"] - 0.5).abs().to_numpy().argmax())]
        detail = (
            f"academia.tsv: {len(out)} of {len(academia)} shares are outside of 0 to 1, by at most "
            f"{abs(worst['share'] - 0.5) - 0.5:.3f} (rule {worst['rule']!r}, {worst['iterations']} "
            f"robustness iterations, {worst['date']}); the local lines of LOWESS know no limits."
        )
        yield Notice("warning", "out_of_range", detail, "Read them as 0 or 1.", count=len(out))


def _moved(curve: Mapping[Any, Any]) -> Notice:
    detail = (
        f"academia.tsv, rule {curve['rule']!r}: with {curve['iterations']} robustness iterations, the share "
        f"on {curve['date']} is {curve['share']:.2f}, without them {curve['plain']:.2f}; robust weights "
        "treat the rarer answer of a 0/1 response as outliers."
    )
    return Notice("warning", "suspicious", detail, "Use the rows with 0 iterations.")


def _timeline(table: pd.DataFrame) -> Iterator[Notice]:
    out = table[~table["shown"].astype(bool)]
    if len(out):
        words = "; ".join(f"{row['name']}: {row['reason']}" for row in out.to_dict("records"))
        yield Notice("note", "dropped", f"The timeline does not show {words}.", count=len(out))
    further = unexpected(table)
    if further:
        detail = f"The timeline shows {listed(further)}, not in compute_trends.timeline.published."
        remedy = "Add it there, or to exclude with a reason."
        yield Notice("note", "suspicious", detail, remedy, count=len(further))
