"""Proxies, of made-up runs with a known truth: coverage of correlations and leads, wrong support.

PYTHONPATH=workflow python benchmarks/simulate_proxies.py --draws 200
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy.stats import rankdata

from ebbtide.statistics.replicates import Place
from ebbtide.statistics.resampling import named_rng
from ebbtide.statistics.resolution.curves import Change, Curve, Summary
from ebbtide.statistics.resolution.decisions import decisions, rank_interval
from ebbtide.statistics.resolution.proxies import SUPPORTED
from ebbtide.statistics.resolution.ranks import held_out, rank_of
from ebbtide.statistics.resolution.tables import tables_of
from ebbtide.statistics.resolution.windows import Settings, Window, windows_of
from simulate_resolution import ALPHA, Row, T, World, made_up, print_parts


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


def within(draws: int) -> Iterator[Row]:
    """Coverage of rank correlations within sizes of few runs, from true values without examples."""
    for groups, truth in itertools.product(
        ([2] * 8, [3] * 4, [3] * 8, [8, 2, 2, 2], [4, 4]), (0.0, 0.5, 0.9)
    ):
        rng = named_rng(f"within {groups} {truth}")
        found = []
        for _ in range(min(20_000, 10 * draws)):
            ranks = [np.empty((2, 0))]
            for k in groups:
                a = rng.standard_normal(k)
                b = truth * a + np.sqrt(1 - truth**2) * rng.standard_normal(k)
                ranks.append((np.stack([rankdata(a), rankdata(b)]) - (k + 1) / 2) / (k + 1))
            a, b = np.concatenate(ranks, axis=1)
            found.append(float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())))
        exact = float(np.mean(found))  # of few runs, between Kendall's and Spearman's
        intervals = [rank_interval(rho, groups, ALPHA) for rho in found]
        yield {
            "what": "interval covers, rank_correlation within sizes",
            "setting": f"sizes of {groups} runs, correlation {truth}",
            "found": float(np.mean([one.low <= exact <= one.high for one in intervals])),
            "draws": len(found),
        }


def leads(draws: int) -> Iterator[Row]:
    """Leads of a proxy by known decades of tokens."""
    tokens = 1000.0 * 2 ** (np.arange(T) / 2)
    look, at = Settings(5, ["accuracy"], ALPHA), np.arange(T)
    for lead, n, runs in itertools.product((0.0, 0.6), (500, 2000), (1, 4)):
        world = World(arms=runs, n=n)
        covered, known = [], 0
        late, early = (
            0.3 + 0.4 / (1 + np.exp(-(at - 14 + shift))) for shift in (0.0, lead / np.log10(2) * 2)
        )
        for draw in range(draws):
            rng = named_rng(f"leads {lead} {n} {runs} {draw}")
            wiggles = 0.005 * rng.standard_normal((2, runs, T))
            target, proxy = (
                made_up(world, 2 * draw + i, curve + wiggles[i]) for i, curve in enumerate((late, early))
            )
            windows: list[Window] = []
            for a, b in zip(target, proxy, strict=True):
                values = {"accuracy": a.values["accuracy"], "choice_probability": b.values["accuracy"]}
                one = replace(a, values=values, checkpoints=a.checkpoints.assign(tokens=tokens))
                windows += windows_of(one, Place(a.model, a.model, "1M", 1), look, {})
            row = tables_of(windows, look)[1].iloc[0]
            known += int(not np.isnan(row["lead"]))
            covered.append(row["lead_low"] <= lead <= row["lead_high"])
        where = f"{runs} runs, {n} examples, lead {lead}"
        yield {"what": "found, lead", "setting": where, "found": known / draws, "draws": draws}
        share = np.sum(covered) / max(known, 1)
        yield {"what": "interval covers, lead", "setting": where, "found": share, "draws": known}


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


def held(draws: int) -> Iterator[Row]:
    """The best of 20 proxies that have nothing to do with the target, over 3 seeds of 4 arms.

    If only seeds differ, its correlation is luck on the runs on which it was chosen, and not on others. If
    its arms differ as well, their order is the same with each seed.
    """
    for share in (0.0, 0.5):
        chosen, best = [], []
        for draw in range(draws):
            rng = named_rng(f"held {share} {draw}")
            names = ["target", *(f"proxy{i}" for i in range(20))]
            arms = np.sqrt(share) * rng.standard_normal((len(names), 4, 1))
            values = arms + np.sqrt(1 - share) * rng.standard_normal((len(names), 4, 3))
            target, *proxies = [
                [_end(name, of, i) for i in range(12)] for name, of in zip(names, values, strict=True)
            ]
            pairs = {of[0].metric: {"1M": list(zip(target, of, strict=True))} for of in proxies}
            found = held_out(pairs, ALPHA)
            most = max(found.values(), key=lambda one: one.chosen)
            if not np.isnan(most.correlation.low):
                chosen.append(most.correlation.low > 0)
            naive = max((rank_of([of["1M"]], ALPHA) for of in pairs.values()), key=lambda one: one.value)
            best.append(naive.low > 0)
        where = "arms differ" if share else "only seeds differ"
        for what, hits in (("held-out correlation", chosen), ("rank correlation of the best", best)):
            yield {
                "what": f"wrongly above 0, {what}",
                "setting": f"20 unrelated proxies, 3 seeds of 4 arms, {where}",
                "found": float(np.mean(hits)),
                "draws": len(hits),
            }


def _end(metric: str, values: np.ndarray, run: int) -> Window:
    """A window without noise of examples and checkpoints, of values by arm and seed."""
    arm, seed = divmod(run, values.shape[1])
    place = Place(f"m{run}", f"arm{arm}", "1M", 1, seed=seed)
    flat, none = np.full(2, values[arm, seed]), np.zeros((0, 2))
    curve = Curve(*[Summary(0.0, none)] * 3, *[Change(0.0, False, Summary(0.0, none))] * 2, none)
    return Window(
        place, "t", metric, 2, 2, "e", flat, 0.0, flat, flat, none, np.stack([flat, flat]), curve, {}
    )


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    **{"orders": orders, "within": within},
    **{"leads": leads, "proxies": proxies, "held": held},
}


if __name__ == "__main__":
    print_parts(__doc__, PARTS)
