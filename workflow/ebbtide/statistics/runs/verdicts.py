"""Verdicts: wins, loses, equivalent or undecided, with the reason; and one sentence per arm and size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import direction_of, is_share, sign_of
from ebbtide.notices import counted, listed
from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.runs.curves import Unit
from ebbtide.statistics.runs.differences import Difference
from ebbtide.statistics.runs.pairs import Pair
from ebbtide.statistics.runs.savings import Saving, token_saving

IDENTITY = ("arm", "reference", "task", "suite", "size", "metric")
COLUMNS = (
    *(*IDENTITY, "difference", "low", "high", "verdict", "reason"),
    *("p_adjusted", "p_equivalent", "p_equivalent_adjusted", "margin", "mde"),
    *("token_ratio", "token_ratio_low", "token_ratio_high", "token_note"),
)
SENTENCE_COLUMNS = ("arm", "reference", "size", "sentence")
NO_SAVING = Saving(np.nan, np.nan, np.nan, "over sizes, tokens are not comparable")


@dataclass(frozen=True)
class Compared:
    """A difference of two arms: its unit, size, scope (`point` or `last`), pairs (one per size) and result.

    `at` are the indices of the averaged checkpoints of the first pair.
    """

    unit: Unit
    size: str
    scope: str
    pairs: tuple[Pair, ...]
    at: np.ndarray
    found: Difference

    @property
    def identity(self) -> dict[str, str]:
        """The columns that say what is compared: `IDENTITY`."""
        first = self.pairs[0]
        named = (first.arm.name, first.reference.name, self.unit.task, self.unit.suite)
        return dict(zip(IDENTITY, (*named, self.size, self.unit.metric), strict=True))

    @property
    def seeds_missing(self) -> bool:
        """Whether the noise of seeds is not in the interval, for at least one arm."""
        return any(source.startswith("seeds") for source in self.found.missing)


def verdict_table(
    last: Sequence[Compared], p_adjusted: Sequence[float], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """One row per comparison, columns `COLUMNS`.

    An arm `wins` or `loses` if p_adjusted is at most alpha. Otherwise it is `equivalent` if both one-sided
    tests exclude a difference of `margin`, after adjustment over all verdicts of tasks, or of suites.
    `token_ratio` is the share of the reference's tokens after which the arm reaches its final value (see
    `savings`).
    """
    alpha = settings["alpha"]
    margins = [_margin(one.unit.metric, settings["margin"]) for one in last]
    known = [one.found.se > 0 for one in last]
    equivalent = np.array(
        [
            one.found.p_equivalent(margin) if margin > 0 and sure else np.nan
            for one, margin, sure in zip(last, margins, known, strict=True)
        ]
    )
    families = np.array([bool(one.unit.suite) for one in last])
    together = adjusted(equivalent, settings["adjust"], families)
    rows = []
    for i, one in enumerate(last):
        low, high = one.found.interval(alpha) if known[i] else (np.nan, np.nan)
        mde = one.found.detectable(alpha) if known[i] else np.nan
        verdict, reason = _verdict(one, p_adjusted[i], (together[i], margins[i]), alpha)
        sign = sign_of(one.unit.metric)
        saving = (
            token_saving(one.pairs[0], one.found, settings["last"], sign, alpha)
            if len(one.pairs) == 1
            else NO_SAVING
        )
        rows.append(
            {
                **one.identity,
                "difference": one.found.value,
                "low": low,
                "high": high,
                "verdict": verdict,
                "reason": reason,
                "p_adjusted": p_adjusted[i],
                "p_equivalent": equivalent[i],
                "p_equivalent_adjusted": together[i],
                "margin": margins[i],
                "mde": mde,
                "token_ratio": saving.ratio,
                "token_ratio_low": saving.low,
                "token_ratio_high": saving.high,
                "token_note": saving.note,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _margin(metric: str, margin: float | Mapping[str, float]) -> float:
    if isinstance(margin, Mapping):
        return float(margin.get(metric, np.nan))
    return float(margin) if is_share(metric) else np.nan


def _verdict(one: Compared, p: float, equivalent: tuple[float, float], alpha: float) -> tuple[str, str]:
    """Return verdict and reason from adjusted p of a difference, and of equivalence with its margin."""
    p_equivalent, margin = equivalent
    unsaid = ""
    if one.seeds_missing:
        unsaid = (
            "; the noise of seeds is not known, nor checkpoint noise that persists, so this compares "
            "these runs, not their recipes"
        )
    if not one.found.se > 0:
        return "undecided", "no noise is known or observed, so nothing is tested"
    if not direction_of(one.unit.metric):
        return "undecided", "neither direction of this metric is better"
    if p <= alpha:
        better = one.found.value * sign_of(one.unit.metric) > 0
        small = f", but within ±{margin:g}" if p_equivalent <= alpha else ""
        return "wins" if better else "loses", f"significant (adjusted p {p:.2g}){small}{unsaid}"
    if p_equivalent <= alpha:
        return "equivalent", f"within ±{margin:g} (adjusted p {p_equivalent:.2g}){unsaid}"
    mde = one.found.detectable(alpha)
    return "undecided", f"not significant; a difference of {mde:.2g} is found with 80 % probability{unsaid}"


def sentence_table(last: Sequence[Compared], verdicts: pd.DataFrame) -> pd.DataFrame:
    """One sentence per arm and size, columns `SENTENCE_COLUMNS`."""
    rows = []
    groups: dict[tuple[str, str, str], list[int]] = {}
    for i, one in enumerate(last):
        identity = one.identity
        groups.setdefault((identity["arm"], identity["reference"], identity["size"]), []).append(i)
    for (arm, reference, size), indices in groups.items():
        found = verdicts.iloc[indices]
        sentence = _sentence(arm, size, [last[i] for i in indices], found)
        rows.append({"arm": arm, "reference": reference, "size": size, "sentence": sentence})
    return pd.DataFrame(rows, columns=list(SENTENCE_COLUMNS))


def _sentence(arm: str, size: str, compared: Sequence[Compared], verdicts: pd.DataFrame) -> str:
    tasks, suites = verdicts[verdicts["task"] != ""], verdicts[verdicts["suite"] != ""]
    where = "over all sizes" if len(compared[0].pairs) > 1 else f"at {size}"
    metrics = tasks["metric"].unique()
    parts = []
    for metric in metrics:
        of_metric = tasks[tasks["metric"] == metric]
        count = of_metric["verdict"].value_counts().to_dict()
        on = f" ({metric})" if len(metrics) > 1 else ""
        others = [
            f"{words} {count[name]}"
            for name, words in (
                ("loses", "trails on"),
                ("equivalent", "equals on"),
                ("undecided", "undecided on"),
            )
            if count.get(name)
        ]
        parts.append(
            f"leads on {count.get('wins', 0)} of {counted(of_metric, 'task')}{on}"
            + (f" ({', '.join(others)})" if others else "")
        )
    head = f"{arm} {' and '.join(parts)} {where}" if parts else f"{arm} {where}"
    head = ", ".join([head, *_early_ends(compared)])
    several = len(suites) > 1
    said = [
        f"{row['suite'] if several else 'suite'} {_number(row['difference'], row['metric'], sign=True)} "
        f"({_interval(row['low'], row['high'], row['metric'])})"
        for row in suites.to_dict("records")
    ]
    return "; ".join([head, *said, *_limits(compared, verdicts)]) + "."


def _early_ends(compared: Sequence[Compared]) -> list[str]:
    """Where comparisons end before some of their runs, with the size and the tasks if others do not."""
    units: dict[tuple[str, str], list[str]] = {}
    for one in compared:
        for pair in one.pairs:
            units.setdefault((pair.size if len(one.pairs) > 1 else "", pair.early_end), []).append(
                one.unit.name
            )
    return [
        f"{f'size {size} ' if size else ''}{phrase}{'' if len(of) == len(compared) else f' ({listed(of)})'}"
        for (size, phrase), of in units.items()
        if phrase
    ]


def _limits(compared: Sequence[Compared], verdicts: pd.DataFrame) -> list[str]:
    """What could not have been found, of the suites or else of the tasks of one metric."""
    of = verdicts[verdicts["suite"] != ""]
    of = of if len(of) else verdicts
    metric = of["metric"].iloc[0]
    known = of[of["metric"] == metric]["mde"].dropna()
    if known.empty:
        return ["no noise is known, so no difference can be told from chance"]
    number = _number(float(known.median()), metric)
    number += f" in {metric}" if of["metric"].nunique() > 1 else ""
    pairs = [pair for one in compared for pair in one.pairs]
    runs = sorted({arm.runs for pair in pairs for arm in (pair.arm, pair.reference)})
    if runs == [1]:
        seeds = "one seed each"
    else:
        seeds = f"{runs[0]} seeds each" if len(runs) == 1 else f"{runs[0]} to {runs[-1]} seeds per arm"
    if any(one.seeds_missing for one in compared):
        return [
            f"with {seeds}, the noise of seeds is unknown, and differences below {number} cannot "
            "even be told from noise of examples and checkpoints"
        ]
    told = "cannot be told from another seed"
    return [f"with {seeds}, differences below {number} {told}"]


def _interval(low: float, high: float, metric: str) -> str:
    if np.isnan(low):
        return "interval unknown"
    return f"{_number(low, metric)} to {_number(high, metric)}"


def _number(value: float, metric: str, *, sign: bool = False) -> str:
    """Shares in percentage points with one digit, other metrics with three digits."""
    plus = "+" if sign else ""
    return f"{100 * value:{plus}.1f}" if is_share(metric) else f"{value:{plus}.3g}"
