"""Seeds as replicates in alarms: the change of a run in standard deviations between the other seeds."""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from ebbtide.report.gate.terminal import lines
from ebbtide.report.gate.verdict import gate_of
from ebbtide.statistics.alarms.alarms import alarms
from ebbtide.statistics.alarms.not_compared import COLUMNS as MISSING
from ebbtide.statistics.alarms.notices import without_seeds
from ebbtide.statistics.alarms.seeds import COLUMNS, in_words
from ebbtide.statistics.panel import Trajectory
from simulate_alarms import SETTINGS, other_seeds, trajectory

N = 200
SHARES = {"fell": (0.5, 0.7, 0.4), "s1": (0.4, 0.6, 0.62), "s2": (0.6, 0.7, 0.68), "s3": (0.55, 0.7, 0.74)}
RECIPES = dict.fromkeys(SHARES, "recipe")


def run(model: str, shares: tuple[float, ...]) -> Trajectory:
    """A run that is right on the first examples of each checkpoint."""
    values = np.array([(np.arange(N) < round(share * N)).astype(float) for share in shares])
    return replace(trajectory(values), model=model)


RUNS = [run(model, shares) for model, shares in SHARES.items()]


def last(runs: list[Trajectory], against: str = "predecessor", **more: object) -> dict[object, object]:
    table = alarms(runs, SETTINGS, recipes=RECIPES, **more)  # type: ignore[arg-type]
    rows = table[(table["model"] == "fell") & (table["checkpoint"] == "step2")]
    [row] = rows[rows["against"] == against].to_dict("records")
    return row


def test_a_change_is_measured_by_those_of_the_other_seeds() -> None:
    row = last(RUNS)
    others = np.array([0.02, -0.02, 0.04])
    assert row["seed_runs"] == "s1, s2, s3"
    assert row["seed_change"] == pytest.approx(others.mean())
    assert row["seed_change_sd"] == pytest.approx(others.std(ddof=1))
    assert row["seed_sds"] == pytest.approx(-0.3 / others.std(ddof=1))
    assert row["note"] == ""


def test_a_run_is_left_out_of_its_own_yardstick() -> None:
    deeper = [run("fell", (0.5, 0.7, 0.1)), *RUNS[1:]]
    assert last(deeper)["seed_change_sd"] == last(RUNS)["seed_change_sd"]


def test_severities_do_not_depend_on_seeds() -> None:
    with_seeds, without = alarms(RUNS, SETTINGS, recipes=RECIPES), alarms(RUNS, SETTINGS)
    assert (without["seed_runs"] == "").all() and without[list(COLUMNS[1:])].isna().all(axis=None)
    others = [name for name in without if name not in COLUMNS]
    pd.testing.assert_frame_equal(with_seeds[others], without[others])
    none = pd.DataFrame(columns=list(MISSING))
    gate = {"fail_on": "moderate", "checkpoints": "all"}
    day = date(2026, 6, 15)
    of_both = [gate_of(table, none, gate, day) for table in (with_seeds, without)]
    assert of_both[0].status == of_both[1].status and of_both[0].reason == of_both[1].reason


def test_runs_without_the_checkpoint_or_the_examples_are_named() -> None:
    other_tokens = RUNS[1].checkpoints.assign(tokens=[1000, 2000, 3001])
    fewer = replace(RUNS[2], examples=np.arange(1, N + 1))
    row = last([RUNS[0], replace(RUNS[1], checkpoints=other_tokens), fewer, RUNS[3]])
    assert row["seed_runs"] == "s3" and row["seed_change"] == pytest.approx(0.04)
    assert np.isnan(row["seed_change_sd"]) and np.isnan(row["seed_sds"])
    assert row["note"] == ("no seed of s1 (no checkpoint at the same training tokens), s2 (other examples)")


def test_checkpoints_are_matched_by_tokens_and_not_by_name() -> None:
    renamed = [replace(one, checkpoints=one.checkpoints.assign(checkpoint=list("abc"))) for one in RUNS[1:]]
    assert last([RUNS[0], *renamed])["seed_change_sd"] == last(RUNS)["seed_change_sd"]


def test_unknown_tokens_match_nothing() -> None:
    unknown = [replace(one, checkpoints=one.checkpoints.assign(tokens=0)) for one in RUNS]
    assert last(unknown)["seed_runs"] == ""
    some = last([RUNS[0], unknown[1], *RUNS[2:]])
    assert some["seed_runs"] == "s2, s3" and some["note"] == "no seed of s1 (unknown training tokens)"


def test_nearly_the_same_tokens_match_within_the_tolerance() -> None:
    near = replace(RUNS[1], checkpoints=RUNS[1].checkpoints.assign(tokens=[1000, 1999, 3002]))
    runs = [RUNS[0], near, *RUNS[2:]]
    assert last(runs)["seed_runs"] == "s2, s3"
    found = last(runs, tolerance=0.001)
    assert found["seed_change_sd"] == last(RUNS)["seed_change_sd"] and found["note"] == ""


def test_a_notice_says_that_seeds_are_missing() -> None:
    far = replace(RUNS[1], checkpoints=RUNS[1].checkpoints.assign(tokens=[1000, 2000, 3500]))
    table = alarms([RUNS[0], far], SETTINGS | {"against": ["predecessor"]}, recipes=RECIPES)
    found = list(without_seeds(table))
    assert [(one.model, one.count) for one in found] == [("fell", 1), ("s1", 1)]
    assert "1 of 2 comparisons" in found[0].detail and "no seed of s1 (no checkpoint" in found[0].detail
    assert not list(without_seeds(alarms(RUNS, SETTINGS, recipes=RECIPES)))


def test_against_a_baseline_of_another_model_all_runs_change_from_it() -> None:
    base = replace(run("base", (0.8,)), checkpoints=RUNS[0].checkpoints.iloc[:1])
    row = last(RUNS, "baseline", others=[base])
    assert row["seed_change"] == pytest.approx(np.mean([0.62, 0.68, 0.74]) - 0.8)
    of_recipe = replace(base, model="s3")  # the baseline is no replicate of itself
    assert last(RUNS, "baseline", others=[of_recipe])["seed_runs"] == "s1, s2"


def line(runs: list[Trajectory]) -> str:
    table = alarms(runs, SETTINGS | {"against": ["predecessor"]}, recipes=RECIPES)
    none = pd.DataFrame(columns=list(MISSING))
    settings = {"fail_on": "moderate", "checkpoints": "all"}
    return lines(gate_of(table, none, settings, date(2026, 6, 15)))[0]


def test_the_line_of_a_drop_says_what_other_seeds_show() -> None:
    said = (
        ", the 3 other runs change by +0.013 on average; this is 9.8 of their standard deviations (5 % are "
        "beyond 4.3 if the recipe does not change)"
    )
    assert line(RUNS).endswith(said)
    assert line(RUNS[:2]).endswith(", the other run changes by +0.02")
    alike = [RUNS[0], RUNS[1], run("s2", (0.5, 0.6, 0.62))]
    assert line(alike).endswith(", all 2 other runs change by +0.02")
    assert "other run" not in line(RUNS[:1])


def test_a_drop_that_no_run_shares_has_no_words() -> None:
    assert in_words({"seed_runs": ""}) == ""


def test_the_yardstick_is_not_biased_and_its_multiple_is_t() -> None:
    """With two other runs, one multiple in twenty is above 12.7 where nothing changes."""
    (_, _, _, beyond, draws), (_, _, _, ratio, _) = other_seeds(3, 0.05, 120, binary=False, n=60)
    assert 0 < beyond < 0.15 and draws == 120
    assert 0.6 < ratio < 1.6
