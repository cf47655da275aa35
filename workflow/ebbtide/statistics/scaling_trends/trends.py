"""Classes of curves over scale: standard, inverse, U-shaped, inverted-U, flat.

A curve is one metric of one task over the models of a series, in the order of their training compute. It is
classified as a curve over training is (`shape`): all pairs of models are tested together, and Bonferroni
makes up for all curves of the study. Rising is called standard here, and falling inverse, as the Inverse
Scaling Prize did (McKenzie et al. 2023). Up is better: of a loss, a decrease is a rise.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import find_metric, higher_is_better, is_share, lower_is_better, sign_of
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.shape import FLAT, Shape, Step, shape_of
from ebbtide.statistics.simultaneous import Pairs, all_pairs, means_of, means_with
from ebbtide.statistics.trends.trends import unit_of

COLUMNS = (
    *("series", "task", "shots", "metric", "models", "n", "flops_from", "flops_to", "class", "reach"),
    *("rise", "rise_from", "rise_to", "p_rise", "fall", "fall_from", "fall_to", "p_fall", "turn", "note"),
)
NAMES = {"rising": "standard", "falling": "inverse"}
UNTESTED = Shape("undecided", Step(-1, -1, np.nan, np.nan), Step(-1, -1, np.nan, np.nan), np.nan, None, "")


@dataclass(frozen=True)
class Answers:
    """What single examples have of one metric, at one checkpoint."""

    values: np.ndarray
    examples: np.ndarray
    clusters: np.ndarray


Key = tuple[str, str, str, str]  # model, checkpoint, task, metric


def answers_of(trajectories: Iterable[Trajectory], points: pd.DataFrame) -> dict[Key, Answers]:
    """The answers of single examples behind the scored points of `scale_points`."""
    scored = points[points["source"] != "imported"]
    wanted = set(zip(*(scored[c] for c in ("model", "checkpoint", "task", "metric")), strict=True))
    found = {}
    for one in trajectories:
        for place, checkpoint in enumerate(one.places["checkpoint"]):
            for metric, values in one.values.items():
                key = (one.model, str(checkpoint), one.task, metric)
                if key in wanted:
                    counts = ~np.isnan(values[place])
                    clusters = one.clusters[counts]
                    found[key] = Answers(values[place][counts], one.examples[counts], clusters)
    return found


def scale_trends(
    points: pd.DataFrame, answers: Mapping[Key, Answers], alpha: float = 0.05, flat: float = FLAT
) -> pd.DataFrame:
    """One row per series, question, shots and metric, columns `COLUMNS`.

    Models that answered the same examples are compared on them; where one has only a mean (imported
    results), all are taken as independent means with their standard errors. Models of equal compute (seeds)
    are one place, their mean. `rise` and `fall` are the clearest improvement and deterioration, in the
    metric's own units and above 0, with the models between which they lie and p over all pairs and all
    curves; `turn` is the compute at which a U or inverted U turns.

    Parameters
    ----------
    points
        Table of `scale_points`.
    answers
        What `answers_of` found; empty if all is imported.
    alpha
        Chance that any curve of the table shows a change that is not there.
    flat
        Changes within ± flat do not matter: shares, or standard deviations of examples of other metrics.
    """
    keys = ["series", "asked", "shots", "metric"]
    curves = [_Curve(tuple(map(str, key)), group, answers) for key, group in points.groupby(keys, sort=False)]
    tested = max(1, sum(curve.pairs is not None for curve in curves))
    return pd.DataFrame([curve.row(alpha, flat, tested) for curve in curves], columns=list(COLUMNS))


class _Curve:
    """The places of one curve, and all their pairs (None where nothing can be compared)."""

    def __init__(self, key: tuple[str, ...], points: pd.DataFrame, answers: Mapping[Key, Answers]) -> None:
        self.key, self.metric = key, key[3]
        self.registered = find_metric(self.metric) is not None
        self.pairs: Pairs | None = None
        self.unit, self.n = 1.0, 0
        left = points[points["flops"].isna()]
        self.notes = [
            f"left out: {', '.join(group['model'])} ({note})" for note, group in left.groupby("note")
        ]
        known = points[points["flops"].notna()].sort_values("flops", kind="stable")
        self.places = [group for _, group in known.groupby("flops", sort=True)]
        if any(len(place) > 1 for place in self.places):
            self.notes.append("models of equal compute are one place, their mean")
        if len(self.places) < 2:
            found = f"{len(known)} model{'s' if len(known) != 1 else ''} at {len(self.places)}"
            self.notes.append(f"{found} known amounts of compute: nothing to compare")
            return
        if not self.registered:
            better = "lower" if lower_is_better(self.metric) else "higher"
            self.notes.append(f"not a metric of Ebbtide: by its name, {better} is taken as better")
        name = str(known["task"].iloc[0])
        sign = sign_of(self.metric)
        values = self._paired(answers)
        if values is not None:
            array, clusters = values
            self.n = array.shape[1]
            if len(np.unique(clusters)) < 2:
                self.notes.append("fewer than two examples (or clusters) count: nothing is tested")
                return
            self.unit = unit_of(self.metric, array)
            self.pairs = all_pairs(means_of(sign * array, clusters, name))
            return
        means = np.array([place["value"].mean() for place in self.places])
        errors = np.array(
            [np.sqrt((place["stderr"] ** 2).sum(skipna=False)) / len(place) for place in self.places]
        )
        self.n = int(known["n"].min())
        if np.isnan(errors).any():
            self.notes.append("a standard error is unknown: nothing is tested")
            return
        self.notes.append("means without examples: taken as independent of each other")
        if (errors == 0).any():
            self.notes.append("a standard error is 0, and is taken as it is")
        self.unit = _unit_of_means(self.metric, known)
        self.pairs = all_pairs(means_with(sign * means, errors, name))

    def _paired(self, answers: Mapping[Key, Answers]) -> tuple[np.ndarray, np.ndarray] | None:
        """Values (K, n) and clusters (n,), if all models answered the same examples."""
        first: Answers | None = None
        rows = []
        for place in self.places:
            own = []
            for key in zip(*(place[c] for c in ("model", "checkpoint", "task", "metric")), strict=True):
                found = answers.get(key)
                first = first or found
                if found is None or first is None or not np.array_equal(found.examples, first.examples):
                    return None
                own.append(found.values)
            rows.append(np.mean(own, axis=0))
        if first is None:
            return None
        return np.stack(rows), np.unique(first.clusters, return_inverse=True)[1]

    def row(self, alpha: float, flat: float, curves: int) -> dict[str, object]:
        """The row of the table."""
        shape, notes = UNTESTED, list(self.notes)
        if self.pairs is not None:
            shape = shape_of(self.pairs, alpha, flat * self.unit, curves)
            notes += [shape.note] if shape.note else []
        flops = [float(place["flops"].iloc[0]) for place in self.places]
        return {
            **dict(zip(("series", "task", "shots", "metric"), self.key, strict=True)),
            "models": sum(len(place) for place in self.places),
            "n": self.n,
            "flops_from": flops[0] if flops else np.nan,
            "flops_to": flops[-1] if flops else np.nan,
            "class": self._named(shape.name),
            "reach": shape.reach,
            **self._step("rise", shape.rise),
            **self._step("fall", shape.fall),
            "turn": np.nan if shape.turn is None else flops[shape.turn[0]],
            "note": "; ".join(notes),
        }

    def _named(self, shape: str) -> str:
        """Of a metric of which neither more nor less is better, no curve is standard."""
        judged = not self.registered or higher_is_better(self.metric) is not None
        return NAMES.get(shape, shape) if judged else shape

    def _step(self, name: str, step: Step) -> dict[str, object]:
        start, end = (
            ", ".join(self.places[place]["model"]) if place >= 0 else "" for place in (step.start, step.end)
        )
        return {name: step.size, f"{name}_from": start, f"{name}_to": end, f"p_{name}": step.p}


def _unit_of_means(metric: str, rows: pd.DataFrame) -> float:
    """1 for shares and probabilities, else the standard deviation of examples, by standard errors and n.

    1 also for a metric that is not registered: its standard errors may be of any kind.
    """
    if find_metric(metric) is None or is_share(metric):
        return 1.0
    return float(np.sqrt((rows["stderr"] ** 2 * rows["n"]).mean()))
