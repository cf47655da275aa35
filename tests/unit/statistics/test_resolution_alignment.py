"""Runs of one size are compared at the last tokens that all have, and what is left out is said."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from curves import trajectory
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.replicates import Place
from ebbtide.statistics.resolution.alignment import Axis, common_ends
from ebbtide.statistics.resolution.notices import notices
from ebbtide.statistics.resolution.tables import resolution_tables
from ebbtide.statistics.resolution.windows import Settings, means_by_task, windows_of_means

LOOK = Settings(5, ["accuracy"], 0.05)
EVERY = 1_000_000 * np.arange(1, 17)
Runs = list[tuple[Trajectory, Place]]


def run(model: str, arm: str, tokens: np.ndarray = EVERY, seed: int = 0) -> tuple[Trajectory, Place]:
    """The same curve for every run, which rises by half over 16M tokens."""
    hard = np.random.default_rng(0).random(400)
    level = 0.3 + 0.5 * np.log(tokens / 1e6) / np.log(16)
    one = trajectory((hard < level[:, None]).astype(float), model, tokens=tokens)
    return one, Place(model, arm, "100", 100, seed=seed)


def metrics_of(runs: Runs) -> pd.DataFrame:
    rows = [
        one.checkpoints.assign(
            model=one.model,
            task=one.task,
            metric=metric,
            value=values.mean(axis=1),
            stderr=values.std(axis=1, ddof=1) / np.sqrt(values.shape[1]),
            n=values.shape[1],
            chance=0.0,
        )
        for one, _ in runs
        for metric, values in one.values.items()
    ]
    return pd.concat(rows, ignore_index=True)


def tables(runs: Runs, look: Settings = LOOK, means: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    places = {place.model: place for _, place in runs}
    return resolution_tables([] if means else [one for one, _ in runs], metrics_of(runs), places, look)


def said(rows: pd.DataFrame, proxies: pd.DataFrame) -> str:
    return " ".join(notice.detail for notice in notices(rows, proxies))


@pytest.mark.parametrize("means", [False, True])
def test_an_arm_that_stopped_early_does_not_look_worse(means: bool) -> None:
    [row] = tables([run("a", "a"), run("b", "b", EVERY[:6])], means=means)[0].to_dict("records")
    assert row["signal"] == 0 and row["verdict"] == "cannot tell"
    assert "10 checkpoints of 1 model after 6M tokens left out, because others have none" in row["note"]
    assert "at 6M tokens, the last that all these runs have" in row["reason"]
    assert row["span"] == pytest.approx(4 / 6)  # of training until then
    whole = tables([run("a", "a"), run("b", "b")], means=means)[0].iloc[0]
    assert "left out" not in whole["note"] and "6M tokens" not in whole["reason"]


def test_a_seed_that_stopped_early_is_no_noise_of_seeds() -> None:
    rows, proxies = tables([run(f"a{i}", "a", EVERY[: 6 if i == 2 else 16], i) for i in range(3)])
    assert rows["sd_runs"].iloc[0] == 0 and rows["models"].iloc[0] == 3
    assert "20 checkpoints of 2 models after 6M tokens left out" in rows["note"].iloc[0]
    where = "resolution.tsv compares runs of size 100 on t before some of them end, at the "
    assert where in said(rows, proxies)
    assert where not in said(*tables([run(f"a{i}", "a", seed=i) for i in range(3)]))


def test_two_checkpoints_until_the_common_end_are_too_few_and_the_reason_is_true() -> None:
    rows, _ = tables([run("a", "a"), run("b", "b", EVERY[:2])])
    assert np.isnan(rows["step_noise"].iloc[0])
    assert rows["reason"].iloc[0].startswith("fewer than three trained checkpoints until 2M tokens, so")


@pytest.mark.parametrize("means", [False, True])
def test_runs_without_common_tokens_have_a_note_and_no_number(means: bool) -> None:
    runs = [run("a", "a"), run("b", "b", EVERY + 1000)]
    rows, proxies = tables(runs, means=means)
    row = rows.iloc[0]
    assert row[["signal", "step_noise", "mde_single", "mde_averaged"]].isna().all()
    assert (row["verdict"], row["models"]) == ("cannot tell", 2)
    why = "the 2 models of this size have no checkpoint at the same training tokens"
    assert why in row["note"] and row["reason"].startswith(why)
    assert "does not compare the models of size 100 on t: no two have a checkpoint at the same" in said(
        rows, proxies
    )
    near = tables(runs, replace(LOOK, tolerance=0.001), means=means)[0].iloc[0]
    assert near["signal"] == pytest.approx(0, abs=1e-3) and "left out" not in near["note"]


def test_a_run_that_shares_no_tokens_with_the_others_is_left_out() -> None:
    runs = [run("a", "a"), run("b", "b"), run("c", "c", EVERY[:4] + 500)]
    row = tables(runs)[0].iloc[0]
    assert row["models"] == 2
    assert "1 of 3 models has no checkpoint at 16M tokens, and is left out (c)" in row["note"]
    alone = tables(runs[:2])[0].iloc[0]
    assert row[["signal", "step_noise", "mde_single"]].equals(alone[["signal", "step_noise", "mde_single"]])


def test_proxies_rank_runs_at_common_tokens() -> None:
    """With ends at other tokens, a proxy and its target that only rise with training agree in all runs."""
    runs = []
    for i in range(6):
        one, place = run(f"m{i}", f"arm{i}", EVERY[: 16 - 2 * i])
        noise = 0.02 * np.random.default_rng(i).standard_normal(one.values["accuracy"].shape)
        margin = one.values["accuracy"].mean(axis=1, keepdims=True) + noise
        runs.append((replace(one, values={**one.values, "margin": margin}), place))
    rows, proxies = tables(runs)
    assert proxies["verdict"].iloc[0] != "supported" and proxies["runs"].iloc[0] == 6
    assert abs(proxies["rank_correlation"].iloc[0]) < 0.5 and rows["signal"].iloc[0] == 0
    assert "after 6M tokens left out" in proxies["note"].iloc[0]
    apart = [(one, place) for one, place in runs[:1]]
    moved = runs[1][0]
    other = replace(moved, checkpoints=moved.checkpoints.assign(tokens=moved.checkpoints["tokens"] + 7))
    row = tables([*apart, (other, runs[1][1])])[1].iloc[0]
    assert row["verdict"] == "not tested" and "no checkpoint at the same training tokens" in row["note"]


def test_values_by_example_of_a_window_are_those_of_its_checkpoints() -> None:
    one, place = run("a", "a")
    [(key, rows)] = means_by_task(metrics_of([(one, place)]), {"a": place}).items()
    stops = {(*key, "accuracy"): 6e6}
    names = list(one.checkpoints["checkpoint"])[1:6]
    end = replace(
        one,
        checkpoints=one.checkpoints.iloc[1:6].reset_index(drop=True),
        values={"accuracy": one.values["accuracy"][1:6]},
    )
    [found] = windows_of_means(rows, place, LOOK, lambda model, task: end, stops)
    assert list(end.checkpoints["checkpoint"]) == names and found.later == 10
    assert found.examples and found.values == pytest.approx(one.values["accuracy"][1:6].mean(axis=1))
    [last] = windows_of_means(rows, place, LOOK, lambda model, task: end)
    assert not last.examples and last.later == 0  # of other checkpoints


def test_the_end_is_the_last_that_the_most_runs_have() -> None:
    def ends(*axes: tuple[float, ...], tolerance: float = 0.0) -> tuple[float | None, ...]:
        return common_ends(tuple(Axis(True, axis) for axis in axes), tolerance)

    assert ends((1, 2, 3, 4), (2, 3), (1, 2, 3)) == (3, 3, 3)
    assert ends((1, 2, 3, 4), (1, 2), (3, 4)) == (4, None, 4)
    assert ends((1, 2), (3, 4)) == (None, None) and ends((5,)) == (5,)
    assert ends((100, 200), (99, 202, 300), tolerance=0.01) == (200, 202)
    assert common_ends((Axis(True, (1, 2)), Axis(False, (1, 2))), 0.0) == (None, None)
