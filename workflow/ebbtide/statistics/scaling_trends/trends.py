"""Classify curves over training compute: standard, inverse, U-shaped, inverted-U, flat, or undecided.

A curve is one metric of one task over the models of a series, ordered by training compute. It is classified
like curves over training (`shape`): all pairs of models are tested together, with a Bonferroni correction
over the curves of the study. Rises, falls and U-shapes describe the values as they are, also those of a loss.
Only `ability` and the classes standard and inverse say what larger models gain, the latter as in the Inverse
Scaling Prize (McKenzie et al. 2023): a loss that falls is standard.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ebbtide.metrics.direction import find_metric, higher_is_better, is_share, lower_is_better
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.shape import EQUIVALENCE_MARGIN, Shape, Step, ability_of, shape_of
from ebbtide.statistics.simultaneous import Pairs, all_pairs, means_of, means_with
from ebbtide.statistics.trends.trends import unit_of

COLUMNS = (
    *(
        "series",
        "task",
        "shots",
        "metric",
        "models",
        "n",
        "flops_from",
        "flops_to",
        "class",
        "ability",
        "reach",
    ),
    *("rise", "rise_from", "rise_to", "p_rise", "fall", "fall_from", "fall_to", "p_fall", "turn", "note"),
)
NAMES = {"rising": ("standard", "inverse"), "falling": ("inverse", "standard")}  # higher, lower is better
UNTESTED = Shape("undecided", Step(-1, -1, np.nan, np.nan), Step(-1, -1, np.nan, np.nan), np.nan, None, "")


@dataclass(frozen=True)
class Answers:
    """Values of one metric at one checkpoint, by example: `values`, `examples`, `clusters`, each (n,)."""

    values: np.ndarray
    examples: np.ndarray
    clusters: np.ndarray


Key = tuple[str, str, str, str]  # model, checkpoint, task, metric


def answers_of(trajectories: Iterable[Trajectory], points: pd.DataFrame) -> dict[Key, Answers]:
    """Return the values of individual examples behind the points of `scale_points`, where known."""
    wanted = set(zip(*(points[c] for c in ("model", "checkpoint", "task", "metric")), strict=True))
    found = {}
    for one in trajectories:
        for index, checkpoint in enumerate(one.checkpoints["checkpoint"]):
            for metric, values in one.values.items():
                key = (one.model, str(checkpoint), one.task, metric)
                if key in wanted:
                    counts = ~np.isnan(values[index])
                    clusters = one.clusters[counts]
                    found[key] = Answers(values[index][counts], one.examples[counts], clusters)
    return found


def scale_trends(
    points: pd.DataFrame,
    answers: Mapping[Key, Answers],
    alpha: float = 0.05,
    equivalence_margin: float = EQUIVALENCE_MARGIN,
) -> pd.DataFrame:
    """One row per series, task, shots and metric, columns `COLUMNS`.

    Models with the same examples are compared on them. If a model has only a mean (imported without
    samples), all means are assumed independent, with their standard errors. Models of equal compute (seeds)
    are averaged.

    `rise` and `fall` are the most significant increase and decrease, as absolute values in units of the
    metric, with the models between which they occur and p adjusted over all pairs and curves. `turn` is the
    compute at the turning point of a U or inverted U.

    Parameters
    ----------
    points
        Table of `scale_points`.
    answers
        Result of `answers_of`; empty if all results are imported.
    alpha
        Family-wise error rate of false changes in the table.
    equivalence_margin
        Largest negligible change: a difference of shares, or standard deviations of examples for other
        metrics.
    """
    keys = ["series", "asked", "shots", "metric"]
    curves = [_Curve(tuple(map(str, key)), group, answers) for key, group in points.groupby(keys, sort=False)]
    tested = max(1, sum(curve.pairs is not None for curve in curves))
    return pd.DataFrame(
        [curve.row(alpha, equivalence_margin, tested) for curve in curves], columns=list(COLUMNS)
    )


class _Curve:
    """One curve: models grouped by compute, and the tests of all pairs (None if nothing can be compared)."""

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
        self.groups = [group for _, group in known.groupby("flops", sort=True)]
        if any(len(group) > 1 for group in self.groups):
            self.notes.append("models of equal compute are averaged")
        if len(self.groups) < 2:
            self.notes += _nothing_to_compare(len(known), len(left))
            return
        if not self.registered:
            better = "lower" if lower_is_better(self.metric) else "higher"
            self.notes.append(f"not an Ebbtide metric: judging by its name, {better} is assumed to be better")
        name = str(known["task"].iloc[0])
        values = self._paired(answers)
        if not isinstance(values, str):
            array, clusters = values
            self.n = array.shape[1]
            if len(np.unique(clusters)) < 2:
                self.notes.append("fewer than two examples (or clusters) with values: nothing is tested")
                return
            self.unit = unit_of(self.metric, array)
            self.pairs = all_pairs(means_of(array, clusters, name))
            return
        means = np.array([group["value"].mean() for group in self.groups])
        errors = np.array(
            [np.sqrt((group["stderr"] ** 2).sum(skipna=False)) / len(group) for group in self.groups]
        )
        self.n = int(known["n"].min())
        if np.isnan(errors).any():
            unknown = ", ".join(known.loc[known["stderr"].isna(), "model"])
            self.notes.append(
                f"the standard error of {unknown} is unknown, and {values}: nothing is tested; import "
                "results with standard errors, or samples"
            )
            return
        self.notes.append(f"means are assumed to be independent of each other, because {values}")
        if (errors == 0).any():
            exact = ", ".join(known.loc[known["stderr"] == 0, "model"])
            self.notes.append(f"the standard error of {exact} is 0 and used as given")
        self.unit = _unit_of_means(self.metric, known)
        self.pairs = all_pairs(means_with(means, errors, name))

    def _paired(self, answers: Mapping[Key, Answers]) -> tuple[np.ndarray, np.ndarray] | str:
        """Return values (K, n) and clusters (n,) if all models have the same examples, else why not."""
        first: Answers | None = None
        first_model, rows = "", []
        for group in self.groups:
            own = []
            for key in zip(*(group[c] for c in ("model", "checkpoint", "task", "metric")), strict=True):
                found = answers.get(key)
                if found is None:
                    return f"{key[0]} has no results per example"
                if first is None:
                    first, first_model = found, key[0]
                if not np.array_equal(found.examples, first.examples):
                    return f"{first_model} and {key[0]} have different examples"
                own.append(found.values)
            rows.append(np.mean(own, axis=0))
        assert first is not None  # there are at least two groups
        return np.stack(rows), np.unique(first.clusters, return_inverse=True)[1]

    def row(self, alpha: float, equivalence_margin: float, curves: int) -> dict[str, object]:
        """Return the row of the table."""
        shape, notes = UNTESTED, list(self.notes)
        if self.pairs is not None:
            shape = shape_of(self.pairs, alpha, equivalence_margin * self.unit, curves)
            notes += [shape.note] if shape.note else []
        flops = [float(group["flops"].iloc[0]) for group in self.groups]
        return {
            **dict(zip(("series", "task", "shots", "metric"), self.key, strict=True)),
            "models": sum(len(group) for group in self.groups),
            "n": self.n,
            "flops_from": flops[0] if flops else np.nan,
            "flops_to": flops[-1] if flops else np.nan,
            "class": self._named(shape.name),
            "ability": ability_of(shape.name, self.metric),
            "reach": shape.reach,
            **self._step("rise", shape.rise),
            **self._step("fall", shape.fall),
            "turn": np.nan if shape.turn is None else flops[shape.turn[0]],
            "note": "; ".join(notes),
        }

    def _named(self, shape: str) -> str:
        """Return the name of the class; metrics without a better direction keep rising and falling."""
        judged = not self.registered or higher_is_better(self.metric) is not None
        return NAMES[shape][int(lower_is_better(self.metric))] if judged and shape in NAMES else shape

    def _step(self, name: str, step: Step) -> dict[str, object]:
        start, end = (", ".join(self.groups[i]["model"]) if i >= 0 else "" for i in (step.start, step.end))
        return {name: step.size, f"{name}_from": start, f"{name}_to": end, f"p_{name}": step.p}


def _nothing_to_compare(known: int, left: int) -> list[str]:
    """Return why a curve has less than two points."""
    if not known:
        return [] if left else ["no model of known compute: nothing to compare"]
    if known == 1:
        alone = "1 model of known compute: nothing to compare"
        return [alone if left else f"{alone}; scaling_trends.series puts models into one series"]
    return [f"{known} models of equal compute: nothing to compare"]


def _unit_of_means(metric: str, rows: pd.DataFrame) -> float:
    """Return 1 for shares and probabilities, else the standard deviation of examples, from stderr and n.

    Metrics that are not registered also have unit 1, because the kind of their standard errors is unknown.
    """
    if find_metric(metric) is None or is_share(metric):
        return 1.0
    return float(np.sqrt((rows["stderr"] ** 2 * rows["n"]).mean()))
