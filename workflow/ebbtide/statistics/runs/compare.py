"""Compare arms of training runs: differences by size, task and suite, with their noise, and verdicts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import is_share
from ebbtide.notices import Notice, counted, listed
from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.runs.contrasts import SeedNoise, contrast, windows
from ebbtide.statistics.runs.curves import Unit
from ebbtide.statistics.runs.differences import MOST_DF
from ebbtide.statistics.runs.pairs import NotComparable, Pair, pair_of
from ebbtide.statistics.runs.trend_noise import LONG
from ebbtide.statistics.runs.units import Curves, curves_of_units
from ebbtide.statistics.runs.verdicts import IDENTITY, Compared, sentence_table, verdict_table

ALL_SIZES = "all"
COLUMNS = (
    *(*IDENTITY, "tokens", "tokens_reference", "scope"),
    *("difference", "low", "high", "p", "p_adjusted", "mde", "source_of_noise"),
    *(
        "se",
        "se_examples",
        "se_checkpoints",
        "se_seeds",
        "df",
        "runs",
        "runs_reference",
        "checkpoints",
        "note",
    ),
)
PERSISTENT = "checkpoint noise that persists is not in the interval"
UNPAIRED = "only means are known, so the examples of the arms count as different"


@dataclass(frozen=True)
class RunsCompared:
    """Tables of a comparison, and what readers should know.

    Attributes
    ----------
    differences
        `COLUMNS`: one row per common checkpoint (scope `point`), and one for the last ones (`last`).
    verdicts
        `verdicts.COLUMNS`: one row per row of scope `last`.
    sentences
        `arm, reference, size, sentence`.
    """

    differences: pd.DataFrame
    verdicts: pd.DataFrame
    sentences: pd.DataFrame
    notices: list[Notice] = field(default_factory=list)


def compare_runs(
    trajectories: Iterable[Trajectory], metrics: pd.DataFrame, arms: pd.DataFrame, settings: Mapping[str, Any]
) -> RunsCompared:
    """Compare every arm with the reference arm, within each size and over sizes.

    Parameters
    ----------
    trajectories
        All models and tasks with examples.
    metrics
        Rows of `tables.METRICS`: chance levels, and models and tasks of which only means are known.
    arms
        `model, arm, size`, one row per model.
    settings
        `reference`, the name of an arm; `metrics`; `alpha`; `last`, the number of averaged checkpoints;
        `tolerance`, see `pairs.pair_of`; `margin`, a number for shares, or metric → number; `adjust`, see
        `multiplicity.adjusted`; `seeds`: `per_arm` or `pooled`; `seed_sd`: none, or `source` with `table`
        (`task, metric, sd` and, if any, `size, arm, df`), or with `sd` (a number for tasks and shares, or
        metric or suite → number) and `runs`, the number of runs behind it; `suites`: name → `tasks, metric`
        and, if any, `resample_tasks`.

    Returns
    -------
    A difference is arm - reference in the metric as it is, also that of a loss. p is adjusted over all rows
    of the same scope, those of tasks and those of suites apart. `mde` is the smallest true difference found
    with 80 % probability before p is adjusted.
    """
    curves, notices = curves_of_units(trajectories, metrics, arms, settings)
    compared: list[Compared] = []
    for unit in curves:
        for arm in arms["arm"].unique():
            if arm != settings["reference"]:
                pairs, said = _pairs(unit, str(arm), curves, arms, settings)
                notices += said
                compared += _of_pairs(unit, pairs, settings)
    notices += _about(compared, settings)
    differences = pd.DataFrame([_row(one, settings["alpha"]) for one in compared], columns=list(COLUMNS))
    families = (differences["scope"] + " " + (differences["suite"] != "").astype(str)).to_numpy(dtype=str)
    p = differences["p"].to_numpy(dtype=float)
    differences["p_adjusted"] = adjusted(p, settings["adjust"], families)
    last = [one for one in compared if one.scope == "last"]
    verdicts = verdict_table(
        last, differences[differences["scope"] == "last"]["p_adjusted"].tolist(), settings
    )
    return RunsCompared(differences, verdicts, sentence_table(last, verdicts), notices)


def _pairs(
    unit: Unit, arm: str, curves: Curves, arms: pd.DataFrame, settings: Mapping[str, Any]
) -> tuple[list[Pair], list[Notice]]:
    """Align an arm with the reference at every size that both have."""
    pairs, notices = [], []
    reference = settings["reference"]
    sizes = [
        size for size in arms["size"].unique() if {arm, reference} <= set(arms[arms["size"] == size]["arm"])
    ]
    for size in sizes:
        of_size = arms[arms["size"] == size]
        runs = {
            name: [curves[unit][m] for m in of_size[of_size["arm"] == name]["model"] if m in curves[unit]]
            for name in (arm, reference)
        }
        missing = [m for m in of_size[of_size["arm"].isin(runs)]["model"] if m not in curves[unit]]
        problem = "" if all(runs.values()) else f"there is no value of {listed(missing)}"
        if not problem:
            try:
                pairs.append(
                    pair_of(str(size), (arm, runs[arm]), (reference, runs[reference]), settings["tolerance"])
                )
            except NotComparable as error:
                problem = str(error)
        if problem or missing:
            notices.append(_not_compared(unit, f"{arm} and {reference}", str(size), problem, missing))
    return pairs, notices


def _not_compared(unit: Unit, both: str, size: str, problem: str, missing: Sequence[str]) -> Notice:
    what = f"{unit.metric} of {unit.name} at size {size}: "
    detail = (
        f"{both} are not compared, because {problem}."
        if problem
        else f"{both} are compared without {listed(missing)}, of which there is no value."
    )
    return Notice(
        "warning",
        "not_compared",
        what + detail,
        "Score all runs of both arms on the same examples and at the same training tokens, or raise "
        "runs.tolerance.",
        task=unit.task,
        count=max(len(missing), 1),
    )


def _of_pairs(unit: Unit, pairs: Sequence[Pair], settings: Mapping[str, Any]) -> Iterator[Compared]:
    given = {
        (name, pair.size): noise
        for pair in pairs
        for name in (pair.arm.name, pair.reference.name)
        if (noise := _seed_noise(unit, pair.size, name, settings.get("seed_sd")))
    }
    options = {"pooled": settings["seeds"] == "pooled", "seed_noise": given}
    ends = []
    for pair in pairs:
        for scope, at in windows(len(pair.reference.tokens), settings["last"]):
            found = contrast([pair], [at], **options)
            yield Compared(unit, pair.size, scope, (pair,), at, found)
        ends.append(at)
    if len(pairs) > 1:
        found = contrast(pairs, ends, **options)
        yield Compared(unit, ALL_SIZES, "last", tuple(pairs), ends[0], found)


def _seed_noise(unit: Unit, size: str, arm: str, given: Mapping[str, Any] | None) -> SeedNoise | None:
    """Return the given noise of seeds of an arm at a size; None without any."""
    if not given:
        return None
    if "sd" in given:
        sd = _given_sd(unit, given["sd"])
        return SeedNoise(sd, float(given["runs"] - 1), str(given["source"])) if sd else None
    table = given["table"]
    fits = (table["task"] == unit.name) & (table["metric"] == unit.metric)
    for column, value in (("size", size), ("arm", arm)):
        if column in table:
            fits &= table[column].isin([value, ""]) | table[column].isna()
    rows = table[fits & table["sd"].notna()]
    if rows.empty:
        return None
    row = rows.iloc[0]
    df = float(row["df"]) if "df" in table and row["df"] > 0 else MOST_DF
    return SeedNoise(float(row["sd"]), df, str(given["source"]))


def _given_sd(unit: Unit, given: float | Mapping[str, float]) -> float | None:
    """Return the number given for a unit.

    A plain number is that of single tasks in shares. It says nothing of a suite, whose noise depends on how
    much its tasks have in common.
    """
    if isinstance(given, Mapping):
        return given.get(unit.metric if unit.task else unit.suite)
    return float(given) if unit.task and is_share(unit.metric) else None


def _row(one: Compared, alpha: float) -> dict[str, object]:
    found, first = one.found, one.pairs[0]
    known = found.se > 0
    low, high = found.interval(alpha) if known else (np.nan, np.nan)
    alone = len(one.pairs) == 1
    notes = [] if known else ["no noise is known or observed: nothing is tested"]
    notes += [] if all(pair.examples for pair in one.pairs) else [UNPAIRED]
    notes += [PERSISTENT] if one.seeds_missing else []
    notes += [LONG] if alone and first.learning_counts(one.at) else []
    return {
        **one.identity,
        "tokens": first.arm.tokens[one.at[-1]] if alone else np.nan,
        "tokens_reference": first.reference.tokens[one.at[-1]] if alone else np.nan,
        "scope": one.scope,
        "difference": found.value,
        "low": low,
        "high": high,
        "p": found.p() if known else np.nan,
        "mde": found.detectable(alpha) if known else np.nan,
        "source_of_noise": found.source,
        "se": found.se,
        "se_examples": found.se_examples,
        "se_checkpoints": found.se_checkpoints,
        "se_seeds": found.se_seeds,
        "df": found.df(alpha),
        "runs": sum(pair.arm.runs for pair in one.pairs),
        "runs_reference": sum(pair.reference.runs for pair in one.pairs),
        "checkpoints": len(one.at),
        "note": "; ".join(notes),
    }


def _about(compared: Sequence[Compared], settings: Mapping[str, Any]) -> Iterator[Notice]:
    """Yield what readers should know of the alignment."""
    last = [one for one in compared if one.scope == "last" and len(one.pairs) == 1]
    near = [(one.pairs[0], len(one.pairs[0].reference.tokens) - one.pairs[0].exact) for one in last]
    total = sum(len(pair.reference.tokens) for pair, _ in near)
    if nearest := sum(count for _, count in near):
        yield Notice(
            "note",
            "defaulted",
            f"{counted(nearest, 'common checkpoint')} of {total} differ in training tokens between runs, by "
            f"at most the share {settings['tolerance']:g}.",
            "Set runs.tolerance: 0 to compare only checkpoints with equal tokens.",
            count=nearest,
        )
    if unmatched := sum(one.pairs[0].unmatched for one in last):
        yield Notice(
            "note",
            "dropped",
            f"{counted(unmatched, 'checkpoint')} of runs have no counterpart at the same training tokens in "
            "all runs of both arms, over all tasks and suites.",
            "Save checkpoints at the same tokens, or raise runs.tolerance.",
            count=unmatched,
        )
    early: dict[tuple[str, str, str, str], list[str]] = {}
    for one in last:
        [pair] = one.pairs
        if pair.early_end:
            key = (pair.arm.name, pair.reference.name, pair.size, pair.early_end)
            early.setdefault(key, []).append(one.unit.name)
    for (arm, reference, size, phrase), units in early.items():
        yield Notice(
            "warning",
            "dropped",
            f"{arm} and {reference} at size {size} are compared {phrase} (on {listed(units)}).",
            "Finish or score the runs that end early, or leave them out of runs.arms.",
            count=len(units),
        )
    unknown = [one for one in last if one.seeds_missing] if settings.get("seed_sd") else []
    if unknown:
        yield Notice(
            "note",
            "not_compared",
            f"runs.seed_sd gives no noise of seeds for {counted(unknown, 'comparison')} of single runs "
            f"({listed(dict.fromkeys(f'{one.unit.metric} of {one.unit.name}' for one in unknown))}).",
            "A number is that of tasks and shares: give other metrics, and suites by name, their own, as in "
            "sd: {accuracy: 0.01, my_suite: 0.02}. A table needs the task and size, and an estimate above 0.",
            count=len(unknown),
        )
    if learning := [one for one in last if one.pairs[0].learning_counts(one.at)]:
        yield Notice(
            "note",
            "defaulted",
            f"In {counted(learning, 'comparison')} of single runs over the last checkpoints, {LONG}.",
            "Save or score more checkpoints of the last half of training, or lower runs.last.",
            count=len(learning),
        )
    if few := [one for one in last if len(one.at) < settings["last"]]:
        yield Notice(
            "note",
            "defaulted",
            f"{counted(few, 'comparison')} average fewer than runs.last ({settings['last']}) checkpoints, "
            f"because fewer are common; the first is {few[0].unit.name} at size {few[0].size}.",
            "",
            count=len(few),
        )
