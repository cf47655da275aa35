"""Made-up studies of arms with a known truth, through the whole comparison: tables in, verdicts out.

    PYTHONPATH=workflow python benchmarks/simulate_run_studies.py [--draws 100]

`simulate_runs` draws single comparisons. Here a study has several tasks (in a suite), sizes and clusters of
examples, and `compare_runs` adjusts p over its family. The effect of a seed is partly common to all tasks.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from ebbtide.statistics.multiplicity import adjusted
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.resampling import named_rng
from ebbtide.statistics.runs.arms import seed_noise
from ebbtide.statistics.runs.compare import RunsCompared, compare_runs
from ebbtide.statistics.runs.differences import Difference, Part
from ebbtide.statistics.runs.seeds import seed_components
from simulated import autoregressive

ALPHA = 0.05
CHANCE = 0.25
SAME = 0.2  # share of the variance of a seed that all tasks of a run have in common


@dataclass(frozen=True)
class Study:
    """A made-up study; standard deviations in units of accuracy, pairs are (arm, reference)."""

    runs: tuple[int, int] = (3, 3)
    seeds: tuple[float, float] = (0.015, 0.015)
    tasks: int = 4
    sizes: int = 1
    n: int = 300
    cluster: int = 1  # examples per cluster
    checkpoints: float = 0.01
    T: int = 1
    last: int = 1
    persistence: float = 0.5
    spread: float = 0.0  # sd of the true differences of tasks
    paired: float = 0.0  # correlation of the effects of the same seed in both arms
    settings: tuple[tuple[str, Any], ...] = ()

    def options(self) -> dict[str, Any]:
        """Settings of the comparison."""
        suite = {"tasks": [f"t{i}" for i in range(self.tasks)], "metric": "accuracy"}
        given = dict(self.settings)
        suite |= {"resample_tasks": given.pop("resample_tasks", False)}
        return {
            **{"reference": "a", "metrics": ["accuracy"], "alpha": ALPHA, "last": self.last},
            **{"tolerance": 0.0, "margin": 0.02, "adjust": "bh", "seeds": "per_arm", "seed_sd": None},
            **{"detect": 0.02, "suites": {"core": suite} if self.tasks > 1 else {}},
            **given,
        }


def drawn(rng: np.random.Generator, of: Study, differences: np.ndarray) -> list[Trajectory]:
    """Trajectories of both arms, whose true differences are `differences` (tasks, sizes)."""
    steps = np.arange(1, of.T + 1)
    places = pd.DataFrame({"checkpoint": [f"s{s}" for s in steps], "step": steps, "tokens": steps * 1e9})
    clusters = np.arange(of.n) // of.cluster
    names = np.char.zfill(np.arange(of.n).astype(str), 5)
    hard = rng.standard_normal((of.tasks, clusters[-1] + 1))[:, clusters]
    # A recipe is better on some examples than on others, in all of its runs.
    own = 0.5 * rng.standard_normal((2, of.tasks, clusters[-1] + 1))[:, :, clusters]
    found = []
    for size in range(of.sizes):
        pairs = rng.standard_normal((max(of.runs), of.tasks))
        for side, arm in enumerate("ba"):
            for run in range(of.runs[side]):
                seeds = np.sqrt(SAME) * rng.standard_normal() + np.sqrt(1 - SAME) * (
                    np.sqrt(of.paired) * pairs[run] + np.sqrt(1 - of.paired) * rng.standard_normal(of.tasks)
                )
                for task in range(of.tasks):
                    mean = 0.55 + 0.03 * size + 0.1 * np.log10(steps / of.T)
                    mean = mean + of.seeds[side] * seeds[task] + (arm == "b") * differences[task, size]
                    mean += of.checkpoints * autoregressive(rng, of.T, 1, of.persistence)[:, 0]
                    flips = autoregressive(rng, of.T, of.n, of.persistence)
                    spread = np.sqrt(1 + 1 + 0.25)
                    latent = hard[task] + own[side, task] + flips
                    values = (latent < ndtri(np.clip(mean, 1e-6, 1 - 1e-6))[:, None] * spread).astype(float)
                    name = f"{arm}{run}-{size}"
                    found.append(
                        Trajectory(name, f"t{task}", places, {}, names, clusters, {"accuracy": values})
                    )
    return found


def arms_of_study(of: Study) -> pd.DataFrame:
    """The table of arms."""
    rows = [
        {"model": f"{arm}{run}-{size}", "arm": arm, "size": f"s{size}"}
        for size in range(of.sizes)
        for arm, runs in zip("ba", of.runs, strict=True)
        for run in range(runs)
    ]
    return pd.DataFrame(rows)


def chances(of: Study) -> pd.DataFrame:
    """Rows of metrics with the chance level of every task."""
    tasks = [f"t{i}" for i in range(of.tasks)]
    columns = ["model", "task", "metric", "value", "stderr", "n", "chance", "tokens"]
    return pd.DataFrame({"model": "a0-0", "task": tasks, "metric": "accuracy", "chance": CHANCE}).reindex(
        columns=columns
    )


def judged(of: Study, draw: int, differences: np.ndarray, **settings: Any) -> RunsCompared:
    """The tables of one made-up study."""
    rng = named_rng(f"{of} {draw} {differences.tobytes().hex()}")
    return compare_runs(
        drawn(rng, of, differences), chances(of), arms_of_study(of), {**of.options(), **settings}
    )


def with_truth(rows: pd.DataFrame, of: Study, differences: np.ndarray) -> pd.DataFrame:
    """Add the true difference of every row of a table of the comparison."""
    tasks = {f"t{i}": of_task for i, of_task in enumerate(differences)}
    resampled = dict(of.settings).get("resample_tasks")  # of many tasks without a difference
    suite = np.zeros(of.sizes) if resampled else differences.mean(axis=0) / (1 - CHANCE)
    truth = []
    for row in rows.to_dict("records"):
        of_sizes = tasks.get(row["task"], suite)
        truth.append(of_sizes.mean() if row["size"] == "all" else of_sizes[int(row["size"][1:])])
    return rows.assign(truth=truth)


def single(what: str, of: Study, draws: int, kind: str) -> Iterator[dict[str, Any]]:
    """Coverage, false differences, wrong equivalences at the margin, and power at the median MDE.

    Differences are drawn around 0. Power is that of the same draws moved by the MDE, and an equivalence at
    a true difference of the margin is wrong if the one-sided test of the estimate against 0 rejects.
    """
    tables = []
    for draw in range(draws):
        shape = of.spread * named_rng(f"truth {of} {draw}").standard_normal((of.tasks, 1))
        differences = shape + np.zeros((1, of.sizes))
        rows = judged(of, draw, differences).differences
        tables.append(with_truth(rows[rows["scope"] == "last"], of, differences))
    table = pd.concat(tables)
    suite, everywhere = table["suite"] != "", table["size"] == "all"
    chosen = {"suite": suite & ~everywhere, "sizes": everywhere & ~suite, "task": ~everywhere & ~suite}
    rows = table[chosen[kind]]
    low, high = rows["low"] - rows["truth"], rows["high"] - rows["truth"]
    yield _row(what, "interval covers", of, (low <= 0) & (high >= 0))
    if not of.spread:
        mde = rows["mde"].median()
        yield _row(what, "false equivalence", of, (rows["difference"] < 0) & (rows["p"] < 2 * ALPHA))
        yield _row(what, "power at the printed MDE", of, (low + mde > 0) | (high + mde < 0))


def family(
    what: str, of: Study, draws: int, differences: np.ndarray, margin: float
) -> Iterator[dict[str, Any]]:
    """Shares of wrong wins and losses, and of wrong equivalences, among those that a study calls."""
    tables = []
    for draw in range(draws):
        rows = with_truth(judged(of, draw, differences, margin=margin).verdicts, of, differences)
        tables.append(rows[(rows["task"] != "") & (rows["size"] != "all")])
    yield from _called(what, of, tables, margin)


def family_of_estimates(
    what: str, of: Study, draws: int, differences: np.ndarray, margin: float
) -> Iterator[dict[str, Any]]:
    """The same of normal estimates with the noise of the study, in a fiftieth of the time.

    A difference is drawn with its noise, and the variances of seeds and examples as χ².
    """
    rng = named_rng(f"estimates {what} {of}")
    truth = differences.ravel()
    variances = np.array([sd**2 / runs for sd, runs in zip(of.seeds, of.runs, strict=True)])
    examples, groups = 2 * 0.3**2 / of.n, of.n - 1
    tables = []
    for _ in range(draws):
        ones = []
        for true in truth:
            parts = [
                Part(variance * rng.chisquare(runs - 1) / (runs - 1), runs - 1, between_runs=True)
                for variance, runs in zip(variances, of.runs, strict=True)
            ]
            parts.append(Part(examples * rng.chisquare(groups) / groups, groups))
            value = rng.normal(true, np.sqrt(variances.sum() + examples))
            ones.append(Difference(value, tuple(parts), np.nan, np.nan, np.nan, ""))
        p = adjusted(np.array([one.p() for one in ones]), "bh")
        equal = adjusted(np.array([one.p_equivalent(margin) for one in ones]), "bh")
        verdict = np.where([one.value > 0 for one in ones], "wins", "loses")
        verdict = np.where(p <= ALPHA, verdict, "undecided")
        tables.append(pd.DataFrame({"verdict": verdict, "truth": truth, "p_equivalent_adjusted": equal}))
    yield from _called(what, of, tables, margin)


def _called(what: str, of: Study, tables: Sequence[pd.DataFrame], margin: float) -> Iterator[dict[str, Any]]:
    wrong, equal, power = [], [], []
    for rows in tables:
        called = rows[rows["verdict"].isin(["wins", "loses"])]
        right = np.where(called["verdict"] == "wins", 1, -1) * called["truth"] > 0
        wrong.append(float(np.mean(~right)) if len(called) else 0.0)
        same = rows[rows["p_equivalent_adjusted"] <= ALPHA]
        equal.append(float(np.mean(same["truth"].abs() >= margin - 1e-9)) if len(same) else 0.0)
        real = rows[rows["truth"] != 0]
        if len(real):
            power.append(float(real["verdict"].isin(["wins", "loses"]).mean()))
    yield _row(what, "false among wins and losses", of, wrong)
    yield _row(what, "false among equivalences", of, equal)
    if power:
        yield _row(what, "true differences found", of, power)


def _row(what: str, question: str, of: Study, hits: Any) -> dict[str, Any]:
    return {
        "what": what,
        "question": question,
        "setting": str(of),
        "found": float(np.mean(hits)),
        "draws": len(hits),
    }


def borrowed(of: Study, draws: int, others: int) -> Iterator[dict[str, Any]]:
    """One run per arm, and seeds.tsv of another study with `others` runs per arm."""
    elsewhere = replace(of, runs=(others, others))
    same = np.zeros((of.tasks, of.sizes))
    tables = []
    for draw in range(draws):
        table = components(elsewhere, draw).fillna({"task": "", "suite": ""})
        rows = judged(of, draw, same, seed_sd={"source": "other", "table": seed_noise(table)}).differences
        tables.append(rows[(rows["scope"] == "last") & (rows["task"] != "")])
    rows = pd.concat(tables)
    unknown = rows["source_of_noise"].str.endswith("not seeds")
    covers = (rows["low"] <= 0) & (rows["high"] >= 0)
    what = f"one run, sd from a table of {others} runs per arm"
    yield _row(what, "interval covers", of, covers[~unknown])
    yield _row(what, "the table has 0, the row says that seeds are unknown", of, unknown)


def components(of: Study, draw: int) -> pd.DataFrame:
    """seeds.tsv of a study without differences."""
    runs = drawn(named_rng(f"components {of} {draw}"), of, np.zeros((of.tasks, of.sizes)))
    return seed_components(runs, chances(of), arms_of_study(of), of.options())


def promised(draws: int) -> Iterator[dict[str, Any]]:
    """Power of studies with the number of seeds that seeds.tsv states."""
    for runs in (2, 3, 9):
        of = Study(runs=(runs, runs), tasks=1, n=3000, seeds=(0.02, 0.02), settings=(("detect", 0.03),))
        needed = pd.concat([components(of, draw) for draw in range(draws)])["seeds_needed"]
        seeds, ends = int(np.clip(needed.median(), 2, 60)), needed.quantile([0.1, 0.9])
        enough = replace(of, runs=(seeds, seeds))
        truth = np.full((1, 1), of.options()["detect"])
        rows = pd.concat([judged(enough, draw, truth).verdicts for draw in range(draws)])
        what = f"seeds needed by {runs} seeds: {seeds} (80 % of studies: {ends[0.1]:.0f} to {ends[0.9]:.0f})"
        yield _row(what, "power with so many seeds", enough, rows["low"] > 0)


def mixed(tasks: int, sizes: int) -> Mapping[str, np.ndarray]:
    """True differences (tasks, sizes): none, a quarter of tasks better and one in six worse, half better."""
    none = np.zeros((tasks, sizes))
    some, half = none.copy(), none.copy()
    some[: tasks // 4] = 0.06
    some[tasks // 4 : tasks // 4 + tasks // 6] = -0.06
    half[: tasks // 2] = 0.1
    return {"no difference": none, "5 of 12 tasks differ by 6 points": some, "half differ by 10 points": half}


ONE = {"T": 4, "last": 3, "runs": (1, 1), "seeds": (0.0, 0.0)}
THREE, FIVE = {"runs": (3, 3)}, {"runs": (5, 5)}
UNEVEN = THREE | {"seeds": (0.03, 0.006)}


def comparisons(draws: int) -> Iterator[dict[str, Any]]:
    """Suites, sizes, and clusters."""
    for made in (ONE, THREE, FIVE, UNEVEN):
        base = Study(**made)
        yield from single("suite of 4 tasks", base, draws, "suite")
        yield from single("over 4 sizes", replace(base, tasks=1, sizes=4), draws, "sizes")
        yield from single("clusters of 5 examples", replace(base, tasks=1, cluster=5), 2 * draws, "task")
        sample = replace(base, tasks=12, n=100, spread=0.03, settings=(("resample_tasks", True),))
        yield from single("suite, tasks resampled", sample, draws, "suite")


def noise_of_seeds(draws: int) -> Iterator[dict[str, Any]]:
    """Pooled noise, seeds that the arms share, borrowed noise, and the number of seeds needed."""
    for made in (THREE, THREE | {"runs": (3, 1)}, UNEVEN, UNEVEN | {"runs": (3, 1)}):
        of = Study(**made, tasks=1, settings=(("seeds", "pooled"),))
        yield from single("seeds pooled", of, 2 * draws, "task")
    for paired in (0.0, 0.8):
        of = Study(tasks=1, seeds=(0.03, 0.03), paired=paired)
        yield from single("the arms share their seeds", of, 2 * draws, "task")
    for others in (3, 9):
        of = Study(T=4, last=3, runs=(1, 1), seeds=(0.03, 0.03), tasks=3)
        yield from borrowed(of, draws, others)
    yield from promised(draws)


def families(draws: int) -> Iterator[dict[str, Any]]:
    """Studies of 12 tasks and 4 sizes: what is called, and how much of it is wrong."""
    few = {"runs": (2, 2), "seeds": (0.02, 0.01)}
    for made in (few, THREE, UNEVEN, FIVE, FIVE | {"seeds": UNEVEN["seeds"]}):
        of = Study(**made, tasks=12, sizes=4, n=450)
        for truth, differences in mixed(12, 4).items():
            yield from family_of_estimates(f"12 tasks × 4 sizes, {truth}", of, draws, differences, 0.06)


PARTS = {"comparisons": comparisons, "seeds": noise_of_seeds, "families": families}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=150)
    parser.add_argument("--part", choices=PARTS, action="append")
    arguments = parser.parse_args()
    for part in arguments.part or PARTS:
        for row in PARTS[part](arguments.draws):
            print("{what}\t{question}\t{found:.3f}\t{draws}\t{setting}".format(**row), flush=True)
