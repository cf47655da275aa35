"""Made-up arms of runs with a known truth: coverage, false wins, wrong equivalences, power at the MDE.

    PYTHONPATH=workflow python benchmarks/simulate_runs.py [--draws 400]

Each run has a learning curve, the effect of its seed, checkpoint noise that persists (AR(1)), and its own
noise on examples that all runs share.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.resampling import named_rng
from ebbtide.statistics.runs.contrasts import SeedNoise, contrast
from ebbtide.statistics.runs.curves import curve_of
from ebbtide.statistics.runs.differences import Difference
from ebbtide.statistics.runs.pairs import Pair, pair_of
from ebbtide.statistics.runs.savings import token_saving
from ebbtide.statistics.runs.seeds import seed_components
from simulated import autoregressive, simulate_runs

ALPHA = 0.05
RISE = 0.4  # of a curved learning curve
DOMINATES = 0.05  # sd of checkpoints beside about 0.02 of 500 examples
NO_METRICS = pd.DataFrame(columns=["model", "task", "metric", "value", "stderr", "n", "chance", "tokens"])


@dataclass(frozen=True)
class Setting:
    """A made-up comparison; standard deviations in units of the metric, pairs are (arm, reference)."""

    runs: tuple[int, int] = (3, 3)
    seeds: tuple[float, float] = (0.015, 0.015)
    checkpoints: float = 0.01
    T: int = 8
    last: int = 3
    n: int = 500
    persistence: float = 0.5
    level: float = 0.55
    binary: bool = True
    slope: float = 0.1  # per decade of tokens
    given: bool = False  # whether the sd of seeds is given for arms with one run
    estimated: int = 0  # number of runs from which the given sd is estimated; 0: it is the true one
    curved: bool = False  # tokens double, and the curves rise early and are flat at the end; b rises first

    def __str__(self) -> str:
        """Return the setting in words."""
        runs = " and ".join(map(str, self.runs))
        seeds = " and ".join(f"{sd:g}" for sd in self.seeds) + self._given
        kind = "binary" if self.binary else "continuous"
        return (
            f"{kind}, runs {runs}, sd of seeds {seeds}, of checkpoints {self.checkpoints:g}, T {self.T}, "
            f"last {self.last}, n {self.n}, persistence {self.persistence:g}, level {self.level:g}"
            f"{', curved' if self.curved else ''}"
        )

    @property
    def _given(self) -> str:
        if self.estimated:
            return f" (given from {self.estimated} runs)"
        return " (given)" if self.given else ""

    @property
    def tokens(self) -> np.ndarray:
        """(T,) training tokens."""
        return 1e9 * (2.0 ** np.arange(self.T) if self.curved else np.linspace(1, self.T, self.T))

    def curves(self) -> tuple[np.ndarray, np.ndarray]:
        """Learning curves (T,) of both arms."""
        if self.curved:
            doublings = np.arange(self.T)
            b, a = (self.level - RISE / (1 + np.exp(2 * (doublings - half))) for half in (1.5, 2.0))
            return b, a
        line = self.level + (self.slope * np.log10(self.tokens / self.tokens[-1]))
        return line, line


def trajectories(rng: np.random.Generator, of: Setting, difference: float = 0.0) -> list[Trajectory]:
    """Draw the runs of arms `b`, then `a`, whose true means differ by `difference` at every checkpoint."""
    truth = []
    for runs, sd, shape, shift in zip(of.runs, of.seeds, of.curves(), (difference, 0.0), strict=True):
        noise = of.checkpoints * autoregressive(rng, of.T, runs, of.persistence).T
        truth.append(shape + shift + sd * rng.standard_normal((runs, 1)) + noise)
    values = simulate_runs(rng, np.vstack(truth), of.n, of.persistence, 1.0, binary=of.binary)
    places = pd.DataFrame({"checkpoint": range(of.T), "step": range(1, of.T + 1), "tokens": of.tokens})
    names = np.arange(of.n).astype(str)
    return [
        Trajectory(f"m{i}", "t", places, {}, names, np.arange(of.n), {"accuracy": own})
        for i, own in enumerate(values)
    ]


def made_up(rng: np.random.Generator, of: Setting, difference: float = 0.0) -> Pair:
    """Draw a pair of arms; see `trajectories`."""
    curves = [curve_of(one, "accuracy") for one in trajectories(rng, of, difference)]
    split = of.runs[0]
    return pair_of("s", ("b", curves[:split]), ("a", curves[split:]), 0.0)


def found(of: Setting, draw: int, difference: float = 0.0) -> Difference:
    """Compare the arms of one draw over the last checkpoints."""
    pair = made_up(named_rng(f"{of} {draw} {difference}"), of, difference)
    arms = zip(("b", "a"), of.seeds, strict=True)
    factor, df = 1.0, 1e6
    if of.estimated:  # the same estimate for both arms
        df = of.estimated - 1.0
        factor = np.sqrt(named_rng(f"estimate {of} {draw} {difference}").chisquare(df) / df)
    given = {(arm, "s"): SeedNoise(factor * sd, df, "given") for arm, sd in arms} if of.given else {}
    return contrast([pair], [np.arange(of.T - of.last, of.T)], seed_noise=given)


def rates(of: Setting, draws: int) -> Iterator[dict[str, object]]:
    """Coverage and false wins without a difference, wrong equivalences, and power at the median MDE."""
    if min(of.runs) > 1:
        kind = "several runs"
    else:
        kind = "one run" if of.given or not any(of.seeds) else "one run, seeds unknown"
        kind += ", checkpoints dominate" if of.checkpoints >= DOMINATES else ""
    none = [found(of, draw) for draw in range(draws)]
    detectable = float(np.median([one.detectable(ALPHA) for one in none]))
    some = [found(of, draw, detectable) for draw in range(draws)]  # also the margin of equivalence
    low, high = np.array([one.interval(ALPHA) for one in none]).T
    hits = {
        "interval covers": ((low <= 0) & (high >= 0), 0.93, 0.97 if kind == "several runs" else 1.0),
        "false difference": ([one.p() < ALPHA for one in none], 0.0, 0.05),
        "false equivalence": (
            [one.p_equivalent(detectable) < ALPHA for one in some],
            0.0,
            0.05,
        ),
        "power at the printed MDE": ([one.p() < ALPHA for one in some], 0.78, 0.85),
    }
    if "unknown" in kind:
        del hits["power at the printed MDE"]
    for what, (hit, least, most) in hits.items():
        yield {
            "table": "runs",
            "what": f"{what}, {kind}",
            "setting": str(of),
            "low": least,
            "high": most,
            "found": float(np.mean(hit)),
            "draws": draws,
        }


def settings() -> Iterator[Setting]:
    """All settings."""
    base = Setting()
    for T, last in ((8, 3), (40, 5)):
        for persistence in (0.0, 0.5, 0.9, 0.95):
            one = replace(base, T=T, last=last, persistence=persistence)
            for runs in ((2, 2), (3, 3), (5, 5)):
                yield replace(one, runs=runs)
            yield replace(one, runs=(3, 3), seeds=(0.03, 0.006))
            yield replace(one, runs=(1, 1), seeds=(0.0, 0.0))
            yield replace(one, runs=(1, 1), given=True)
            yield replace(one, runs=(1, 1))
            for runs in ((1, 1), (3, 3)):
                yield replace(one, runs=runs, seeds=(0.0, 0.0), checkpoints=DOMINATES)
    for runs in ((1, 1), (3, 3)):
        yield replace(base, runs=runs, seeds=(0.0, 0.0) if runs == (1, 1) else base.seeds, curved=True)
    yield replace(base, runs=(5, 3), seeds=(0.03, 0.006))
    yield replace(base, runs=(1, 3), given=True)
    for estimated in (3, 9):
        yield replace(base, runs=(1, 1), seeds=(0.03, 0.03), given=True, estimated=estimated)
    for runs in ((1, 1), (3, 3), (5, 5)):
        quiet = {"seeds": (0.0, 0.0), "checkpoints": 0.0}
        yield replace(base, runs=runs, **quiet)
        yield replace(base, runs=runs, seeds=(0.05, 0.05), binary=False, checkpoints=0.03)
        yield replace(base, runs=runs, level=0.95, n=200, **quiet)


def components(draws: int) -> Iterator[dict[str, object]]:
    """Intervals of the standard deviation of seeds, and of the token ratio of arms that do not differ."""
    row = {"table": "runs", "low": 0.93, "high": 0.97, "draws": draws}
    base = Setting(T=40, last=5)
    for runs, persistence, sd in product((2, 3, 9), (0.0, 0.5, 0.9), (0.015, 0.05)):
        for T, last, curved in ((40, 5, False), (8, 3, False), (8, 3, True)):
            of = replace(base, runs=(runs, 1), seeds=(sd, sd), persistence=persistence)
            of = replace(of, T=T, last=last, curved=curved)
            hits = [_covers_seeds(of, draw) for draw in range(draws)]
            yield row | {
                "what": "interval of the sd of seeds covers",
                "setting": str(of),
                "found": float(np.mean(hits)),
            }
    for T, last in ((8, 3), (40, 5)):
        for runs in (1, 3, 5):
            seeds = (0.0, 0.0) if runs == 1 else (0.01, 0.01)
            of = replace(base, T=T, last=last, runs=(runs, runs), seeds=seeds, slope=0.4)
            hits = [_covers_ratio(of, draw) for draw in range(draws)]
            yield row | {
                "what": "interval of the token ratio covers",
                "setting": str(of),
                "high": 1.0,
                "found": float(np.mean(hits)),
            }


def _covers_seeds(of: Setting, draw: int) -> bool:
    runs = trajectories(named_rng(f"{of} {draw}"), of)[: of.runs[0]]
    arms = pd.DataFrame({"model": [run.model for run in runs], "arm": "b", "size": "s"})
    settings = {"metrics": ["accuracy"], "alpha": ALPHA, "last": of.last, "tolerance": 0.0, "suites": {}}
    settings |= {"reference": "b"}
    [one] = seed_components(runs, NO_METRICS, arms, settings).to_dict("records")
    return bool(one["sd_seeds_low"] <= of.seeds[0] <= one["sd_seeds_high"])


def _covers_ratio(of: Setting, draw: int) -> bool:
    """Whether the interval contains the true ratio of an arm that is ahead by half of the tokens."""
    pair = made_up(named_rng(f"{of} {draw}"), of, of.slope * float(np.log10(2)))
    last = contrast([pair], [np.arange(of.T - of.last, of.T)])
    saving = token_saving(pair, last, of.last, 1, ALPHA)
    return saving.low <= 0.5 <= saving.high


def simulate(draws: int) -> pd.DataFrame:
    """One row per setting and question, columns of docs/simulations.tsv."""
    rows = [row for of in settings() for row in rates(of, draws)]
    return pd.DataFrame([*rows, *components(draws)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=400)
    print(simulate(parser.parse_args().draws).to_csv(sep="\t", index=False, float_format="%.4g"))
