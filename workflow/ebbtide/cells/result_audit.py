"""The audit after scoring: equal results at different steps, and checkpoints unlike their neighbours.

**Equal results.** Two cells of one model and task with bit-equal log-likelihoods come from the same
weights, whatever the steps are called.

**Outliers.** Judged is the mean choice probability: it is continuous where accuracy jumps, and has the same
bounds in every task and at every step, where margin and loss have none and grow noisier with training. Per
model and task, with x_i the value at the i-th checkpoint in the order of training and s_i its standard
error:

    reach_i    from the least to the greatest of x_{i-1}, x_{i+1}, 2x_{i-1} - x_{i-2}, 2x_{i+1} - x_{i+2}
    excess_i   distance of x_i from reach_i, 0 within it
    noise_i²   s_i² + (s_{i-1}² + s_{i+1}²) / 4 + RESOLUTION²
    scale_i²   noise_i² · max(1, r_i) + q_i
    z_i        excess_i / scale_i

All but z and r are probabilities or their squares. The neighbours, and the lines through them and the next,
bracket a value on any slope, at a bend and in the smooth turn of a U, whether steps are spaced evenly or by
factors; a value that jumps out and back leaves the bracket, and its neighbours do not. noise_i is the error
of x_i against the mean of its neighbours if errors were independent over steps; the examples are the same
at every step, so it is an upper bound. How much training itself jitters is taken from the model's other
checkpoints: leaving i out, q_i is the mean excess² of the rest in this task, r_i the mean excess² / noise²
of the rest over all tasks. The first and the last checkpoint are not judged: nothing there can jump back,
and a defect looks like a fast rise. The second and the last but one have one line less. A task with fewer
than `FEWEST` checkpoints is not judged.

A checkpoint stands out in a task where z > `ALONE`. It stands out as a whole, task `(all)`, when more than
half of the tasks that move have z > `TOGETHER`. A task moves when its values span more than `MOVES` scales:
where a model never leaves chance, a broken checkpoint does not either. At least two tasks must move.

The thresholds come from simulated trajectories (flat, rising, falling, step-like, U, inverted U, a fast
rise that decays; 100 to 5000 examples; errors correlated over steps by 0, 0.5 or 0.9):

    false alarms    models of 8, 20, 154 checkpoints × 1, 4, 12 tasks: 0 of 3725; of 154 × 12: 0 of 300.
                    A study of ten such models has one in 0 % (ALONE = 4), 7 % (3.5), 33 % (3). If training
                    also jitters by one standard error at every step: in 0 to 2.2 % of models.
    power, one of 12 tasks | as a whole, one checkpoint displaced by
                       5 s           6 s           8 s           10 s          15 s
      8 checkpoints    0.06 | 0.09   0.17 | 0.27   0.40 | 0.46   0.50 | 0.54   0.74 | 0.93
     20 checkpoints    0.10 | 0.33   0.28 | 0.65   0.62 | 0.91   0.75 | 0.93   0.93 | 0.98
    154 checkpoints    0.10 | 0.67   0.53 | 0.90   0.83 | 1.00   0.95 | 1.00   0.99 | 1.00

In published accuracies of 17 Pythia models, zero- and five-shot (45,565 cells), five cells stand out alone,
all of one task of 104 examples in which small models flip from one label to the other and back.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.errors import CellError
from ebbtide.tables import METRICS, read_footer, read_frame

METRIC = "choice_probability"
ALL = "(all)"
COLUMNS = ("severity", "finding", "model", "checkpoint", "step", "task", "detail", "remedy")

ALONE = 4.0  # scales
TOGETHER = 2.5  # scales
MOVES = 5.0  # scales
RESOLUTION = 0.002  # of a probability; with `ALONE`, an excess below 0.008 is never reported
FEWEST = 5  # checkpoints

_NAMED = 3  # checkpoints that a sentence lists
_REMEDIES = {
    "identical_results": "Compare the digests of their weights, and leave out the checkpoints that are not "
    "what their name says. With a warm-up from zero, steps 0 and 1 may be equal.",
    "outlier": "Look whether the weights are whole and those of this step, and score it again. If it stays, "
    "report it or leave the checkpoint out.",
}


def audit(
    metrics: pd.DataFrame, digests: pd.DataFrame, allowed: Container[tuple[str, str]] = ()
) -> pd.DataFrame:
    """All findings, columns `COLUMNS`, the grave ones first; no rows when there are none.

    `allowed` are (model, checkpoint) whose results may be equal, as the audit of their weights says.
    """
    equal = identical(digests)
    known = [pair in allowed for pair in zip(equal["model"], equal["checkpoint"], strict=True)]
    findings = pd.concat([equal[~np.array(known, dtype=bool)], outliers(metrics)], ignore_index=True)
    return findings.sort_values("severity", key=lambda s: s != "warning", kind="stable", ignore_index=True)


def read_digests(parts: Iterable[str | Path]) -> pd.DataFrame:
    """The table that `identical` reads, from the metrics of single checkpoints.

    Raises `CellError` for a file that is damaged or keeps no digests.
    """
    rows = []
    for path in parts:
        digests = read_footer(path, METRICS).get("loglikelihoods")
        if digests is None:
            raise CellError(f"{path}: the footer has no 'loglikelihoods'; {METRICS.remedy}.")
        place = read_frame(path, METRICS)[["model", "checkpoint", "step"]].iloc[0]
        rows += [(*place, task, digest) for task, digest in digests.items()]
    return pd.DataFrame(rows, columns=["model", "checkpoint", "step", "task", "loglikelihoods"])


def identical(digests: pd.DataFrame) -> pd.DataFrame:
    """Checkpoints whose per-example results equal those of another step, columns `COLUMNS`.

    Parameters
    ----------
    digests
        One row per cell: `model, checkpoint, step, task, loglikelihoods`, the last a digest of the
        log-likelihoods (see `metrics.loglikelihoods_sha256`).

    Returns
    -------
    One row per checkpoint and task, or one with the task `(all)` where all tasks of the model, two or more,
    agree on the same checkpoints. Every member of a set of equals has a row: which of them is what its name
    says cannot be seen here.
    """
    rows = []
    for model, cells in digests.sort_values("step", kind="stable").groupby("model", sort=False):
        tasks = cells["task"].nunique()
        agree: dict[tuple[str, ...], list[str]] = {}  # checkpoints with equal results → tasks
        for (task, _), equal in cells.groupby(["task", "loglikelihoods"], sort=False):
            agree.setdefault(tuple(equal["checkpoint"]), []).append(str(task))
        places = cells[["checkpoint", "step"]].drop_duplicates().to_dict("records")
        for place, (names, where) in product(places, agree.items()):
            others = [name for name in names if name != place["checkpoint"]]
            if others and len(others) < len(names):
                detail = f"Every log-likelihood equals, to the last bit, that of {_listed(others)}."
                rows += [
                    _finding("identical_results", {**place, "model": model, "task": task}, detail)
                    for task in ([ALL] if len(where) == tasks > 1 else where)
                ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def outliers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Checkpoints that stand out from their neighbours in training, columns `COLUMNS`.

    `metrics` is the long table (`tables.METRICS`); rows without a value or a standard error are left out.
    See the module for what stands out. A checkpoint that does so as a whole has a row with the task `(all)`,
    besides those of single tasks.
    """
    table = departures(metrics)
    jumps = table["moves"] & (table["z"] > TOGETHER)
    rows = []
    groups = table.assign(jumps=jumps).groupby(["model", "step", "checkpoint"], sort=False)
    counts = groups[["jumps", "moves"]].sum().reset_index()
    for found in counts[(counts["moves"] > 1) & (2 * counts["jumps"] > counts["moves"])].to_dict("records"):
        detail = (
            f"Jumps out and back in {found['jumps']} of the {found['moves']} tasks that move with training, "
            f"by more than {TOGETHER:g} times the scale of noise."
        )
        rows.append(_finding("outlier", {**found, "task": ALL}, detail))
    for found in table[table["z"] > ALONE].to_dict("records"):
        side = "below" if found["value"] < found["low"] else "above"
        detail = (
            f"{METRIC} {found['value']:.3f} lies {found['excess']:.3f} {side} what its neighbours reach "
            f"({found['low']:.3f} to {found['high']:.3f}): {found['z']:.1f} times the scale of noise."
        )
        rows.append(_finding("outlier", found, detail))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def departures(metrics: pd.DataFrame) -> pd.DataFrame:
    """How far every checkpoint is from what its neighbours reach.

    Returns
    -------
    One row per `model, step, checkpoint, task` of tasks with at least `FEWEST` checkpoints, in the order of
    training: `value`, `low`, `high` (the reach; infinite for the first and last), `excess`, `scale` (all
    probabilities), `z`, and `moves`, whether the task moves with training.
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
    """Of one task, per checkpoint: low, high, excess, noise², q, the task's part of r, span of all values."""
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
    """Least and greatest value that the neighbours reach, along the last axis; the ends reach everything."""
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
    """Variance of a value against the mean of its neighbours; at the ends, which are not judged, its own."""
    noise: np.ndarray = stderr**2 + RESOLUTION**2
    noise[1:-1] += (stderr[:-2] ** 2 + stderr[2:] ** 2) / 4
    return noise


def _finding(finding: str, place: Mapping[Any, Any], detail: str) -> dict[str, Any]:
    """A row; `place` holds `model, checkpoint, step, task`."""
    grave = finding == "identical_results" or place["task"] == ALL
    return {
        "severity": "warning" if grave else "note",
        "finding": finding,
        **{name: place[name] for name in ("model", "checkpoint", "step", "task")},
        "detail": detail,
        "remedy": _REMEDIES[finding],
    }


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
