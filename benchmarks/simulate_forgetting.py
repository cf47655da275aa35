"""Is noise called forgetting, and is forgetting found? Rates of the verdicts of forgetting.tsv.

    python benchmarks/simulate_forgetting.py --draws 500

noise: accuracy stays at 0.5; answers drift with the given persistence. learning: from 0.3 to 0.7.
forgetting: a share of the examples, held in the first half, is lost for good at a random later time. peak:
accuracy from 0.4 up to 0.7 and back.
"""

import argparse
import itertools
import zlib
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ebbtide.statistics.forgetting.forgetting import summarise_histories
from ebbtide.statistics.forgetting.history import history
from ebbtide.statistics.panel import Trajectory
from simulated import simulate

TRUTHS = ("noise", "learning", "forgetting", "peak")
LOST = 0.15  # share of examples that are truly forgotten, of `forgetting`


def made_up(rng: np.random.Generator, truth: str, T: int, n: int, persistence: float) -> np.ndarray:
    """Answers (T, n) of a truth of `TRUTHS`."""
    means = {
        "learning": np.linspace(0.3, 0.7, T),
        "peak": 0.7 - 0.3 * np.abs(np.linspace(-1, 1, T)),
    }.get(truth, np.full(T, 0.5))
    values = simulate(rng, T, n, means, persistence, 1.0)
    if truth == "forgetting":
        for example in range(int(LOST * n)):
            end = rng.integers(T // 2, T - T // 4)
            values[:end, example], values[end:, example] = 1, 0
    return values


def called(
    truth: str, T: int, n: int, persistence: float, *, draws: int, alpha: float = 0.05
) -> dict[str, float]:
    """Shares of draws whose unadjusted p say `forgets` (p_net), and `turnover` (p_flicker, but not p_net)."""
    rng = np.random.default_rng(zlib.crc32(f"{truth} {T} {n} {persistence}".encode()))
    steps = np.arange(1, T + 1)
    places = pd.DataFrame({"checkpoint": [f"step{s}" for s in steps], "step": steps, "tokens": 1000 * steps})
    verdicts, excess = [], []
    for draw in range(draws):
        values = made_up(rng, truth, T, n, persistence)
        names = np.arange(n).astype(str)
        one = Trajectory("m", f"t{draw}", places, {}, names, np.arange(n), {"accuracy": values})
        found = history(one, "accuracy", streak=None, size=0)
        [row] = summarise_histories([found], alpha).to_dict("records")  # a family of one: nothing to adjust
        verdicts.append(row["verdict"])
        excess.append(row["forgotten_excess_share"])
    shares = {name: verdicts.count(name) / draws for name in ("forgets", "turnover")}
    return {**shares, "excess_share": float(np.mean(excess))}


def simulate_forgetting(draws: int) -> pd.DataFrame:
    """One row per truth, checkpoints, examples and persistence; nominal is 0.05 for noise."""
    return pd.DataFrame(list(_rows(draws)))


def _rows(draws: int) -> Iterator[dict[str, object]]:
    for truth, (T, n), persistence in itertools.product(
        TRUTHS, [(8, 200), (8, 1000), (40, 200)], [0.0, 0.5, 0.9]
    ):
        yield {
            "truth": truth,
            "checkpoints": T,
            "n": n,
            "persistence": persistence,
            **called(truth, T, n, persistence, draws=draws),
            "draws": draws,
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    print(simulate_forgetting(parser.parse_args().draws).to_csv(sep="\t", index=False, float_format="%.3g"))
