"""The audit of results: equal results of different steps, deviations from neighbouring checkpoints, ties.

**Equal results.** Two cells of one model and task with bit-equal log-likelihoods come from the same
weights, whatever the names of the steps.

**Ties.** Cells whose accuracy depends on the order of the choices, because choices have exactly equal scores
or the answer is always the same choice: the warnings of `metrics.notices` in the footers of the metrics.

**Outliers.** The audit uses the mean choice probability. It is continuous, unlike accuracy, and has the same
bounds in every task and at every step, unlike margin and loss, which also become noisier with training. Per
model and task, with x_i the value at the i-th checkpoint in the order of training and s_i its standard
error:

    reach_i    from the minimum to the maximum of x_{i-1}, x_{i+1}, 2x_{i-1} - x_{i-2}, 2x_{i+1} - x_{i+2}
    excess_i   distance of x_i from reach_i, 0 within it
    noise_i²   s_i² + (s_{i-1}² + s_{i+1}²) / 4 + RESOLUTION²
    scale_i²   noise_i² · max(1, r_i) + q_i
    z_i        excess_i / scale_i

All quantities except z and r are probabilities or their squares. The neighbours, and the lines through them
and the next, bracket a value on any slope, at a bend and in the smooth turn of a U, whether steps are spaced
evenly or by factors. A value that jumps out and back leaves the bracket; its neighbours do not. noise_i is
the error of x_i relative to the mean of its neighbours if errors were independent over steps. The examples
are the same at every step, so noise_i is an upper bound. The variability of training itself is estimated
from the model's other checkpoints: excluding i, q_i is the mean excess² in this task, and r_i the mean
excess² / noise² over all tasks. The first and the last checkpoint are not tested: there a defect looks like
a fast rise. The second and the last but one have one line fewer. Tasks with fewer than `FEWEST` checkpoints
are not tested.

A checkpoint is an outlier in a task if z > `ALONE`. It is an outlier as a whole, task `(all)`, if more than
half of the tasks that move have z > `TOGETHER`. A task moves if its values span more than `MOVES` scales: if
a model stays at chance, a broken checkpoint does, too. At least two tasks must move.

The thresholds were chosen on simulated trajectories (flat, rising, falling, step-like, U, inverted U, a fast
rise that decays; 100 to 5000 examples; correlation of errors over steps 0, 0.5 or 0.9):

    false alarms    models of 8, 20, 154 checkpoints × 1, 4, 12 tasks: 0 of 3725; of 154 × 12: 0 of 300.
                    Studies of ten such models with one: 0 % (ALONE = 4), 7 % (3.5), 33 % (3). If training
                    also varies by one standard error at every step: 0 to 2.2 % of models.
    power, one of 12 tasks | as a whole, one checkpoint displaced by
                       5 s           6 s           8 s           10 s          15 s
      8 checkpoints    0.06 | 0.09   0.17 | 0.27   0.40 | 0.46   0.50 | 0.54   0.74 | 0.93
     20 checkpoints    0.10 | 0.33   0.28 | 0.65   0.62 | 0.91   0.75 | 0.93   0.93 | 0.98
    154 checkpoints    0.10 | 0.67   0.53 | 0.90   0.83 | 1.00   0.95 | 1.00   0.99 | 1.00

In published accuracies of 17 Pythia models, zero- and five-shot (45,565 cells), five cells are outliers, all
in one task of 104 examples in which small models flip from one label to the other and back.
"""

from collections.abc import Container, Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.notices import Notice, from_records, listed
from ebbtide.tables import METRICS, read_footer, read_frame

METRIC = "choice_probability"
ALL = "(all)"
COLUMNS = ("severity", "finding", "model", "checkpoint", "step", "task", "detail", "remedy")

ALONE = 4.0  # scales
TOGETHER = 2.5  # scales
MOVES = 5.0  # scales
RESOLUTION = 0.002  # probability; with `ALONE`, an excess below 0.008 is never reported
FEWEST = 5  # checkpoints
TIED = "tied"  # finding, and the kind of the notices that are findings

_REMEDIES = {
    "identical_results": "Compare the digests of their weights, and exclude checkpoints whose weights are "
    "not those of their step. With a warm-up from zero, steps 0 and 1 may be equal.",
    "outlier": "Check that the weights are complete and those of this step, and rescore it. If the outlier "
    "remains, report it or exclude the checkpoint.",
}


def audit(
    metrics: pd.DataFrame,
    digests: pd.DataFrame,
    allowed: Container[tuple[str, str]] = (),
    notices: Iterable[Notice] = (),
) -> pd.DataFrame:
    """All findings, columns `COLUMNS`, warnings first.

    `allowed` are (model, checkpoint) whose results may be equal, because the audit of weights allows it.
    `notices` are those about cells; warnings of the kind `TIED` are findings.
    """
    equal = identical(digests)
    known = [pair in allowed for pair in zip(equal["model"], equal["checkpoint"], strict=True)]
    tables = [equal[~np.array(known, dtype=bool)], outliers(metrics), _noticed(notices, digests)]
    findings = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    return findings.sort_values("severity", key=lambda s: s != "warning", kind="stable", ignore_index=True)


def read_digests(parts: Iterable[str | Path]) -> pd.DataFrame:
    """The table for `identical`, from the metrics of single checkpoints.

    Raises `CellError` for a file that is damaged or has no digests.
    """
    rows = []
    for path in parts:
        digests = read_footer(path, METRICS).get("loglikelihoods")
        if digests is None:
            raise CellError(f"{path}: the footer has no 'loglikelihoods'; {METRICS.remedy}.")
        checkpoint = read_frame(path, METRICS)[["model", "checkpoint", "step"]].iloc[0]
        rows += [(*checkpoint, task, digest) for task, digest in digests.items()]
    return pd.DataFrame(rows, columns=["model", "checkpoint", "step", "task", "loglikelihoods"])


def read_notices(parts: Iterable[str | Path]) -> list[Notice]:
    """The notices about cells, from the metrics of single checkpoints."""
    return [n for path in parts for n in from_records(read_footer(path, METRICS).get("notices", []))]


def _noticed(notices: Iterable[Notice], digests: pd.DataFrame) -> pd.DataFrame:
    pairs = digests[["model", "checkpoint", "step"]].itertuples(index=False, name=None)
    steps = {(model, checkpoint): step for model, checkpoint, step in pairs}
    rows = [
        {
            **{"severity": n.severity, "finding": n.kind, "model": n.model, "checkpoint": n.checkpoint},
            **{"step": steps.get((n.model, n.checkpoint)), "task": n.task},
            **{"detail": n.detail, "remedy": n.remedy},
        }
        for n in notices
        if n.kind == TIED and n.severity == "warning"
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def identical(digests: pd.DataFrame) -> pd.DataFrame:
    """Checkpoints whose log-likelihoods equal those of another step, columns `COLUMNS`.

    Parameters
    ----------
    digests
        One row per cell: `model, checkpoint, step, task, loglikelihoods`; the last is a digest (see
        `metrics.loglikelihoods_sha256`).

    Returns
    -------
    One row per checkpoint and task, or one with the task `(all)` if all tasks of the model, two or more, have
    the same sets of equal checkpoints. Every member of a set has a row, because results do not tell which of
    them has the weights of its step.
    """
    rows = []
    for model, cells in digests.sort_values("step", kind="stable").groupby("model", sort=False):
        tasks = cells["task"].nunique()
        agree: dict[tuple[str, ...], list[str]] = {}  # checkpoints with equal results → tasks
        for (task, _), equal in cells.groupby(["task", "loglikelihoods"], sort=False):
            agree.setdefault(tuple(equal["checkpoint"]), []).append(str(task))
        checkpoints = cells[["checkpoint", "step"]].drop_duplicates().to_dict("records")
        for checkpoint, (names, where) in product(checkpoints, agree.items()):
            others = [name for name in names if name != checkpoint["checkpoint"]]
            if others and len(others) < len(names):
                detail = f"All log-likelihoods are bit-equal to those of {listed(others)}."
                rows += [
                    _finding("identical_results", {**checkpoint, "model": model, "task": task}, detail)
                    for task in ([ALL] if len(where) == tasks > 1 else where)
                ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def outliers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Checkpoints that deviate from their neighbours in training, columns `COLUMNS`.

    `metrics` is the long table (`tables.METRICS`); rows without a value or a standard error are ignored. The
    module defines outliers. An outlier as a whole has a row with the task `(all)`, besides those of tasks.
    """
    table = departures(metrics)
    jumps = table["moves"] & (table["z"] > TOGETHER)
    rows = []
    groups = table.assign(jumps=jumps).groupby(["model", "step", "checkpoint"], sort=False)
    counts = groups[["jumps", "moves"]].sum().reset_index()
    for found in counts[(counts["moves"] > 1) & (2 * counts["jumps"] > counts["moves"])].to_dict("records"):
        detail = (
            f"Jumps out and back in {found['jumps']} of {found['moves']} tasks that change with training, "
            f"by more than {TOGETHER:g} times the noise."
        )
        rows.append(_finding("outlier", {**found, "task": ALL}, detail))
    for found in table[table["z"] > ALONE].to_dict("records"):
        side = "below" if found["value"] < found["low"] else "above"
        detail = (
            f"{METRIC} {found['value']:.3f} is {found['excess']:.3f} {side} the range of its neighbours "
            f"({found['low']:.3f} to {found['high']:.3f}): {found['z']:.1f} times the noise."
        )
        rows.append(_finding("outlier", found, detail))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def departures(metrics: pd.DataFrame) -> pd.DataFrame:
    """The distance of every checkpoint from the range of its neighbours.

    Returns
    -------
    One row per `model, step, checkpoint, task` of tasks with at least `FEWEST` checkpoints, in the order of
    training: `value`, `low`, `high` (the range; infinite for the first and last), `excess`, `scale` (all
    probabilities), `z`, and `moves`, whether the task changes with training.
    """
    rows = metrics[(metrics["metric"] == METRIC) & metrics[["value", "stderr"]].notna().all(axis=1)]
    rows = rows.sort_values("step", kind="stable", ignore_index=True)
    names = ["low", "high", "excess", "noise", "roughness", "ratio", "span"]
    judged = np.full((len(rows), len(names)), np.nan)
    values, errors = rows["value"].to_numpy(dtype=float), rows["stderr"].to_numpy(dtype=float)
    for of in rows.groupby(["model", "task"], sort=False).indices.values():
        if len(of) >= FEWEST:
            judged[of] = np.column_stack(_task(values[of], errors[of]))
    table = rows[["model", "step", "checkpoint", "task", "value"]].join(pd.DataFrame(judged, columns=names))
    table = table.dropna(subset=["excess"], ignore_index=True)
    pooled = table.groupby(["model", "checkpoint"], sort=False)["ratio"].transform("mean")
    scale = np.sqrt(table["noise"] * np.maximum(1, pooled) + table["roughness"])
    table = table.assign(scale=scale, z=table["excess"] / scale, moves=table["span"] > MOVES * scale)
    return table.drop(columns=["noise", "roughness", "ratio", "span"])


def _task(x: np.ndarray, stderr: np.ndarray) -> tuple[np.ndarray, ...]:
    """For a task, per checkpoint: low, high, excess, noise², q, the task's part of r, span of all values."""
    noise = _noise(stderr)
    low, high = _reach(x)
    rest = ~np.eye(len(x), dtype=bool)  # row i: every checkpoint but i
    shape = (len(x), len(x) - 1)
    others = np.broadcast_to(x, rest.shape)[rest].reshape(shape)
    noises = np.broadcast_to(noise, rest.shape)[rest].reshape(shape)
    squares = _excess(others, *_reach(others)) ** 2
    inner = np.s_[:, 1:-1]
    roughness = squares[inner].mean(axis=1)
    ratio = (squares / noises)[inner].mean(axis=1)
    return low, high, _excess(x, low, high), noise, roughness, ratio, np.full(len(x), np.ptp(x))


def _reach(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Range of the neighbours along the last axis: minimum and maximum; infinite at the ends."""
    before, after = x[..., :-2], x[..., 2:]
    from_left, from_right = before.copy(), after.copy()
    from_left[..., 1:] += before[..., 1:] - before[..., :-1]
    from_right[..., :-1] += after[..., :-1] - after[..., 1:]
    bracket = np.stack([before, after, from_left, from_right])
    low, high = np.full(x.shape, -np.inf), np.full(x.shape, np.inf)
    low[..., 1:-1], high[..., 1:-1] = bracket.min(axis=0), bracket.max(axis=0)
    return low, high


def _excess(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    beyond: np.ndarray = np.maximum(0.0, np.maximum(low - x, x - high))
    return beyond


def _noise(stderr: np.ndarray) -> np.ndarray:
    """Variance of a value relative to the mean of its neighbours; at the untested ends, its own."""
    noise: np.ndarray = stderr**2 + RESOLUTION**2
    noise[1:-1] += (stderr[:-2] ** 2 + stderr[2:] ** 2) / 4
    return noise


def _finding(finding: str, where: Mapping[Any, Any], detail: str) -> dict[str, Any]:
    """A row; `where` contains `model, checkpoint, step, task`."""
    grave = finding == "identical_results" or where["task"] == ALL
    return {
        "severity": "warning" if grave else "note",
        "finding": finding,
        **{name: where[name] for name in ("model", "checkpoint", "step", "task")},
        "detail": detail,
        "remedy": _REMEDIES[finding],
    }
