"""Slopes of the largest against the smallest size, per task and arm."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.replicates import Place, common_sizes, replicates
from ebbtide.statistics.runs.pairs import NotComparable
from ebbtide.statistics.trends.seeds import size_difference
from ebbtide.statistics.trends.trends import MetricTrend, slope_of

COLUMNS = (
    *("task", "metric", "smallest", "largest", "n", "slope_smallest", "slope_largest"),
    *("difference", "low", "high", "p", "p_adjusted", "note"),
    *("arm", "runs_smallest", "runs_largest", "source_of_noise"),
)


def difference_table(
    trends: Sequence[MetricTrend], alpha: float = 0.05, places: Mapping[str, Place] | None = None
) -> pd.DataFrame:
    """Slope of the largest minus that of the smallest size, per task, metric and arm; columns `COLUMNS`.

    A size is one model, or the mean over the runs of the recipe that has the most: then the error includes
    seeds, and `source_of_noise` says which noise it contains. Two single models share their bootstrap draws,
    so the interval is that of the paired difference. Models of unknown size are ignored; tasks with a single
    size have no row.

    Parameters
    ----------
    trends
        Trends of all models, without averages of checkpoints.
    places
        Model → arm and size (`replicates.places_of_study`). Models without an arm are compared together.
    """
    places = places or {}
    recipes = replicates(places)
    groups: dict[tuple[str, str, str], list[MetricTrend]] = {}
    for one in trends:
        if one.parameters > 0:
            arm = places[one.model].stated_arm if one.model in places else ""
            groups.setdefault((one.task, one.metric, arm), []).append(one)
    rows = []
    for (task, metric, arm), models in groups.items():
        sizes = common_sizes({one.model: one.parameters for one in models}, places)
        if len(set(sizes.values())) < 2:
            continue
        ordered = sorted(models, key=lambda one: one.model)
        ends = [
            [one for one in ordered if sizes[one.model] == size]
            for size in (min(sizes.values()), max(sizes.values()))
        ]
        small, large = _of_most_runs(ends[0], recipes), _of_most_runs(ends[1][::-1], recipes)
        rows.append(
            {
                "task": task,
                "metric": metric,
                "smallest": small[0],
                "largest": large[0],
                "n": len(small[1][0].examples),
                "slope_smallest": _mean(small[1]),
                "slope_largest": _mean(large[1]),
                "arm": arm,
                **(_of_sizes if len(small[1]) + len(large[1]) > 2 else _of_models)(small, large, alpha),
            }
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["p_adjusted"] = adjusted(table["p"].to_numpy(dtype=float), "holm")
    return table


_Size = tuple[str, list[MetricTrend]]  # name of a size, and its runs


def _of_most_runs(models: Sequence[MetricTrend], recipes: Mapping[str, str]) -> _Size:
    """Of models of one size, return the recipe with the most runs, or else the first model."""
    runs: dict[str, list[MetricTrend]] = {}
    for one in models:
        runs.setdefault(recipes.get(one.model, one.model), []).append(one)
    name = max(runs, key=lambda one: len(runs[one]))
    return name if len(runs[name]) > 1 else runs[name][0].model, sorted(runs[name], key=lambda one: one.model)


def _of_models(small: _Size, large: _Size, alpha: float) -> dict[str, object]:
    [one], [other] = small[1], large[1]
    note, none = next(iter(_without_slope([one, other])), ""), np.zeros(0)
    if not note and not np.array_equal(one.examples, other.examples):
        note = "the models were not scored on the same examples"
    change, drawn = (none, none) if note else (other.slopes - one.slopes, other.drawn - one.drawn)
    found, low, high, p = slope_of(change, drawn, one.clusters, alpha)
    return {"difference": found, "low": low, "high": high, "p": p, "note": note, "source_of_noise": ""}


def _of_sizes(small: _Size, large: _Size, alpha: float) -> dict[str, object]:
    sloped = [(name, [one for one in runs if len(one.slopes)]) for name, runs in (small, large)]
    notes = _without_slope([*small[1], *large[1]])
    runs = {"runs_smallest": len(sloped[0][1]), "runs_largest": len(sloped[1][1])}
    none = {**runs, "difference": np.nan, "low": np.nan, "high": np.nan, "p": np.nan, "source_of_noise": ""}
    if not all(runs.values()):
        return {**none, "note": "; ".join(notes)}
    try:
        found = size_difference(*sloped)
    except NotComparable as error:
        return {**none, "note": "; ".join([*notes, str(error)])}
    low, high = found.interval(alpha)
    return {
        **runs,
        "difference": found.value,
        "low": low,
        "high": high,
        "p": found.p(),
        "note": "; ".join(notes),
        "source_of_noise": found.source,
    }


def _without_slope(runs: Sequence[MetricTrend]) -> list[str]:
    return [f"{one.model} has no slope" for one in runs if not len(one.slopes)]


def _mean(runs: Sequence[MetricTrend]) -> float:
    found = [one.slopes.mean() for one in runs if len(one.slopes)]
    return float(np.mean(found)) if found else np.nan
