"""What a benchmark can tell, of made-up runs with a known truth: coverage of the intervals, wrong verdicts.

    PYTHONPATH=workflow python benchmarks/simulate_resolution.py --draws 200

Runs of one size differ by arm, by seed, and from checkpoint to checkpoint around a line. An answer is right
where difficulty + noise stays below the threshold of the run at the checkpoint (see `simulated`). All runs
answer the same examples.
"""

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import rankdata

from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.replicates import Place
from ebbtide.statistics.resampling import named_rng
from ebbtide.statistics.resolution.decisions import decisions, rank_interval
from ebbtide.statistics.resolution.proxies import SUPPORTED
from ebbtide.statistics.resolution.tables import tables_of
from ebbtide.statistics.resolution.windows import Settings, windows_of
from simulated import autoregressive

T, ALPHA, REACH = 24, 0.05, ndtri(0.975) + ndtri(0.8)
MANY = 60_000  # examples behind the true variances
Row = dict[str, Any]


@dataclass(frozen=True)
class World:
    """Noise of known size: standard deviations of accuracy, persistence of answers, numbers."""

    n: int = 500
    arms: int = 3
    seeds: int = 1
    last: int = 5
    wiggle: float = 0.01
    seed: float = 0.0
    spread: float = 0.1  # accuracy of the best arm minus that of the worst
    persistence: float = 0.5
    slope: float = 0.05  # accuracy per training

    def levels(self, rng: np.random.Generator) -> np.ndarray:
        """Expected accuracy of every run at every checkpoint, (arms × seeds, T)."""
        arms = np.repeat(np.linspace(-0.5, 0.5, self.arms) * self.spread, self.seeds)
        runs = arms + self.seed * rng.standard_normal(len(arms))
        line = self.slope * (np.arange(T) / T - 1)
        return 0.5 + runs[:, None] + line + self.wiggle * rng.standard_normal((len(runs), T))


def margins(rng: np.random.Generator, levels: np.ndarray, n: int, persistence: float) -> np.ndarray:
    """Margins (runs, T, n) of examples; an answer is right where its margin is above 0."""
    hard = rng.standard_normal(n)
    thresholds = ndtri(np.clip(levels, 1e-6, 1 - 1e-6)) * np.sqrt(2)
    noise = np.stack([autoregressive(rng, levels.shape[1], n, persistence) for _ in levels])
    return thresholds[:, :, None] - hard - noise


def true_noise(world: World) -> dict[str, float]:
    """Noise, detectable differences and examples to halve them, from many examples."""
    rng = named_rng(f"truth {world}")
    flat = np.full((2, world.last), 0.5) + np.array([[-0.5], [0.5]]) * world.spread / max(world.arms - 1, 1)
    right = (margins(rng, flat, MANY, world.persistence) > 0).astype(float)
    x = np.linspace(0, 1, world.last)
    hat = np.eye(world.last) - _projection(x)
    flicker = np.einsum("rti,ts,rsi->", right, hat, right) / (2 * MANY * (world.last - 2)) / world.n
    difference = right[0] - right[1]
    single = difference.var(axis=1).mean() / world.n
    averaged = difference.mean(axis=0).var() / world.n
    fixed, width = 2 * world.wiggle**2 + 2 * world.seed**2, world.last
    of_average = averaged + 2 * world.wiggle**2 / width + 2 * world.seed**2
    room = (single + fixed) / 4 - fixed
    return {
        "step_noise": float(np.sqrt(world.wiggle**2 + flicker)),
        "mde_single": float(REACH * np.sqrt(single + fixed)),
        "mde_averaged": float(REACH * np.sqrt(of_average)),
        "examples_to_halve": float(world.n * single / room) if room > 0 else np.inf,
        "signal": world.spread,
        "snr_within": float(world.spread / np.sqrt(world.wiggle**2 + flicker)),
        "seed_noise": float(np.sqrt(of_average / 2)),
    }


def _projection(x: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones_like(x), x])
    found: np.ndarray = design @ np.linalg.pinv(design)
    return found


def made_up(world: World, draw: int, levels: np.ndarray | None = None) -> list[Trajectory]:
    """Trajectories of all runs; their names are those of `places`."""
    rng = named_rng(f"{world} {draw}")
    of = world.levels(rng) if levels is None else levels
    values = margins(rng, of, world.n, world.persistence)
    steps = 100 * np.arange(1, T + 1) + 10_000  # a short window, in which logarithms are straight
    frame = pd.DataFrame({"checkpoint": [f"s{s}" for s in steps], "step": steps, "tokens": steps * 1000})
    names = np.array([f"e{i}" for i in range(world.n)])
    return [
        Trajectory(
            f"m{run}",
            "t",
            frame,
            {"non_embedding": 1},
            names,
            np.arange(world.n),
            {"accuracy": (of_run > 0).astype(float), "margin": of_run},
        )
        for run, of_run in enumerate(values)
    ]


def judged(world: World, draw: int, metrics: Sequence[str] = ("accuracy",)) -> tuple[pd.DataFrame, ...]:
    """Both tables of one made-up study."""
    settings = Settings(world.last, ["accuracy"], ALPHA)
    runs = []
    for number, made in enumerate(made_up(world, draw)):
        one = replace(made, values={name: made.values[name] for name in metrics})
        place = Place(one.model, f"arm{number // world.seeds}", "1M", 1)
        runs += windows_of(one, place, settings, {("t", "accuracy"): 0.5})
    return tables_of(runs, settings)


WORLDS = {
    "as it is": World(),
    "answers flicker, no wiggle": World(wiggle=0.0, persistence=0.0),
    "answers stay, wiggle": World(wiggle=0.02, persistence=0.9),
    "window of 12": World(last=12),
    "200 examples": World(n=200),
    "2,000 examples": World(n=2000),
    "3 seeds": World(arms=2, seeds=3, seed=0.02),
    "5 seeds": World(arms=2, seeds=5, seed=0.02),
    "no signal": World(spread=0.0),
    "one run": World(arms=1, spread=0.0),
}


def coverage(draws: int, worlds: Mapping[str, World] = WORLDS) -> Iterator[Row]:
    """How often the interval of every estimate contains the truth."""
    for name, world in worlds.items():
        truth = true_noise(world)
        if world.seeds == 1:
            del truth["seed_noise"]
        if world.arms == 1:
            truth = {"step_noise": truth["step_noise"]}
        if not world.spread:
            truth.pop("snr_within", None)
        tables = pd.concat([judged(world, draw)[0] for draw in range(draws)])
        for estimate in ("monotonicity", "total_variation"):
            truth[estimate] = float(tables[estimate].mean())
        for estimate, value in truth.items():
            low, high = tables[f"{estimate}_low"], tables[f"{estimate}_high"]
            yield {
                "what": f"interval covers, {estimate}",
                "setting": name,
                "found": float(((low <= value) & (value <= high)).mean()),
                "draws": draws,
            }


def verdicts(draws: int) -> Iterator[Row]:
    """Verdicts of tasks whose arms lie apart by known shares of the detectable differences."""
    for (name, world), last in itertools.product(
        {"few examples": World(n=300), "wiggle": World(n=2000, wiggle=0.02)}.items(), (5, 12)
    ):
        base = replace(world, last=last, spread=0.0)
        mde = true_noise(base)
        for share, of in itertools.product((0.0, 0.95, 1.5, 3.0), ("mde_averaged", "mde_single")):
            made = replace(base, spread=share * mde[of])
            found = [str(judged(made, draw)[0]["verdict"].iloc[0]) for draw in range(draws)]
            used = np.mean([verdict == "use" for verdict in found])
            averaged = np.mean([verdict.startswith("use") for verdict in found])
            where = f"{name}, window {last}, spread {share:g} {of}"
            if made.spread < mde["mde_single"]:
                yield {"what": "wrongly: use", "setting": where, "found": used, "draws": draws}
            if made.spread < mde["mde_averaged"]:
                what = "wrongly: use, or use averaged"
                yield {"what": what, "setting": where, "found": averaged, "draws": draws}
            if share >= 1.5:
                what = f"rightly: use{' averaged' if of == 'mde_averaged' else ''}, spread {share:g} MDE"
                rate = averaged if of == "mde_averaged" else used
                yield {"what": what, "setting": where, "found": rate, "draws": draws}


def orders(draws: int) -> Iterator[Row]:
    """Coverage of rank correlations and of decision accuracy, from true values without examples."""
    many = 20_000
    for runs, truth in itertools.product((6, 12, 30), (0.0, 0.5, 0.9)):
        rng = named_rng(f"orders {runs} {truth}")
        exact = 6 / np.pi * np.arcsin(truth / 2)  # Spearman's of a normal pair
        share = 0.5 + np.arcsin(truth) / np.pi  # of pairs in the same order
        covered, decided = [], []
        for _ in range(min(many, 10 * draws)):
            a = rng.standard_normal(runs)
            b = truth * a + np.sqrt(1 - truth**2) * rng.standard_normal(runs)
            rho = np.corrcoef(rankdata(a), rankdata(b))[0, 1]
            found = rank_interval(float(rho), [runs], ALPHA)
            covered.append(found.low <= exact <= found.high)
            names = [str(i) for i in range(runs)]
            made = decisions(dict(zip(names, a, strict=True)), dict(zip(names, b, strict=True)), ALPHA)
            decided.append(made is not None and made.accuracy.low <= share <= made.accuracy.high)
        where = f"{runs} runs, correlation {truth}"
        for what, hits in (("rank_correlation", covered), ("decision_accuracy", decided)):
            yield {
                "what": f"interval covers, {what}",
                "setting": where,
                "found": np.mean(hits),
                "draws": len(hits),
            }


def proxies(draws: int) -> Iterator[Row]:
    """How often a margin is supported as proxy of accuracy, with true effects of runs in a known correlation.

    Both share the noise of examples. With a spread of 0 the runs do not differ, and only noise agrees.
    """
    for runs, truth, spread in (
        (8, 0.0, 0.05),
        (8, 0.5, 0.05),
        (8, 1.0, 0.05),
        (8, 1.0, 0.0),
        (8, -1.0, 0.05),
    ):
        world = World(arms=runs, n=500, wiggle=0.005)
        found = []
        for draw in range(draws):
            rng = named_rng(f"proxies {runs} {truth} {spread} {draw}")
            effect = rng.standard_normal(runs)
            other = truth * effect + np.sqrt(1 - truth**2) * rng.standard_normal(runs)
            wiggle = 0.005 * rng.standard_normal((runs, T))
            target = made_up(world, draw, 0.5 + spread * effect[:, None] + wiggle)
            proxy = made_up(world, draw, 0.5 + spread * other[:, None] + wiggle)
            look = Settings(5, ["accuracy"], ALPHA)
            both = []
            for a, b in zip(target, proxy, strict=True):
                mixed = replace(a, values={"accuracy": a.values["accuracy"], "margin": b.values["margin"]})
                both += windows_of(mixed, Place(a.model, a.model, "1M", 1), look, {})
            found.append(str(tables_of(both, look)[1]["verdict"].iloc[0]))
        where = f"{runs} runs, effects in correlation {truth}, spread {spread}"
        right = truth == 1 and spread > 0
        what = "rightly: supported" if right else "wrongly: supported"
        yield {
            "what": what,
            "setting": where,
            "found": np.mean([v == SUPPORTED for v in found]),
            "draws": draws,
        }
        if truth == -1:
            against = np.mean([v == "runs against" for v in found])
            yield {"what": "rightly: runs against", "setting": where, "found": against, "draws": draws}


PARTS = {"coverage": coverage, "verdicts": verdicts, "orders": orders, "proxies": proxies}


def simulate(draws: int, parts: Sequence[str] = tuple(PARTS)) -> pd.DataFrame:
    """All simulations: `what, setting, found, draws`."""
    return pd.DataFrame([row for part in parts for row in PARTS[part](draws)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    print(simulate(options.draws, options.parts).to_csv(sep="\t", index=False, float_format="%.3g"))
