"""Trends of made-up trajectories with a known truth: levels, coverage, power, and which class is found.

PYTHONPATH=workflow python benchmarks/simulate_trends.py [--draws 200] [--seeds]
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from ebbtide.statistics.detectable import noise_of
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.resampling import bootstrap, named_rng
from ebbtide.statistics.shape import (
    ALPHA,
    CLASSES,
    EQUIVALENCE_MARGIN,
    classify,
    shape_of,
    turn_detectable,
    turning_pairs,
)
from ebbtide.statistics.simultaneous import all_pairs, means_of
from ebbtide.statistics.trends.bend import bend_of
from ebbtide.statistics.trends.early_warning import leads
from ebbtide.statistics.trends.seeds import seed_table, size_difference
from ebbtide.statistics.trends.slopes import interval, p_of_mean, slope_weights
from ebbtide.statistics.trends.trends import NO_BEND, MetricTrend
from simulated import flicker, simulate, simulate_runs

T = 9
X = np.linspace(0, 2.4, T)  # log10 tokens
ALONG = np.linspace(-1, 1, T)
SHAPES = {
    "rising": 0.5 + 0.15 * ALONG,
    "falling": 0.5 - 0.15 * ALONG,
    "U-shaped": 0.35 + 0.3 * np.abs(ALONG),
    "inverted-U": 0.65 - 0.3 * np.abs(ALONG),
    "flat": np.full(T, 0.5),
    "undecided": 0.5 + 0.15 * (-1.0) ** np.arange(T),  # up and down in turn
}
PLATEAU = 0.6 - 0.3 * np.maximum(0, 1 - (ALONG + 1))  # rises, then stays
SIZES, PERSISTENCE = (200, 1000, 5000), (0.0, 0.5, 0.9)
Row = dict[str, object]


def trends(draws: int = 200) -> pd.DataFrame:
    """All simulations: `what, setting, nominal, found, draws`."""
    parts = (_slopes, _classes, _wrong_classes, _turns, _bends, _leads, seeds)
    return pd.DataFrame([row for part in parts for row in part(draws)])


def _rate(what: str, setting: str, nominal: float, draws: int, hit: Callable[[int], bool]) -> Row:
    found = float(np.mean([hit(draw) for draw in range(draws)]))
    return {"what": what, "setting": setting, "nominal": nominal, "found": found, "draws": draws}


def _drawn(setting: str, draw: int, means: np.ndarray, n: int, persistence: float) -> np.ndarray:
    return simulate(named_rng(f"{setting} {draw}"), len(means), n, means, persistence, 1.0)


def _settings() -> Iterator[tuple[int, float, str]]:
    for n in SIZES:
        for persistence in PERSISTENCE:
            yield n, persistence, f"n {n}, persistence {persistence}"


def _slopes(draws: int) -> Iterator[Row]:
    weights = slope_weights(X)
    for n, persistence, setting in _settings():
        clusters = np.arange(n)

        def covers(draw: int, n: int = n, persistence: float = persistence, s: str = setting) -> bool:
            values = _drawn(s, draw, SHAPES["rising"], n, persistence)
            resampled = bootstrap(values, clusters, s, 1000) @ weights  # noqa: B023 (used at once)
            low, high = interval(resampled, float(weights @ values.mean(axis=1)), n, 0.05)
            return low <= weights @ SHAPES["rising"] <= high

        def rejects(draw: int, n: int = n, persistence: float = persistence, s: str = setting) -> bool:
            values = _drawn(s, draw, SHAPES["flat"], n, persistence)
            return p_of_mean(weights @ values, clusters) < 0.05  # noqa: B023 (used at once)

        yield _rate("interval of the slope covers", setting, 0.95, draws, covers)
        yield _rate("trend test rejects no trend", setting, 0.05, draws, rejects)


def _classes(draws: int) -> Iterator[Row]:
    """The confusion table: every class that is found for every true shape."""
    for truth, means in SHAPES.items():
        for n, persistence, setting in _settings():
            found = [classify(_drawn(setting, d, means, n, persistence)).name for d in range(draws)]
            for name in CLASSES:
                if share := found.count(name) / draws:
                    yield {
                        "what": f"{truth} is called {name}",
                        "setting": setting,
                        "nominal": 1.0 if name == truth else 0.0,
                        "found": share,
                        "draws": draws,
                    }


def _wrong_classes(draws: int) -> Iterator[Row]:
    for n, persistence, setting in _settings():

        def changes(draw: int, n: int = n, persistence: float = persistence, s: str = setting) -> bool:
            values = _drawn(s, draw, SHAPES["flat"], n, persistence)
            found = classify(values)
            return found.name != "flat" and not found.note.startswith("no change")

        def turns(draw: int, n: int = n, persistence: float = persistence, s: str = setting) -> bool:
            return classify(_drawn(s, draw, PLATEAU, n, persistence)).name == "inverted-U"

        yield _rate("a change is found in a flat curve", setting, 0.05, draws, changes)
        yield _rate("a rise to a plateau is called inverted-U (at most)", setting, 0.05, draws, turns)


def turned(number: int, n: int, persistence: float, *, rises: bool, depth: float = 0.0) -> tuple[str, float]:
    """The class of a curve that turns by `depth` in straight lines, and how deep a turn would be found."""
    middle = T // 2
    rise = 0.3 * np.minimum(np.arange(T), middle) / middle if rises else np.zeros(T)
    turn = np.interp(np.arange(T), [0, middle, T - 1], [0.0, 0.0, depth] if rises else [0.0, depth, 0.0])
    values = flicker(named_rng(f"turn {number}"), n, 0.4 + rise - turn, persistence)
    clusters = np.arange(n)
    pairs = all_pairs(means_of(values, clusters, f"turn {number}", 1000))
    found = shape_of(pairs, ALPHA, EQUIVALENCE_MARGIN, 1)
    start, end = turning_pairs(T)
    noise = noise_of(values[end], values[start], clusters, shares=True)
    return found.name, turn_detectable(found.name, noise, pairs.greatest.critical(ALPHA))


def _turns(draws: int) -> Iterator[Row]:
    """Turns of the depth that is printed beside curves that rise, or stay, without a turn."""
    for n, persistence, setting in _settings():
        for rises in (True, False):
            depth = float(np.nanmedian([turned(d, n, persistence, rises=rises)[1] for d in range(60)]))

            def found(
                draw: int, n: int = n, p: float = persistence, r: bool = rises, d: float = depth
            ) -> bool:
                return turned(1000 + draw, n, p, rises=r, depth=d)[0] in ("U-shaped", "inverted-U")

            where = f"{setting}, {'rising' if rises else 'flat'}: a turn of {depth:.4f}"
            yield _rate("a turn of the printed depth is found", where, 0.8, draws, found)


def _bends(draws: int) -> Iterator[Row]:
    for n, persistence, setting in _settings():
        clusters = np.arange(n)
        for knot, change in ((1.2, 0.0), (1.2, -0.25), (1.03, -0.25)):
            means = 0.6 + change * np.maximum(X - knot, 0)
            found = []
            for draw in range(draws):
                values = _drawn(setting, draw, means, n, persistence)
                resampled = bootstrap(values, clusters, setting, 1000)
                found.append(bend_of(means_of(values, clusters, setting, 1000), resampled, X, 0.05))
            rejected = [bend for bend in found if bend.p <= 0.05]
            where = f"{setting}, slope changes by {change} at {knot}"
            row = {"setting": where, "draws": draws}
            share = len(rejected) / draws
            yield row | {"what": "bend test rejects", "nominal": 1.0 if change else 0.05, "found": share}
            if change and rejected:
                hits = float(np.mean([bend.low <= knot <= bend.high for bend in rejected]))
                row["draws"] = len(rejected)
                yield row | {"what": "interval of the bend covers", "nominal": 0.95, "found": hits}


def _leads(draws: int) -> Iterator[Row]:
    """A signal that shares its examples with accuracy and has less noise, over a fall of the same shape."""
    places = pd.DataFrame(
        {"checkpoint": [f"c{t}" for t in range(T)], "step": range(T), "tokens": 10**X * 1e6}
    )
    for n in (200, 1000):
        for lead in (0.0, 0.3):
            setting = f"n {n}, lead {lead} decades"
            p, covered = [], []
            for draw in range(draws):
                rng = named_rng(f"{setting} {draw}")
                means, signal = (0.4 + 0.3 / (1 + np.exp((X - m) / 0.2)) for m in (1.2, 1.2 - lead))
                values = simulate(rng, T, n, means, 0.5, 1.0)
                margin = signal[:, None] + 0.15 * (values - means[:, None])
                margin += 0.15 * rng.standard_normal((T, n))
                names = np.arange(n)
                both = {"accuracy": values, "margin": margin}
                one = Trajectory("m", setting, places, {"non_embedding": 1}, names, names, both)
                [row] = leads(one, 0.05)
                if not np.isnan(row["p"]):
                    p.append(row["p"])
                    covered.append(row["low"] <= lead <= row["high"])
            row = {"setting": setting, "draws": len(p)}
            nominal = 1.0 if lead else 0.05
            yield row | {"what": "lead is found", "nominal": nominal, "found": np.mean(np.array(p) < 0.05)}
            yield row | {"what": "interval of the lead covers", "nominal": 0.95, "found": np.mean(covered)}


INTERVALS = ("", "_seeds", "_examples")  # of other seeds and examples, other seeds, other examples


def seeds(draws: int) -> Iterator[Row]:
    """Intervals of the slope of a recipe; the noise of seeds is up to five times that of examples."""
    for runs in (2, 3, 9):
        for sd in (0.0, 0.02, 0.1):
            for binary in (True, False):
                yield from seed_coverage(runs, sd, draws, binary=binary)
            yield size_coverage(runs, sd, draws)


def seed_coverage(runs: int, sd: float, draws: int, *, binary: bool, n: int = 300) -> Iterator[Row]:
    """Coverage for `runs` runs whose slopes have the standard deviation `sd` over seeds.

    What other seeds show on the same examples, and the same runs on other examples, is only known of
    continuous values, where examples have slopes of their own that all runs share.
    """
    setting = f"{'answers' if binary else 'continuous'}, runs {runs}, sd of seeds {sd:g}"
    inside: dict[str, list[bool]] = {end: [] for end in (INTERVALS[:1] if binary else INTERVALS)}
    centred, slope = X - X.mean(), 0.1
    for draw in range(draws):
        rng = named_rng(f"{setting} {draw}")
        own = sd * rng.standard_normal(runs)
        means = 0.5 + (slope + own)[:, None] * centred  # (R, T)
        values = simulate_runs(rng, means, n, 0.5, 1.0, binary=binary)
        of_examples = np.zeros(n) if binary else 0.4 * rng.standard_normal(n)
        values = values + centred[:, None] * of_examples
        [row] = seed_table(
            [_trend(f"m{run}", one) for run, one in enumerate(values)],
            {f"m{run}": "recipe" for run in range(runs)},
        ).to_dict("records")
        truth = {"": slope, "_seeds": slope + of_examples.mean(), "_examples": slope + own.mean()}
        for end, hits in inside.items():
            hits.append(row[f"low{end}"] <= truth[end] <= row[f"high{end}"])
    for end, hits in inside.items():
        what = {"": "seeds and examples", "_seeds": "seeds", "_examples": "examples"}[end]
        yield {
            "what": f"interval of the slope of a recipe covers, {what}",
            "setting": setting,
            "nominal": 0.95,
            "found": float(np.mean(hits)),
            "draws": draws,
        }


def size_coverage(runs: int, sd: float, draws: int, n: int = 300) -> Row:
    """Coverage of the difference of two sizes of `runs` runs; the smaller one learns nothing."""
    setting = f"answers, runs {runs} and {runs}, sd of seeds {sd:g}"

    def covers(draw: int) -> bool:
        rng = named_rng(f"{setting} {draw}")
        slopes = np.repeat([0.0, 0.1], runs) + sd * rng.standard_normal(2 * runs)
        values = simulate_runs(rng, 0.5 + slopes[:, None] * (X - X.mean()), n, 0.5, 1.0)
        trends = [_trend(f"m{run}", one) for run, one in enumerate(values)]
        low, high = size_difference(("small", trends[:runs]), ("large", trends[runs:])).interval(ALPHA)
        return low <= 0.1 <= high

    return _rate("interval of the difference of sizes covers", setting, 0.95, draws, covers)


def _trend(model: str, values: np.ndarray) -> MetricTrend:
    """The slopes of examples alone, values (T, n)."""
    names = np.arange(values.shape[1])
    slopes = slope_weights(X) @ values
    drawn = bootstrap(slopes[None], names, "recipe", 1000)[:, 0]
    places = pd.DataFrame({"tokens": X})
    none = (np.nan, None, None, NO_BEND, 1.0, ())
    return MetricTrend(model, "t", "accuracy", 1, places, names, names, slopes, drawn, *none)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seeds", action="store_true", help="slopes of recipes alone, over seeds")
    options = parser.parse_args()
    found = pd.DataFrame(seeds(options.draws)) if options.seeds else trends(options.draws)
    print(found.to_string(index=False, float_format="%.3f"))
