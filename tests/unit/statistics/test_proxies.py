"""Proxies: metrics that only cells have by example, ranks within sizes, and choices on held-out runs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from curves import trajectory
from ebbtide.cells.cell import write_cell
from ebbtide.metrics.measure import measure_checkpoint
from ebbtide.statistics.panel import Trajectory, read_trajectories
from ebbtide.statistics.replicates import Place
from ebbtide.statistics.resolution.decisions import rank_interval, wilson
from ebbtide.statistics.resolution.ends import ends_of
from ebbtide.statistics.resolution.notices import notices
from ebbtide.statistics.resolution.tables import resolution_tables, tables_of
from ebbtide.statistics.resolution.windows import Settings, means_by_task, windows_of, windows_of_means
from ebbtide.tables import METRICS, REQUESTS, read_footer, read_frame, write_parquet
from ebbtide.tasks.texts import text_digests, texts_record
from metrics_tables import table

LOOK = Settings(5, ["accuracy"], 0.05)
STEPS = (100, 200, 300, 400, 500, 600)
Tables = tuple[pd.DataFrame, pd.DataFrame]


class Study:
    """Cells of eight arms: the best answers right most often, with the least probability of each answer."""

    def __init__(self, root: Path, arms: int = 8, n: int = 300) -> None:
        rng = np.random.default_rng(0)
        hard, self.root, self.places = rng.standard_normal(n), root, {}
        names, choices = np.repeat([f"e{i:03}" for i in range(n)], 2), np.tile([0, 1], n)
        texts = {"context": names, "continuation": np.tile([" right", " wrong"], n)}
        asked = pd.DataFrame({"example": names, "choice": choices, **texts, "gold": choices == 0})
        record = {"task": "t", "definition": {}, "texts": texts_record(text_digests(asked))}
        write_parquet(asked, root / "t.parquet", REQUESTS, record)
        sha256 = read_footer(root / "t.parquet", REQUESTS)["content_sha256"]
        self.expected: list[dict[str, object]] = []
        self.cells: list[Path] = []
        for arm in range(arms):
            self.places[f"m{arm}"] = Place(f"m{arm}", f"arm{arm}", "1M", 10**6)
            for step in STEPS:
                margin = 0.5 * arm - 1.75 + hard + 0.3 * rng.standard_normal(n)
                right = -20 - arm + 0.3 * rng.standard_normal(n)
                rows = asked[["example", "choice"]].assign(
                    loglikelihood=np.column_stack([right, right - margin]).ravel(),
                    **{name: 6 for name in ("tokens", "bytes", "characters", "context_tokens")},
                    greedy=False,
                    first_token_loglikelihood=0.0,
                    truncated=False,
                )
                footer = {"requests": len(rows), "requests_sha256": sha256}
                footer |= {"parameters_total": 10**6, "parameters_non_embedding": 10**6}
                cell = {"task": "t", "identity": {"recipe": 0}, "measuring": {}}
                place = {"model": f"m{arm}", "checkpoint": f"step{step}", "step": step}
                self.expected.append(
                    {**place, "tokens": 1000 * step, "parameters_nominal": 10**6, "cells": [cell]}
                )
                self.cells.append(root / f"m{arm}/{step}.parquet")
                write_cell(rows, self.cells[-1], {"recipe": 0}, footer)

    def measure(self) -> tuple[pd.DataFrame, list[Path]]:
        found, examples = [], []
        for number, (cell, expected) in enumerate(zip(self.cells, self.expected, strict=True)):
            files = [self.root / f"{kind}{number}.parquet" for kind in ("metrics", "examples")]
            measure_checkpoint([cell], [self.root / "t.parquet"], expected, *files)
            found.append(read_frame(files[0], METRICS))
            examples.append(files[1])
        return pd.concat(found, ignore_index=True), examples

    def tables(self, followed: str = "accuracy") -> Tables:
        metrics, examples = self.measure()
        last = [i for i, of in enumerate(self.expected) if of["step"] in STEPS[-5:]]
        ends = ends_of(
            [self.expected[i] for i in last], [self.cells[i] for i in last], [self.root / "t.parquet"]
        )
        settings = Settings(5, [followed], 0.05)
        return resolution_tables(read_trajectories(examples), metrics, self.places, settings, ends=ends)


def test_bits_per_byte_run_against_accuracy_and_normalised_probability_follows_it(tmp_path: Path) -> None:
    """From cells to the table: where the right answer alone misleads, and the choice between answers not."""
    study = Study(tmp_path)
    rows, proxies = study.tables()
    verdicts = dict(zip(proxies["proxy"], proxies["verdict"], strict=True))
    against = {name for name, verdict in verdicts.items() if verdict == "runs against"}
    supported = {name for name, verdict in verdicts.items() if verdict == "supported"}
    of_gold = {"gold_bits_per_byte", "gold_probability", "gold_probability_per_byte", "coverage"}
    assert of_gold <= against
    assert {f"choice_probability_per_{unit}" for unit in ("byte", "character", "token")} <= supported
    assert {"gold_rank", "brier", "choice_probability"} <= supported and not against & supported
    bits = proxies.set_index("proxy").loc["gold_bits_per_byte"]
    assert bits["rank_correlation_high"] < 0
    assert not proxies["note"].str.contains("only means are known").any()  # their cells were read
    found = [notice.detail for notice in notices(rows, proxies) if notice.kind == "suspicious"]
    assert "gold_bits_per_byte runs against accuracy on t (proxies.tsv)." in found
    columns = pq.read_schema(tmp_path / "examples0.parquet").names
    assert "accuracy_per_byte" in columns and "choice_probability_per_byte" not in columns


def test_a_metric_that_only_cells_have_by_example_is_judged_as_others_are(tmp_path: Path) -> None:
    study = Study(tmp_path, arms=2, n=100)
    row = study.tables("choice_probability_per_byte")[0].iloc[0]
    assert row["metric"] == "choice_probability_per_byte" and row["noise_of"] == "examples, checkpoints"
    assert "upper bounds" not in row["reason"] and row["examples_to_halve"] > 0
    metrics, examples = study.measure()
    settings = Settings(5, ["choice_probability_per_byte"], 0.05)
    bare = resolution_tables(read_trajectories(examples), metrics, study.places, settings)[0].iloc[0]
    assert "only means are known" in bare["note"] and bare["mde_averaged"] > 1.2 * row["mde_averaged"]
    assert (bare["signal"], bare["step_noise"]) == pytest.approx((row["signal"], row["step_noise"]))


def of_means(metric: str, value: Callable[[int, np.ndarray], np.ndarray], models: int = 3) -> pd.DataFrame:
    tokens = np.arange(20, 26)
    rows = [table("t", value(i, tokens), np.full(6, i), tokens, metric=metric) for i in range(models)]
    frame = pd.concat(rows, ignore_index=True).assign(stderr=0.05, n=200, chance=np.nan, parameters_nominal=0)
    return frame.assign(checkpoint="step" + frame["step"].astype(str))


def place(model: str) -> Place:
    return Place(model, model, "1M", 1)


def test_the_error_of_ratings_is_judged_beside_their_coverage() -> None:
    """Means of squares have no values by example in the tables of examples; their root is the metric."""
    rng = np.random.default_rng(0)
    metrics = of_means("rmse", lambda i, x: 1.0 + 0.3 * i + 0.01 * rng.standard_normal(len(x)))
    models = list(metrics["model"].unique())
    places = {model: place(model) for model in models}
    covered = [
        trajectory(0.9 + 0.01 * rng.standard_normal((6, 200)), model, metric="coverage") for model in models
    ]
    rows, proxies = resolution_tables(covered, metrics, places, LOOK)
    assert list(rows["metric"]) == ["rmse"] and list(proxies["proxy"]) == ["coverage"]
    assert rows["verdict"].iloc[0].startswith("use")
    of_model = means_by_task(metrics, places)[models[0], "t"]
    [last] = windows_of_means(of_model, places[models[0]], LOOK)
    names = np.array([f"e{i}" for i in range(200)])
    squares = np.tile(rng.standard_normal(200) ** 2, (5, 1))
    end = Trajectory(
        models[0],
        "t",
        of_model[["checkpoint", "step", "tokens"]].iloc[-5:].reset_index(drop=True),
        {},
        names,
        np.arange(200),
        {"rmse": squares},
    )
    [known] = windows_of_means(of_model, places[models[0]], LOOK, lambda model, task: end)
    assert (last.examples, last.halves.shape[0], known.halves.shape) == ("", 0, (2, 5))
    by_delta = squares[0].std() / np.sqrt(200) / (2 * np.sqrt(squares[0].mean()))
    assert known.deviations.std(axis=0) == pytest.approx(by_delta, rel=0.1)
    assert known.halves[0] == pytest.approx(np.sqrt(squares[0, ::2].mean()))
    earlier = replace(end, checkpoints=end.checkpoints.assign(checkpoint="step1"))
    [other] = windows_of_means(of_model, places[models[0]], LOOK, lambda model, task: earlier)
    assert other.examples == ""  # of other checkpoints


def test_infinite_means_are_left_out_and_a_notice_says_where() -> None:
    rng = np.random.default_rng(0)
    metrics = of_means("sequence_perplexity", lambda i, x: 50 + i + 0.1 * rng.standard_normal(len(x)))
    metrics.loc[1, "value"] = np.inf
    models = list(metrics["model"].unique())
    places = {model: place(model) for model in models}
    look = Settings(5, ["sequence_perplexity", "log_odds"], 0.05)
    rows, proxies = resolution_tables([], metrics, places, look)
    assert rows["models"].tolist() == [2] and "nan" not in rows["reason"].iloc[0]
    [said] = [n.detail for n in notices(rows, proxies, metrics, look.targets) if "infinite" in n.detail]
    where = metrics.loc[1, "checkpoint"]
    assert said == (
        f"resolution.tsv leaves out sequence_perplexity of {models[0]} on t: it is infinite at {where}."
    )
    metrics["value"] = np.inf
    rows, proxies = resolution_tables([], metrics, places, look)
    assert rows.empty
    found = [n.detail for n in notices(rows, proxies, metrics, look.targets)]
    assert any("no row for t: their values are infinite at trained" in detail for detail in found)
    values = np.full((6, 50), 2.0)
    values[3, 7] = np.inf
    assert not windows_of(trajectory(values, metric="sequence_loss"), place("m"), LOOK, {})


def test_a_followed_metric_without_a_better_end_or_a_value_has_its_reason() -> None:
    metrics = of_means("accuracy", lambda i, x: 0.5 + 0.1 * i + 0.01 * np.sin(x * (i + 1)))
    odds = metrics.assign(metric="ties")
    gone = metrics.assign(metric="accuracy_pmi", value=np.nan)
    both = pd.concat([metrics, odds, gone], ignore_index=True)
    places = {str(model): place(str(model)) for model in metrics["model"].unique()}
    look = Settings(5, ["accuracy", "ties", "accuracy_pmi"], 0.05)
    rows, proxies = resolution_tables([], both, places, look)
    assert set(rows["metric"]) == {"accuracy"}
    found = [n.detail for n in notices(rows, proxies, both, look.targets)]
    assert "resolution.tsv does not judge ties, of which neither higher nor lower is better." in found
    assert "resolution.tsv does not judge accuracy_pmi on t: it has no value there." in found


def ladder(
    arms: Sequence[float], sizes: int, seeds: int = 1, sign: int = 1, noise: float = 0.0
) -> list[tuple[Trajectory, Place]]:
    """Runs whose accuracy is that of their arm, plus 0.1 a size; two proxies, of which one follows it."""
    rng = np.random.default_rng(0)
    models = []
    for size in range(sizes):
        for arm, effect in enumerate(arms):
            for seed in range(seeds):
                own = effect + 0.004 * rng.standard_normal()
                level = 0.2 + 0.1 * size + own + 0.002 * np.arange(8)[:, None]
                values = level + 0.02 * rng.standard_normal((8, 200))
                follows = 0.2 - 0.1 * size * sign + own + 0.02 * rng.standard_normal((8, 200))
                chance = rng.standard_normal() + 0.02 * rng.standard_normal((8, 200))
                name = f"m{arm}-{size}-{seed}"
                one = trajectory(values, name, margin=follows, choice_probability=chance)
                models.append((one, Place(name, f"arm{arm}", f"{10**size}M", 10**size, seed=seed)))
    return models


def proxies_of(models: Sequence[tuple[Trajectory, Place]]) -> pd.DataFrame:
    windows = [window for one, at in models for window in windows_of(one, at, LOOK, {})]
    return tables_of(windows, LOOK)[1].set_index("proxy")


def test_without_four_runs_of_a_size_runs_are_ranked_within_sizes() -> None:
    """The order of sizes is the opposite of that of arms, and does not count."""
    row = proxies_of(ladder([0.0, 0.05, 0.1], 8, sign=1)).loc["margin"]
    assert (row["over"], row["runs"], row["verdict"]) == ("runs within 8 sizes", 24, "supported")
    assert row["rank_correlation"] > 0.9
    assert "24 runs within 8 sizes; these are 3 arms, and others are not tested" in row["reason"]
    alone = proxies_of(ladder([0.0], 4)).loc["margin"]
    assert alone["over"] == "runs of all sizes" and alone["rank_correlation"] < 0
    four = proxies_of(ladder([0.0, 0.05, 0.1, 0.15], 2)).loc["margin"]
    assert (four["over"], four["runs"]) == ("runs of size 10M", 4)


def test_a_proxy_is_validated_on_seeds_that_were_not_there_when_it_was_chosen() -> None:
    rows = proxies_of(ladder([0.0, 0.03, 0.06, 0.09], 1, seeds=3))
    follows, chance = rows.loc["margin"], rows.loc["choice_probability"]
    assert (follows["held_out"], follows["held_out_chosen"]) == ("3 seeds", 3)
    assert follows["held_out_correlation"] > 0.8 and follows["held_out_correlation_low"] > 0.3
    assert "on 3 of 3 held-out seeds, for which it is the best elsewhere: " in follows["reason"]
    assert chance["held_out_chosen"] == 0 and np.isnan(chance["held_out_correlation"])


def test_runs_of_one_seed_are_held_out_together_in_any_order() -> None:
    """Arms that list the same seeds in other orders have no seed in two folds."""
    models = ladder([0.0, 0.03, 0.06, 0.09], 1, seeds=3)
    shuffled = sorted(models, key=lambda of: (of[1].arm, (of[1].seed + int(of[1].arm[3:])) % 3))
    assert [at.seed for _, at in shuffled[:6]] == [0, 1, 2, 2, 0, 1]
    columns = ["held_out", "held_out_chosen", "held_out_correlation"]
    assert proxies_of(shuffled)[columns].equals(proxies_of(models)[columns])


@pytest.mark.parametrize(
    ("seeds", "held"),
    [
        ([[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]], "3 seeds"),
        ([[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]], "3 sets of one run per arm"),
        ([[None] * 3] * 4, "3 sets of one run per arm"),
        ([[0, 1, None], [0, 1, None], [0, 1, None], [0, 1, None]], "3 sets of one run per arm"),
        ([[0, 1, None], [1, 0, None], [None] * 3, [None] * 3], ""),
    ],
)
def test_what_is_held_out_follows_from_what_is_known_of_seeds(seeds: list[list[int]], held: str) -> None:
    models = ladder([0.0, 0.03, 0.06, 0.09], 1, seeds=3)
    stated = [replace(at, seed=seed) for (_, at), seed in zip(models, np.ravel(seeds), strict=True)]
    row = proxies_of([(one, at) for (one, _), at in zip(models, stated, strict=True)]).loc["margin"]
    assert row["held_out"] == held
    assert ("seeds are not all known, or not shared by the arms" in row["note"]) == held.endswith("per arm")


def test_without_seeds_sizes_are_held_out_and_without_either_the_note_says_so() -> None:
    row = proxies_of(ladder([0.0, 0.05, 0.1], 8)).loc["margin"]
    assert (row["held_out"], row["held_out_chosen"]) == ("8 sizes", 8)
    assert "on 8 of 8 held-out sizes" in row["reason"]
    alone = proxies_of(ladder([0.0], 4)).loc["margin"]
    assert alone["held_out"] == "" and "no held-out correlation: too few runs" in alone["note"]


def test_the_interval_of_one_group_is_fishers_and_within_pairs_that_of_a_share() -> None:
    one, within = rank_interval(0.5, [8], 0.05), rank_interval(0.5, [2] * 8, 0.05)
    reach = 1.959964 * np.sqrt((1 + 0.5**2 / 2) / 5)
    assert one[1:] == pytest.approx((np.tanh(np.arctanh(0.5) - reach), np.tanh(np.arctanh(0.5) + reach)))
    assert (1 + within.low) / 2 == pytest.approx(wilson(0.75, 8, 0.05).low, abs=0.001)
    assert (1 + within.high) / 2 == pytest.approx(wilson(0.75, 8, 0.05).high, abs=0.001)
    assert np.isnan(rank_interval(0.9, [2, 2], 0.05).low)
    perfect = rank_interval(1.0, [2] * 3, 0.05)
    assert perfect.low < 0  # three pairs in the right order happen one time in eight
