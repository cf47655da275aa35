"""Do the intervals and verdicts of scaling laws hold what they promise? Known truth in, coverage out.

    python benchmarks/simulate_scaling.py --studies 1000

Runs follow L = E + (a M^η + b M^−η) C^−η with normal noise on a grid of 6 compute budgets × 4 ratios; each
study is fitted, and asked for 95 % intervals of its parameters and of a run of ten times the compute. Prints
a TSV.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ebbtide.errors import ScalingError
from ebbtide.statistics.scaling_laws.fits import fit
from ebbtide.statistics.scaling_laws.identifiability import identifiability
from ebbtide.statistics.scaling_laws.laws import OVERTRAINED
from ebbtide.statistics.scaling_laws.predictions import predict_runs
from ebbtide.statistics.scaling_laws.uncertainty import linear_intervals, residual_bootstrap

TRUTH = {"E": 1.8, "a": 200.0, "b": 350.0, "eta": 0.135}
BUDGETS, RATIOS = np.logspace(17, 21, 6), np.array([5.0, 20.0, 80.0, 320.0])
TARGET = {"C": 1e22, "M": 640.0}
LOST = 0.5  # a parameter off by more than this share is not recovered
DRAWS = 100


def simulate(
    sigmas: Sequence[float] = (0.001, 0.003, 0.01, 0.03, 0.1),
    studies: int = 300,
    seed: int = 0,
    points: int | None = None,
    bootstrap: bool = False,
) -> pd.DataFrame:
    """One row per noise and statistic: `coverage`, `median_width`, of verdicts `lost` and `warned`, and
    `failed`: studies left out because their fit, or a fit of their bootstrap, did not converge.

    `points` takes that many runs of the grid at random in each study; `bootstrap` adds its intervals.
    """
    C, M = (grid.ravel() for grid in np.meshgrid(BUDGETS, RATIOS))
    truth = OVERTRAINED.predict(TRUTH, C=C, M=M)
    goal = float(OVERTRAINED.predict(TRUTH, **TARGET))
    rows = []
    for sigma in sigmas:
        generator = np.random.default_rng([seed, round(1e6 * sigma)])
        hits: dict[str, list[tuple[bool, float]]] = {}
        lost, warned, failed = 0, 0, 0
        for _ in range(studies):
            keep = np.sort(generator.choice(len(C), points or len(C), replace=False))
            loss = truth[keep] + generator.normal(0, sigma, len(keep))
            noise = generator.normal(0, sigma)
            try:
                found = fit(OVERTRAINED, loss, C=C[keep], M=M[keep], starts=[list(TRUTH.values())])
            except ScalingError:
                failed += 1
                continue
            verdicts, linear = identifiability(found), linear_intervals(found)
            run = predict_runs(found, **TARGET)
            intervals = {"prediction of a new run": (float(run.low), float(run.high), goal + noise)}
            for name, value in TRUTH.items():
                intervals[f"linear {name}"] = (*linear[name], value)
                intervals[f"profile {name}"] = (verdicts[name].low, verdicts[name].high, value)
            if bootstrap and found.df > 0:
                try:
                    samples = residual_bootstrap(found, DRAWS, seed)
                except ScalingError:
                    failed += 1
                    continue
                ends = np.quantile(samples, [0.025, 0.975], axis=0)
                for i, name in enumerate(OVERTRAINED.names):
                    intervals[f"bootstrap {name}"] = (*ends[:, i], TRUTH[name])
            for statistic, (low, high, value) in intervals.items():
                if np.isfinite(low) or np.isfinite(high):
                    hits.setdefault(statistic, []).append((low <= value <= high, high - low))
            for name, value in found.values.items():
                off = abs(value / TRUTH[name] - 1) > LOST
                lost += off
                warned += off and verdicts[name].verdict != "identified"
        for statistic, found_hits in hits.items():
            inside, widths = zip(*found_hits, strict=True)
            rows.append(
                {
                    "sigma": sigma,
                    "points": points or len(C),
                    "statistic": statistic,
                    "studies": len(inside),
                    "coverage": float(np.mean(inside)),
                    "median_width": float(np.median(widths)),
                    "lost": lost,
                    "warned": warned,
                    "failed": failed,
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--bootstrap", action="store_true", help="the residual bootstrap, too (slow)")
    options = parser.parse_args()
    tables = [
        simulate(studies=options.studies, points=points, bootstrap=options.bootstrap)
        for points in (None, 12, 8, 6)
    ]
    print(pd.concat(tables).to_csv(sep="\t", index=False, float_format="%.3g"), end="")


if __name__ == "__main__":
    main()
