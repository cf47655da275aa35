"""What a benchmark can tell, of made-up runs with a known truth: coverage of the intervals, wrong verdicts.

    PYTHONPATH=workflow python benchmarks/simulate_resolution.py --draws 200

Runs of one size differ by arm, by seed, and from checkpoint to checkpoint around a line. An answer is right
where difficulty + noise stays below the threshold of the run at the checkpoint (see `simulated`). All runs
answer the same examples.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.replicates import Place
from ebbtide.statistics.resampling import named_rng
from ebbtide.statistics.resolution.tables import tables_of
from ebbtide.statistics.resolution.windows import Settings, Window, windows_of, windows_of_means
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
    sizes: bool = False  # runs are sizes, not arms of one size
    means: bool = False  # only means with their standard errors are known
    cluster: int = 1  # examples that share half of their difficulty and noise
    drift: float = 0.0  # correlation of the wiggle of neighbouring checkpoints

    def levels(self, rng: np.random.Generator) -> np.ndarray:
        """Expected accuracy of every run at every checkpoint, (arms × seeds, T)."""
        arms = np.repeat(np.linspace(-0.5, 0.5, self.arms) * self.spread, self.seeds)
        runs = arms + self.seed * rng.standard_normal(len(arms))
        line = self.slope * (np.arange(T) / T - 1)
        wiggle = autoregressive(rng, T, len(runs), self.drift).T
        return 0.5 + runs[:, None] + line + self.wiggle * wiggle


def margins(
    rng: np.random.Generator, levels: np.ndarray, n: int, persistence: float, cluster: int = 1
) -> np.ndarray:
    """Margins (runs, T, n) of examples; an answer is right where its margin is above 0."""
    hard = _shared(rng.standard_normal(n), rng.standard_normal(n // cluster), cluster)
    thresholds = ndtri(np.clip(levels, 1e-6, 1 - 1e-6)) * np.sqrt(2)
    places = levels.shape[1]
    noise = [
        _shared(*(autoregressive(rng, places, k, persistence) for k in (n, n // cluster)), cluster)
        for _ in levels
    ]
    return thresholds[:, :, None] - hard - np.stack(noise)


def _shared(own: np.ndarray, clusters: np.ndarray, cluster: int) -> np.ndarray:
    """Values (…, n) of variance 1, half of which is that of their cluster."""
    if cluster == 1:
        return own
    return np.asarray((own + np.repeat(clusters, cluster, axis=-1)) / np.sqrt(2))


def true_noise(world: World) -> dict[str, float]:
    """Noise, detectable differences and examples to halve them, from many examples."""
    rng = named_rng(f"truth {world}")
    flat = np.full((2, world.last), 0.5) + np.array([[-0.5], [0.5]]) * world.spread / max(world.arms - 1, 1)
    right = (margins(rng, flat, MANY, world.persistence, world.cluster) > 0).astype(float)
    right = right.reshape(*right.shape[:2], -1, world.cluster).mean(axis=3)
    many, n = right.shape[2], world.n // world.cluster
    x = np.linspace(0, 1, world.last)
    hat = np.eye(world.last) - _projection(x)
    flicker = np.einsum("rti,ts,rsi->", right, hat, right) / (2 * many * (world.last - 2)) / n
    difference = right[0] - right[1]
    single = difference.var(axis=1).mean() / n
    averaged = difference.mean(axis=0).var() / n
    fixed, width = 2 * world.wiggle**2 + 2 * world.seed**2, world.last
    apart = np.abs(np.subtract.outer(np.arange(width), np.arange(width)))
    together = float((world.drift**apart).mean()) if world.drift else 1 / width
    of_average = averaged + 2 * world.wiggle**2 * together + 2 * world.seed**2
    room = (single + fixed) / 4 - fixed
    return {
        "step_noise": float(np.sqrt(world.wiggle**2 + flicker)),
        "mde_single": float(REACH * np.sqrt(single + fixed)),
        "mde_averaged": float(REACH * np.sqrt(of_average)),
        "examples_to_halve": float(world.n * single / room) if room > 0 else np.inf,
        "signal": world.spread,
        "snr_within": float(world.spread / np.sqrt(world.wiggle**2 + flicker)),
        "sd_runs": float(np.sqrt(of_average / 2)),
    }


def _projection(x: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones_like(x), x])
    found: np.ndarray = design @ np.linalg.pinv(design)
    return found


def made_up(world: World, draw: int, levels: np.ndarray | None = None) -> list[Trajectory]:
    """Trajectories of all runs; their names are those of `places`."""
    rng = named_rng(f"{world} {draw}")
    of = world.levels(rng) if levels is None else levels
    values = margins(rng, of, world.n, world.persistence, world.cluster)
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
            np.arange(world.n) // world.cluster,
            {"accuracy": (of_run > 0).astype(float), "margin": of_run},
        )
        for run, of_run in enumerate(values)
    ]


def judged(world: World, draw: int, metrics: Sequence[str] = ("accuracy",)) -> tuple[pd.DataFrame, ...]:
    """Both tables of one made-up study."""
    settings = Settings(world.last, ["accuracy"], ALPHA)
    windows: list[Window] = []
    for number, made in enumerate(made_up(world, draw)):
        one = replace(made, values={name: made.values[name] for name in metrics})
        size = 10**number if world.sizes else 1
        arm = "arm" if world.sizes else f"arm{number // world.seeds}"
        place = Place(one.model, arm, f"{size}M", size)
        if world.means:
            windows += windows_of_means(_means(one), place, settings)
        else:
            windows += windows_of(one, place, settings, {("t", "accuracy"): 0.5})
    return tables_of(windows, settings)


def _means(one: Trajectory) -> pd.DataFrame:
    """The rows of the table of metrics."""
    parts = [
        one.checkpoints.assign(
            **{"model": one.model, "task": one.task, "metric": name, "value": values.mean(axis=1)},
            **{"stderr": values.std(axis=1, ddof=1) / np.sqrt(values.shape[1]), "n": values.shape[1]},
            chance=0.5,
        )
        for name, values in one.values.items()
    ]
    return pd.concat(parts, ignore_index=True)


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
    "3 sizes": World(sizes=True),
    "clusters of 4": World(n=2000, cluster=4),
    "means": World(means=True),
    "drift 0.5": World(n=2000, wiggle=0.02, drift=0.5),
    "drift 0.9": World(n=2000, wiggle=0.02, drift=0.9),
}


def coverage(draws: int, worlds: Mapping[str, World] = WORLDS) -> Iterator[Row]:
    """How often the interval of every estimate contains the truth."""
    for name, world in worlds.items():
        truth = true_noise(world)
        if world.seeds == 1:
            del truth["sd_runs"]
        if world.arms == 1:
            truth = {"step_noise": truth["step_noise"]}
        if not world.spread:
            truth.pop("snr_within", None)
        if world.sizes or world.means:  # without pairs of runs on the same examples
            truth = {name: truth[name] for name in ("step_noise", "signal", "snr_within")}
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
        if world.means:
            for estimate in ("mde_single", "mde_averaged"):
                bound = float((tables[f"{estimate}_high"] >= true_noise(world)[estimate]).mean())
                what = f"upper bound holds, {estimate}"
                yield {"what": what, "setting": name, "found": bound, "draws": draws}


def verdicts(draws: int) -> Iterator[Row]:
    """Verdicts of tasks whose arms lie apart by known shares of the detectable differences."""
    of_arms = {"few examples": World(n=300), "wiggle": World(n=2000, wiggle=0.02)}
    others = ("3 sizes", "clusters of 4", "means", "drift 0.5", "drift 0.9")
    for name, world, last in (
        *((name, world, last) for name, world in of_arms.items() for last in (5, 12)),
        *((name, WORLDS[name], 5) for name in others),
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


def onsets(draws: int) -> Iterator[Row]:
    """Onsets of a rise from chance at a known checkpoint."""
    tokens, at = 1000.0 * 2 ** (np.arange(T) / 2), np.arange(T)
    look = Settings(5, ["accuracy"], ALPHA)
    for n, onset in itertools.product((500, 2000), (12, T)):
        found = []
        for draw in range(draws):
            wiggle = 0.005 * named_rng(f"onsets {n} {onset} {draw}").standard_normal((1, T))
            made = made_up(World(arms=1, n=n), draw, 0.5 + 0.02 * np.maximum(at - onset + 1, 0) + wiggle)
            one = replace(made[0], checkpoints=made[0].checkpoints.assign(tokens=tokens))
            windows = windows_of(one, Place("m", "m", "1M", 1), look, {("t", "accuracy"): 0.5})
            found.append(tables_of(windows, look)[0].iloc[0])
        table = pd.DataFrame(found)
        first, low, high = (table[f"tokens_above_chance{end}"] for end in ("", "_low", "_high"))
        where = f"{n} examples, " + ("never above chance" if onset == T else "0.02 more at each checkpoint")
        truth = tokens[onset] if onset < T else np.inf
        yield {
            "what": "earlier than the truth, tokens_above_chance",
            "setting": where,
            "found": float((first < truth).mean()),
            "draws": draws,
        }
        if onset < T:
            usual = float(first.median())
            yield {
                "what": "interval covers the usual value, tokens_above_chance",
                "setting": f"{where}: {np.log2(usual / truth) * 2:.0f} checkpoints after the truth",
                "found": float(((low <= usual) & (usual <= high)).mean()),
                "draws": draws,
            }


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "coverage": coverage,
    "verdicts": verdicts,
    "onsets": onsets,
}


def print_parts(doc: str, parts: Mapping[str, Callable[[int], Iterator[Row]]]) -> None:
    """Run the simulations that the command line names, and print `what, setting, found, draws` as TSV."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    options = parser.parse_args()
    table = pd.DataFrame([row for part in options.parts for row in parts[part](options.draws)])
    print(table.to_csv(sep="\t", index=False, float_format="%.3g"))


if __name__ == "__main__":
    print_parts(__doc__, PARTS)
