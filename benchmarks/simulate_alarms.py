"""Do the alarms keep their promises? False alarms, false discoveries, coverage, power.

python benchmarks/simulate_alarms.py            the whole table, about twenty minutes
python benchmarks/simulate_alarms.py --quick    a tenth of the draws
python benchmarks/simulate_alarms.py --power    power alone, two minutes
python benchmarks/simulate_alarms.py --seeds    the yardstick of other seeds alone, two minutes
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from ebbtide.statistics.alarms.alarms import alarms, is_worse
from ebbtide.statistics.alarms.paired import compare
from ebbtide.statistics.panel import Trajectory
from simulated import flicker, simulate, simulate_clusters, simulate_runs

COLUMNS = ("what", "setting", "nominal", "found", "draws")
ALPHA, SPREAD = 0.05, 1.0
DROPS = 200  # pairs without a drop, over which the printed drop is a median
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


def power(n: int, persistence: float, draws: int, *, mean: float = 0.5) -> list[Row]:
    """Rejections of a drop of the size that is printed beside a pair of checkpoints without a drop.

    The printed drop is the median over pairs. It is tested where right answers are lost at random
    (`flicker`), and where the threshold moves (`simulate`), so that the examples that change anyway are lost.
    """
    rng = np.random.default_rng([2, n, int(100 * persistence), int(100 * mean)])
    flickers = [flicker(rng, n, (mean, mean), persistence) for _ in range(DROPS)]
    moves = [simulate(rng, 2, n, mean, persistence, SPREAD) for _ in range(DROPS)]
    setting = f"n {n}, persistence {persistence:g}"
    found = []
    for name, flat_pairs, nominal in (
        ("lost at random", flickers, "0.78 to 0.85"),
        ("moved", moves, ">= 0.78"),
    ):
        drop = printed(flat_pairs)
        if name == "moved":
            pairs = [
                simulate(rng, 2, n, np.array([mean, mean - drop]), persistence, SPREAD) for _ in range(draws)
            ]
        else:
            pairs = [flicker(rng, n, (mean, mean - drop), persistence) for _ in range(draws)]
        table = compare(*_stacked(pairs), np.arange(n), ALPHA)
        hits = float((table["p"] < ALPHA).mean())
        what = f"power at the printed drop, {name}"
        found.append((what, f"{setting}: a drop of {drop:.4f}", nominal, hits, draws))
    return found


def power_of_best(n: int, persistence: float, draws: int, T: int = 8) -> list[Row]:
    """The same against the best of T - 1 checkpoints, of which one is much better than the others.

    A fall from a plateau is found more easily, from any checkpoint of it.
    """
    rng = np.random.default_rng([4, n, T, int(100 * persistence)])
    low, high = 0.45, 0.6
    settings = SETTINGS | {"against": ["best"]}

    def last(drop: float, number: int) -> Mapping[str, Any]:
        means = np.full(T, low)
        means[-2:] = high, high
        values = simulate(rng, T, n, means, persistence, SPREAD)
        values[-1] *= rng.random(n) >= drop / high
        row: Mapping[str, Any] = (
            alarms([trajectory(values, name=f"task{number}")], settings).iloc[-1].to_dict()
        )
        return row

    drop = float(np.median([last(0.0, i)["minimum_detectable_drop"] for i in range(50)]))
    hits = [last(drop, number)["p"] < ALPHA for number in range(draws)]
    setting = f"best, T {T}, n {n}, persistence {persistence:g}: a drop of {drop:.4f}"
    what = "power at the printed drop, lost at random"
    return [(what, setting, "0.78 to 0.85", float(np.mean(hits)), draws)]


def power_of_means(n: int, persistence: float, draws: int) -> list[Row]:
    """The same for losses: gamma variates of examples, of which the share `persistence` stays."""
    rng = np.random.default_rng([5, n, int(100 * persistence)])

    def pair(rise: float) -> np.ndarray:
        own, kept, then = rng.gamma(2.0, 1.0, n), rng.gamma(1.0, 0.5, n), rng.gamma(1.0, 0.5, n)
        return np.stack([own + kept, own + persistence * kept + (1 - persistence) * then + rise])

    def compared(pairs: list[np.ndarray]) -> pd.DataFrame:
        return compare(*_stacked(pairs), np.arange(n), ALPHA, sign=-1)

    rise = float(compared([pair(0.0) for _ in range(DROPS)])["minimum_detectable_drop"].median())
    hits = float((compared([pair(rise) for _ in range(draws)])["p"] < ALPHA).mean())
    setting = f"loss, n {n}, persistence {persistence:g}: a rise by {rise:.4f}"
    return [("power at the printed drop, all alike", setting, "0.75 to 0.85", hits, draws)]


def printed(pairs: Sequence[np.ndarray]) -> float:
    """The median drop that is printed beside pairs (2, n)."""
    n = pairs[0].shape[1]
    return float(compare(*_stacked(pairs), np.arange(n), ALPHA)["minimum_detectable_drop"].median())


def _stacked(pairs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The new and the old checkpoints of all pairs, each (pairs, n)."""
    both = np.stack(pairs)
    return both[:, 1], both[:, 0]


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


def other_seeds(
    runs: int, sd: float, draws: int, *, binary: bool = True, T: int = 2, n: int = 300
) -> list[Row]:
    """How often the change of one run is a rare multiple of the seed standard deviation, without a change.

    Runs differ by `sd` in their values, independently at each checkpoint. Accuracies come in steps of 1/n, so
    that very small seed standard deviations, hence very large multiples, are rarer than by t. The second row
    is the mean of seed_change_sd² (1 + 1/k) divided by the mean square of what it should be: the deviation
    of the run from the mean of the k others, which do not contain it.
    """
    rng = np.random.default_rng([6, runs, int(1000 * sd), n, binary])
    recipes = {f"model{run}": "recipe" for run in range(runs)}
    settings = SETTINGS | {"against": ["predecessor"]}
    found = []
    for _ in range(draws):
        values = simulate_runs(rng, 0.5 + sd * rng.standard_normal((runs, T)), n, 0.5, SPREAD, binary=binary)
        of_runs = [replace(trajectory(one), model=f"model{run}") for run, one in enumerate(values)]
        found.append(alarms(of_runs, settings, recipes=recipes).iloc[0])
    rows = pd.DataFrame(found)
    rare = float(t.isf(0.025, runs - 2))
    squares = ((rows["change"] - rows["seed_change"]) ** 2).mean()
    ratio = float((rows["seed_change_sd"].astype(float) ** 2).mean() * (1 + 1 / (runs - 1)) / squares)
    setting = f"{'answers' if binary else 'continuous'}, runs {runs}, sd of seeds {sd:g}, n {n}"
    nominal = "<= 0.07" if binary else "0.03 to 0.07"
    beyond = float((rows["seed_sds"].abs() > rare).mean())
    return [
        (f"more than {rare:.1f} seed standard deviations", setting, nominal, beyond, draws),
        ("seed variance, found over true", setting, "0.9 to 1.1", ratio, draws),
    ]


def seeds(draws: int) -> Iterator[Row]:
    """The yardstick of other seeds."""
    for runs in (3, 4, 9):
        for sd in (0.0, 0.05):
            for binary in (True, False):
                yield from other_seeds(runs, sd, draws, binary=binary)


def powers(draws: int) -> Iterator[Row]:
    """Power at what is printed."""
    for n in (200, 500, 1000, 2000, 5000):
        for persistence in (0.0, 0.5, 0.8, 0.9, 0.95):
            yield from power(n, persistence, draws)
    for persistence in (0.0, 0.5, 0.95):
        yield from power_of_best(500, persistence, draws // 2)
        yield from power_of_means(500, persistence, draws)


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
    yield from powers(times(2000))
    yield from seeds(times(1000))


def table(scale: float = 1.0) -> pd.DataFrame:
    """The same as a tidy table."""
    return pd.DataFrame(list(rows(scale)), columns=list(COLUMNS))


def main(arguments: Sequence[str]) -> None:
    """Print the table as TSV, each row when it is known."""
    print(*COLUMNS, sep="\t")
    scale = 0.1 if "--quick" in arguments else 1.0
    wanted = powers(2000) if "--power" in arguments else seeds(600) if "--seeds" in arguments else rows(scale)
    for what, setting, nominal, found, draws in wanted:
        print(what, setting, nominal, f"{found:.3f}", draws, sep="\t", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
