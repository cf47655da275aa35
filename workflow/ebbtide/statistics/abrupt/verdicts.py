"""Is an ability abrupt, or a threshold on something smooth?

A share of exact answers can look abrupt although the model improves smoothly: if each of k tokens is right
with probability p, all are with p^k (Schaeffer et al. 2023). Both forms are in the same cells. So the curve
of an *outcome* (a share of right answers) is compared with that of a *signal*, the log-probability of the
right answer, over sizes (Ganguli et al. 2022, section 2.2, show the outcome only) or over training:

abrupt       signal and outcome both change within one step of the grid
threshold    the signal changes over more than one step, and before the outcome begins to change it has made
             more than `HEAD_START` of its own change
smooth       both change over more than one step, and they begin together
no change    the outcome does not change from the smallest to the largest
falls        the outcome is lower at the largest: not an ability that appears
cannot tell  none of these is beyond the noise of examples

Widths and head starts are those of `width`, their intervals percentiles of the bootstrap over examples (or
clusters), which draws the same examples for all points and both forms. The noise between training runs is not
in them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.statistics.abrupt.width import Change, changes, head_starts
from ebbtide.statistics.resampling import bootstrap

# Share of right answers → log-probability of the right answer, and whether lower is better; the first that a
# task has counts.
FORMS = (
    ("greedy_exact_match", "sequence_loss"),
    ("greedy_accuracy", "sequence_loss"),
    ("greedy_accuracy", "sequence_loss_per_byte"),
    ("accuracy", "gold_bits_per_byte"),
)
LEAST_POINTS = 4
HEAD_START = 1 / 3  # 0.1 if the two change together; 0.6 and more for p^k with k of 3 and more
DRAWS = 1000
ABRUPT, THRESHOLD, SMOOTH = "abrupt", "threshold", "smooth"
NO_CHANGE, FALLS, CANNOT_TELL = "no change", "falls", "cannot tell"
STEP, WIDE, FLAT, UNCLEAR = "step", "wide", "flat", "unclear"
COLUMNS = (
    *("over", "arm", "model", "task", "form", "metric", "points", "n", "smallest", "largest"),
    *("change", "change_low", "change_high", "jump", "jump_low", "jump_high", "jump_from", "jump_to"),
    *("width", "width_low", "width_high", "gap", "shape"),
    *("head_start", "head_start_low", "head_start_high", "verdict", "note"),
)


@dataclass(frozen=True)
class Curve:
    """Outcome and signal of the same examples at T points.

    Attributes
    ----------
    over, arm, model
        What the points are: `size` (the models of an arm) or `tokens` (the checkpoints of a model).
    x
        (T,) log10 of parameters or tokens, ascending and different.
    labels
        Names of the points.
    outcome, signal
        (T, n) values of each example; for both, higher is better.
    clusters
        (n,) integers from 0.
    """

    over: str
    arm: str
    model: str
    task: str
    metrics: tuple[str, str]
    x: np.ndarray
    labels: tuple[str, ...]
    outcome: np.ndarray
    signal: np.ndarray
    clusters: np.ndarray


@dataclass(frozen=True)
class _Form:
    """One form of a curve: its change, that of the draws, and what it looks like."""

    found: Change
    drawn: Change
    gap: float
    alpha: float

    def interval(self, name: str) -> tuple[float, float]:
        return _ends(getattr(self.drawn, name), self.alpha)

    @property
    def shape(self) -> str:
        low, high = self.interval("total")
        if low <= 0 <= high:
            return FLAT
        narrow, wide = self.interval("width")
        return STEP if wide <= self.gap else WIDE if narrow > self.gap else UNCLEAR


def verdicts(curve: Curve, alpha: float = 0.05, draws: int = DRAWS) -> Iterator[dict[str, Any]]:
    """Yield the two rows of abrupt.tsv (`COLUMNS`) of a curve: its outcome, then its signal."""
    rows = [_row(curve, form) for form in ("outcome", "signal")]
    if len(curve.x) < LEAST_POINTS:
        note = f"{len(curve.x)} points; at least {LEAST_POINTS} are needed"
        yield from (row | {"verdict": CANNOT_TELL, "note": note} for row in rows)
        return
    both = np.concatenate([curve.outcome, curve.signal])
    drawn = np.split(bootstrap(both, curve.clusters, curve.task, draws), 2, axis=1)
    forms = []
    for values, of_draws in zip((curve.outcome, curve.signal), drawn, strict=True):
        found = changes(curve.x, values.mean(axis=1)[None])
        place = int(found.place[0])
        gap = float(curve.x[place] - curve.x[place - 1])
        forms.append(_Form(found, changes(curve.x, of_draws), gap, alpha))
    outcome, signal = forms
    means = (curve.outcome.mean(axis=1)[None], curve.signal.mean(axis=1)[None])
    low, high = _ends(head_starts(*drawn), alpha)
    start = float(head_starts(*means)[0])
    head = {"head_start": start, "head_start_low": low, "head_start_high": high}
    verdict, note = _verdict(outcome, signal, head)
    if FLAT in (outcome.shape, signal.shape) or verdict == FALLS:
        head = {}
    for row, form in zip(rows, forms, strict=True):
        yield row | _measured(form, curve.labels) | head | {"verdict": verdict, "note": note}


def _measured(form: _Form, labels: Sequence[str]) -> dict[str, Any]:
    """Return the columns of one form, without width and jump if there is no change."""
    place = int(form.found.place[0])
    values: dict[str, Any] = {"gap": form.gap, "shape": form.shape}
    values |= {"jump_from": labels[place - 1], "jump_to": labels[place]}
    for name, column in (("total", "change"), ("jump", "jump"), ("width", "width")):
        if form.shape != FLAT or name == "total":
            low, high = form.interval(name)
            found = float(getattr(form.found, name)[0])
            values |= {column: found, f"{column}_low": low, f"{column}_high": high}
    return values


def _ends(drawn: np.ndarray, alpha: float) -> tuple[float, float]:
    """Return the percentile interval of draws; NaN if none is known."""
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def _verdict(of_outcome: _Form, of_signal: _Form, head: Mapping[str, float]) -> tuple[str, str]:
    """Return the verdict for the shapes of outcome and signal and the head start, and why there is none."""
    outcome, signal = of_outcome.shape, of_signal.shape
    if outcome == FLAT or of_outcome.found.total[0] < 0:
        return NO_CHANGE if outcome == FLAT else FALLS, ""
    if of_signal.found.total[0] < 0:
        return CANNOT_TELL, "right answers rise, but their log-probability does not"
    if outcome == signal == STEP:
        return ABRUPT, ""
    if signal == WIDE and head["head_start_low"] > HEAD_START:
        return THRESHOLD, ""
    if outcome == signal == WIDE and head["head_start_high"] < HEAD_START:
        return SMOOTH, ""
    if signal == FLAT:
        why = "the log-probability does not change"
    elif UNCLEAR in (outcome, signal):
        why = "a width may be more or less than one step of the grid"
    elif outcome != signal:
        why = "one changes within one step of the grid, the other does not"
    else:
        why = f"the head start may be more or less than {HEAD_START:.2f}"
    return CANNOT_TELL, why


def _row(curve: Curve, form: str) -> dict[str, Any]:
    empty: Mapping[str, Any] = dict.fromkeys(COLUMNS, np.nan)
    return dict(empty) | {
        "over": curve.over,
        "arm": curve.arm,
        "model": curve.model,
        "task": curve.task,
        "form": form,
        "metric": curve.metrics[form == "signal"],
        "points": len(curve.x),
        "n": curve.outcome.shape[1],
        "smallest": curve.labels[0],
        "largest": curve.labels[-1],
        "jump_from": "",
        "jump_to": "",
        "shape": "",
        "note": "",
    }


def verdict_table(curves: Iterable[Curve], alpha: float = 0.05) -> pd.DataFrame:
    """Return abrupt.tsv: two rows per task, one per form; columns `COLUMNS`."""
    return pd.DataFrame([row for curve in curves for row in verdicts(curve, alpha)], columns=list(COLUMNS))
