"""Do the alarms keep their promises? False alarms, false discoveries, coverage, power.

python benchmarks/simulate_alarms.py            the whole table, about twenty minutes
python benchmarks/simulate_alarms.py --quick    a tenth of the draws
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.statistics.alarms.alarms import alarms, is_worse
from ebbtide.statistics.alarms.paired import compare
from ebbtide.statistics.panel import Trajectory
from simulated import simulate, simulate_clusters

COLUMNS = ("what", "setting", "nominal", "found", "draws")
ALPHA, SPREAD = 0.05, 1.0
SETTINGS = {
    "metrics": ["accuracy"],
    "alpha": ALPHA,
    "against": ["predecessor", "best", "baseline"],
    "family": "study",
    "effects": {"moderate": 0.1, "severe": 0.3},
}
Row = tuple[str, str, str, float, int]


def trajectory(values: np.ndarray, clusters: np.ndarray | None = None, name: str = "task") -> Trajectory:
    """A trajectory of made-up accuracies."""
    T, n = values.shape
    places = pd.DataFrame(
        {
            "checkpoint": [f"step{t}" for t in range(T)],
            "step": range(1, T + 1),
            "tokens": np.arange(1, T + 1) * 1000,
        }
    )
    clusters = np.arange(n) if clusters is None else clusters
    return Trajectory("model", name, places, {}, np.arange(n), clusters, {"accuracy": values})


def rates(draw: Callable[[int], Trajectory], draws: int, truth: np.ndarray) -> Mapping[str, float]:
    """Rates of rejection at the last checkpoint, without adjusting p, and coverage of its change.

    `truth` holds the expected accuracies; the best is the checkpoint that looked best.
    """
    found: dict[str, list[bool]] = {}
    for number in range(draws):
        one = draw(number)
        table = alarms([one], SETTINGS, {"model": "step0"})
        last = table[table["checkpoint"] == one.checkpoints["checkpoint"].iloc[-1]]
        for row, worse in zip(last.to_dict("records"), is_worse(last), strict=True):
            true = truth[-1] - truth[int(row["reference"].removeprefix("step"))]
            found.setdefault(f"{row['against']}: p < 0.05", []).append(row["p"] < ALPHA)
            found.setdefault(f"{row['against']}: and a drop", []).append(row["p"] < ALPHA and worse)
            found.setdefault(f"{row['against']}: coverage", []).append(row["low"] <= true <= row["high"])
        found.setdefault("best, naively: and a drop", []).append(naive(one))
    return {name: float(np.mean(hits)) for name, hits in found.items()}


def naive(one: Trajectory) -> bool:
    """Whether the last checkpoint fell from the best before, tested as if that had been named in advance."""
    values, clusters = one.counted("accuracy")
    best = values[:-1].mean(axis=1).argmax()
    pair = compare(values[-1:], values[best : best + 1], clusters, ALPHA)
    return bool(pair["p"][0] < ALPHA and pair["change"][0] < 0)


def flat(T: int, n: int, persistence: float, draws: int, *, mean: float = 0.5, size: int = 1) -> list[Row]:
    """Trajectories on which nothing happens: false alarms at the last checkpoint, coverage of no change."""
    rng = np.random.default_rng([0, T, n, int(100 * persistence), int(100 * mean), size])

    def draw(number: int) -> Trajectory:
        if size == 1:
            return trajectory(simulate(rng, T, n, mean, persistence, SPREAD), name=f"task{number}")
        return trajectory(
            *simulate_clusters(rng, T, n, mean, persistence, SPREAD, size), name=f"task{number}"
        )

    setting = f"flat at {mean:g}, T {T}, n {n}, persistence {persistence:g}"
    setting += f", clusters of {size}" if size > 1 else ""
    found = rates(draw, draws, np.full(T, mean))
    nominal = {"p": "<= 0.05", "a": "<= 0.05", "c": ">= 0.93"}
    return [
        (what, setting, "(biased)" if "naively" in what else nominal[what.split(": ")[1][0]], rate, draws)
        for what, rate in found.items()
    ]


def covered(T: int, n: int, persistence: float, draws: int) -> list[Row]:
    """Rising, then falling trajectories: coverage, also of the change from what looked best."""
    truth = np.interp(np.arange(T), [0, 0.7 * (T - 1), T - 1], [0.3, 0.7, 0.6])
    rng = np.random.default_rng([1, T, n, int(100 * persistence)])

    def draw(number: int) -> Trajectory:
        return trajectory(simulate(rng, T, n, truth, persistence, SPREAD), name=f"task{number}")

    found = rates(draw, draws, truth)
    setting = f"up from 0.3 to 0.7, then down to 0.6, T {T}, n {n}, persistence {persistence:g}"
    return [(w, setting, "0.93 to 0.98", rate, draws) for w, rate in found.items() if "coverage" in w]


def power(n: int, persistence: float, draws: int, against: str = "predecessor", T: int = 2) -> list[Row]:
    """Rejections of a true drop of the stated size (the median of what is stated for that very drop).

    The drop is from the one best checkpoint; a fall from a plateau is found more easily, from any of it.
    """
    rng = np.random.default_rng([2, n, T, int(100 * persistence)])
    low, high = 0.45, 0.6

    def values(drop: float) -> np.ndarray:
        means = np.full(T, low)
        means[-2:] = high, high - drop
        return simulate(rng, T, n, means, persistence, SPREAD)

    def last(x: np.ndarray, number: int) -> Mapping[str, Any]:
        settings = SETTINGS | {"against": [against]}
        row: Mapping[str, Any] = alarms([trajectory(x, name=f"task{number}")], settings).iloc[-1].to_dict()
        return row

    drop = 0.05
    for _ in range(3):  # what can be detected depends on the discordance, and that on the drop
        drop = float(np.median([last(values(drop), i)["minimum_detectable_drop"] for i in range(20)]))
    hits = [last(values(drop), number)["p"] < ALPHA for number in range(draws)]
    setting = f"{against}, T {T}, n {n}, persistence {persistence:g}: a drop of {drop:.3f}"
    return [("power at the smallest detectable drop", setting, "0.75 to 0.85", float(np.mean(hits)), draws)]


def discoveries(
    tasks: int, falling: int, n: int, draws: int, *, together: float = 0.5, T: int = 6
) -> list[Row]:
    """False discoveries among the alarms of a study: some tasks fall at the end, the others are flat.

    Tasks go together: the share `together` of the noise is the same for the examples of all tasks.
    """
    rng = np.random.default_rng([3, tasks, falling, n, int(100 * together)])
    out: dict[str, list[float]] = {"study": [], "checkpoint": []}
    any_false: list[float] = []
    for _ in range(draws):
        found = list(_study(rng, tasks, falling, n, together=together, T=T))
        for family, shares in out.items():
            table = alarms(found, SETTINGS | {"family": family}, {"model": "step0"})
            raised = table[table["severity"] != ""]
            true = raised["task"].str.startswith("falls") & (raised["checkpoint"] == f"step{T - 1}")
            shares.append(float((~true).sum() / max(len(raised), 1)))
            if family == "study":
                any_false.append(float((~true).any()))
    setting = f"{falling} of {tasks} tasks fall, n {n}, T {T}, tasks share {together:g} of the noise"
    found_rows = [
        (f"false discovery rate, family {family}", setting, "<= 0.05", float(np.mean(shares)), draws)
        for family, shares in out.items()
    ]
    return (
        found_rows
        if falling
        else [*found_rows[:1], ("any false alarm", setting, "<= 0.05", np.mean(any_false), draws)]
    )


def _study(
    rng: np.random.Generator, tasks: int, falling: int, n: int, *, together: float, T: int
) -> Iterator[Trajectory]:
    # One example of a "cluster" per task: what a cluster shares, the tasks share.
    level = np.full(T, 0.5)
    fallen = np.r_[level[:-1], 0.4]
    state = rng.bit_generator.state
    for task in range(tasks):
        rng.bit_generator.state = state  # the same draws, so that thresholds alone differ between tasks
        means = fallen if task < falling else level
        x, _ = simulate_clusters(rng, T, n * tasks, means, 0.5, SPREAD, tasks, together)
        yield trajectory(x[:, task::tasks], name=f"{'falls' if task < falling else 'flat'}{task}")


def rows(scale: float = 1.0) -> Iterator[Row]:
    """Everything, with `scale` times the usual number of draws."""

    def times(draws: int) -> int:
        return max(20, int(scale * draws))

    for falling in (0, 3, 6):
        yield from discoveries(12, falling, 300, times(300))
    for T, draws in ((8, 1000), (40, 400)):
        for n in (100, 1000):
            for persistence in (0.0, 0.5, 0.9):
                yield from flat(T, n, persistence, times(draws))
    yield from flat(154, 1000, 0.9, times(200))
    yield from flat(8, 200, 0.5, times(1000), mean=0.05)
    yield from flat(8, 400, 0.5, times(1000), size=20)
    for n in (100, 1000):
        yield from covered(8, n, 0.5, times(1000))
    for n, persistence in ((200, 0.0), (200, 0.9), (1000, 0.5)):
        yield from power(n, persistence, times(1000))
    yield from power(500, 0.5, times(1000), "best", 8)


def table(scale: float = 1.0) -> pd.DataFrame:
    """The same as a tidy table."""
    return pd.DataFrame(list(rows(scale)), columns=list(COLUMNS))


def main(arguments: Sequence[str]) -> None:
    """Print the table as TSV, each row when it is known."""
    print(*COLUMNS, sep="\t")
    for what, setting, nominal, found, draws in rows(0.1 if "--quick" in arguments else 1.0):
        print(what, setting, nominal, f"{found:.3f}", draws, sep="\t", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
