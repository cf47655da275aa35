"""The gate: lines for the terminal, exit statuses, allowed alarms, groups, and what was not compared."""

import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebbtide.errors import ConfigError, FigureError
from ebbtide.figures import plot_alarms, plot_changes
from ebbtide.grid import Checkpoint, Model
from ebbtide.metrics.direction import with_properties
from ebbtide.report.gate import terminal
from ebbtide.report.gate.verdict import gate_of, selected_rows
from ebbtide.report.gate.words import MOST_LINES
from ebbtide.statistics.alarms.alarms import COLUMNS, alarms
from ebbtide.statistics.alarms.by_group import read_levels
from ebbtide.statistics.alarms.not_compared import COLUMNS as MISSING
from ebbtide.statistics.alarms.not_compared import Watched, not_compared
from ebbtide.statistics.alarms.notices import alarm_notices
from ebbtide.statistics.panel import Trajectory
from ebbtide.statistics.trends.trends import metric_trends, trend_table
from ebbtide.study.allowed_alarms import check_allow, with_dates_as_text
from ebbtide.tables import read_tsv, write_tsv
from simulate_alarms import SETTINGS, trajectory
from simulated import simulate

TODAY = date(2026, 6, 15)
GATE = {"fail_on": "moderate", "checkpoints": "all"}
NONE = pd.DataFrame(columns=list(MISSING))
Frame = pd.DataFrame


def lines(table: Frame, missing: Frame, settings: dict[str, str], today: date) -> list[str]:
    return terminal.lines(gate_of(table, missing, settings, today))


def status(table: Frame, missing: Frame, settings: dict[str, str], today: date) -> tuple[int, str]:
    gate = gate_of(table, missing, settings, today)
    return gate.status, gate.reason


def run(
    task: str = "task", model: str = "model", means: tuple[float, ...] = (0.5, 0.6, 0.3, 0.3), seed: int = 0
) -> Trajectory:
    """A model that falls at its third checkpoint, unless other means are given."""
    values = simulate(np.random.default_rng(seed), len(means), 200, np.array(means), 0.5, 1.0)
    one = trajectory(values, name=task)
    return Trajectory(
        model, task, one.checkpoints, {"non_embedding": 1}, one.examples, one.clusters, one.values
    )


def steady(task: str = "steady", model: str = "flat") -> Trajectory:
    return run(task, model, (0.5,) * 4, 7)


def entry(**keys: Any) -> dict[str, Any]:
    return {"model": "model", "task": "task", "checkpoints": None, "reason": "known", "until": None} | keys


def results_of(*trajectories: Trajectory, source: str = "scored") -> Frame:
    """The table of metrics behind trajectories."""
    rows = [
        t.checkpoints.assign(model=t.model, task=t.task, metric=next(iter(t.values)), source=source)
        for t in trajectories
    ]
    return pd.concat(rows, ignore_index=True)


# --- lines and statuses ------------------------------------------------------------------------


def test_lines_and_status(tmp_path: Path) -> None:
    table = alarms([run(), steady()], SETTINGS)
    write_tsv(table, tmp_path / "alarms.tsv")
    read = read_tsv(tmp_path / "alarms.tsv")
    pd.testing.assert_frame_equal(read, table, check_dtype=False, rtol=1e-8)
    printed = lines(read, NONE, GATE, TODAY)
    assert printed[0].startswith("severe    task  model  step") and "p_adj = " in printed[0]
    assert "80 %" in printed[-1]
    assert printed[-2] == "2 drops (2 severe, 0 moderate, 0 minor) in 12 comparisons of 2 models on 2 tasks"
    assert status(read, NONE, GATE, TODAY) == (1, "2 alarms at or above moderate: exit status 1.")
    assert status(read, NONE, GATE | {"fail_on": "never"}, TODAY)[0] == 0
    many = pd.concat([read.assign(task=f"task{i}") for i in range(50)])
    assert len(lines(many, NONE, GATE, TODAY)) <= MOST_LINES + 4


def test_one_line_per_drop() -> None:
    """Step 2 fell from step 1, which is the checkpoint before and the best; step 3 only below the best."""
    table = alarms([run()], SETTINGS)
    assert (table["severity"] != "").sum() == 3
    second, third = sorted(lines(table, NONE, GATE, TODAY)[:2])
    assert "step2: accuracy" in second and second.count("step2") == 1
    assert "below the previous checkpoint and its best (step1): p_adj = " in second
    assert "below its best (step1): p_adj = " in third and "previous" not in third


def test_a_drop_from_two_checkpoints_names_both() -> None:
    table = alarms([run(means=(0.9, 0.6, 0.2))], SETTINGS)
    [line] = [line for line in lines(table, NONE, GATE, TODAY) if "step2: " in line]
    assert "below its best (step0): p_adj" in line
    assert "below the previous checkpoint (step1): p_adj" in line and " and 0." in line


@pytest.mark.parametrize(("fail_on", "found"), [("minor", 1), ("moderate", 1), ("severe", 0), ("never", 0)])
def test_the_status_follows_the_severity(fail_on: str, found: int) -> None:
    table = alarms([run()], SETTINGS)
    table.loc[table["severity"] != "", "severity"] = "moderate"
    number, reason = status(table, NONE, GATE | {"fail_on": fail_on}, TODAY)
    assert number == found and reason.endswith(f"exit status {found}.")
    if fail_on == "severe":
        assert reason == "No alarm at or above severe: exit status 0."


def test_only_the_last_checkpoint_counts_where_it_is_asked_for() -> None:
    """The fall at step 2 is over at step 3."""
    table, last = alarms([run(means=(0.5, 0.6, 0.3, 0.6))], SETTINGS), GATE | {"checkpoints": "last"}
    assert status(table, NONE, GATE, TODAY)[0] == 1
    assert status(table, NONE, last, TODAY) == (0, "No alarm at or above moderate: exit status 0.")
    assert set(selected_rows(table, NONE, "last")["checkpoint"]) == {"step3"}


# --- nothing was compared ----------------------------------------------------------------------


def compared(
    *trajectories: Trajectory, results: Frame | None = None, others: Any = (), **settings: Any
) -> tuple[Frame, Frame]:
    """The tables alarms.tsv and not_compared.tsv; `others` are results with examples that differ."""
    used = SETTINGS | {"against": ["predecessor", "best"]} | settings
    watched = Watched(trajectories, used["metrics"])
    table = alarms(watched, used)
    found = results_of(*trajectories) if results is None else results
    having = set(others) | {
        (t.model, name, t.task) for t in trajectories for name in t.checkpoints["checkpoint"]
    }
    return table, not_compared(found, table, watched.seen, used, having | set(others))


def test_nothing_compared_fails_the_gate() -> None:
    empty = alarms([], SETTINGS)
    assert tuple(empty.columns) == COLUMNS
    for checkpoints in ("all", "last"):
        for fail_on in ("moderate", "never"):
            settings = {"fail_on": fail_on, "checkpoints": checkpoints}
            number, reason = status(empty, NONE, settings, TODAY)
            assert (number, reason) == (2, "Nothing was compared, so the gate fails: exit status 2.")
    assert lines(empty, NONE, GATE, TODAY) == ["No comparison."]
    for plot in (plot_alarms, plot_changes):
        with pytest.raises(FigureError, match="nothing was compared, because no model has two trained"):
            plot(with_properties(empty))


def test_one_checkpoint_cannot_be_compared() -> None:
    table, missing = compared(run(means=(0.5,)))
    assert status(table, missing, GATE, TODAY)[0] == 2
    assert lines(table, missing, GATE, TODAY)[1] == (
        "Not compared: model step0, task: one trained checkpoint, so there is nothing to compare it with. "
        "Score more checkpoints."
    )


def test_an_untrained_checkpoint_is_no_predecessor() -> None:
    one = run(means=(0.5, 0.6))
    one.checkpoints[["step", "tokens"]] = [[0, 0], [8, 8000]]
    table, missing = compared(one)
    assert table.empty and missing["checkpoint"].tolist() == ["step1"]
    assert "one trained checkpoint" in missing["reason"].iloc[0]


@pytest.mark.parametrize(
    ("source", "reason", "remedy"),
    [
        (
            "imported",
            "imported as means, without the results of single examples",
            "Import the samples instead.",
        ),
        ("scored", "measured by lm-eval's own code", "Compare a task that Ebbtide measures itself."),
    ],
)
def test_results_without_examples_cannot_be_compared(source: str, reason: str, remedy: str) -> None:
    table, missing = compared(results=results_of(run(), source=source))
    assert table.empty and len(missing) == 1 and missing["checkpoint"].tolist() == ["step3"]
    assert missing["reason"].iloc[0].startswith(reason) and missing["remedy"].iloc[0] == remedy
    assert status(table, missing, GATE, TODAY)[0] == 2


def test_a_checkpoint_with_other_examples_is_named() -> None:
    """Of four checkpoints, the last has other examples, so that its trajectory has three."""
    table, missing = compared(
        run(means=(0.5, 0.6, 0.6)), results=results_of(run()), others=[("model", "step3", "task")]
    )
    assert missing[["checkpoint", "reason"]].values.tolist() == [
        ["step3", "its examples are not those of the other 3 checkpoints"]
    ]
    assert status(table, missing, GATE, TODAY)[0] == 0  # the others were compared
    number, why = status(table, missing, GATE | {"checkpoints": "last"}, TODAY)
    assert number == 2 and why.startswith("Nothing was compared at the last checkpoint of model (step3)")


def test_a_metric_that_no_example_has_is_named() -> None:
    one = run()
    one.values["accuracy"][:] = np.nan
    table, missing = compared(one)
    assert table.empty and "no example has a value at all checkpoints (accuracy" in missing["reason"].iloc[0]


def test_a_model_with_one_checkpoint_does_not_fail_the_others() -> None:
    table, missing = compared(steady(), run(model="single", means=(0.5,)))
    for checkpoints in ("all", "last"):
        assert status(table, missing, GATE | {"checkpoints": checkpoints}, TODAY)[0] == 0
    assert "Not compared: single step0" in lines(table, missing, GATE, TODAY)[-1]


def test_only_a_baseline_that_nothing_follows() -> None:
    table, missing = compared(run(), against=["baseline"])
    assert table.empty and missing["reason"].tolist() == ["only compared with the baseline (alarms.against)"]


# --- allowed alarms ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "checkpoints",
    [None, ["step2", "step3"], [3, 4], ["step2", 4], {"from": 3, "to": 4}, {"from": 2}, {"to": 9}],
)
def test_allowed_drops_are_listed_and_do_not_count(checkpoints: Any) -> None:
    table = alarms([run()], SETTINGS | {"allow": [entry(checkpoints=checkpoints, until="2026-06-15")]})
    raised = table["severity"] != ""
    assert (table.loc[raised, "allowed"] == "known").all() and (table.loc[~raised, "allowed"] == "").all()
    printed = lines(table, NONE, GATE, TODAY)
    assert printed[0].startswith("allowed   task  model  step")
    assert printed[0].endswith("[severe, allowed until 2026-06-15: known]")
    assert "0 severe, 0 moderate, 0 minor, 2 allowed" in "\n".join(printed)
    assert status(table, NONE, GATE, TODAY) == (
        0,
        "No alarm at or above moderate (2 allowed): exit status 0.",
    )


@pytest.mark.parametrize(
    "other", [{"task": "another"}, {"model": "another"}, {"checkpoints": "step1"}, {"checkpoints": {"to": 2}}]
)
def test_an_entry_is_for_what_it_names_only(other: dict[str, Any]) -> None:
    table = alarms([run()], SETTINGS | {"allow": [entry(**other)]})
    assert (table["allowed"] == "").all() and status(table, NONE, GATE, TODAY)[0] == 1


def test_part_of_the_drops_may_be_allowed() -> None:
    table = alarms([run()], SETTINGS | {"allow": [entry(checkpoints="step2")]})
    assert status(table, NONE, GATE, TODAY) == (1, "1 alarm at or above moderate (1 allowed): exit status 1.")
    assert [line.split()[0] for line in lines(table, NONE, GATE, TODAY)[:2]] == ["severe", "allowed"]


def test_an_entry_ends_without_a_new_comparison() -> None:
    table = alarms([run()], SETTINGS | {"allow": [entry(until="2026-06-14")]})
    assert status(table, NONE, GATE, date(2026, 6, 14))[0] == 0
    assert status(table, NONE, GATE, TODAY)[0] == 1
    line = lines(table, NONE, GATE, TODAY)[0]
    assert line.startswith("severe")
    assert line.endswith("[severe, allowed until 2026-06-14, which has expired: known]")


def test_of_several_entries_the_one_that_lasts_longest_counts() -> None:
    allow = [entry(), entry(reason="shorter", until="2026-01-01")]
    for order in (allow, allow[::-1]):
        table = alarms([run()], SETTINGS | {"allow": order})
        assert set(table["allowed"]) == {"", "known"}


MODELS = {
    "model": Model(
        "model", tuple(Checkpoint("model", f"step{s}", s, s, "w", "t", "r", 0, "f") for s in (8, 16))
    )
}


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"model": "modle"},
            "allow[0].model: found 'modle', but there is no such model; did you mean 'model'?",
        ),
        ({"task": "tsk"}, "allow[0].task: found 'tsk', but there is no such task; did you mean 'task'?"),
        ({"task": "xyz"}, "allow[0].task: found 'xyz', but there is no such task; allowed: task."),
        (
            {"checkpoints": ["step8", "step17"]},
            "allow[0].checkpoints: found 'step17', but model has no such checkpoint; did you mean 'step16'",
        ),
        ({"checkpoints": 9}, "allow[0].checkpoints: found 9, but model has no such checkpoint"),
        (
            {"checkpoints": {"from": 9, "to": 2}},
            "allow[0].checkpoints: found from 9 above to 2; allowed: from no larger than to.",
        ),
        ({"until": "2026-02-30"}, "allow[0].until: found '2026-02-30', but there is no such day"),
    ],
)
def test_a_wrong_entry_is_a_sentence(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_allow([entry(**keys)], MODELS, ["task"], "s.yaml: allow", imports=False)
    assert f"s.yaml: {sentence}" in str(error.value)


def test_right_entries_are_accepted() -> None:
    for checkpoints in (None, "step8", 16, "16", ["step8", 16], {"from": 0}, {"from": 8, "to": 8}):
        check_allow([entry(checkpoints=checkpoints)], MODELS, ["task"], "allow", imports=False)
    # Imported models, tasks and checkpoints are known only once their files are read.
    check_allow([entry(model="other", task="other", checkpoints="x")], MODELS, [], "allow", imports=True)


def test_days_of_yaml_become_texts() -> None:
    config = {"alarms": {"allow": [{"until": date(2026, 1, 2)}, {"until": "2026-01-02"}, {"until": None}]}}
    found = with_dates_as_text(config)["alarms"]["allow"]
    assert [one["until"] for one in found] == ["2026-01-02", "2026-01-02", None]
    for other in ({}, {"alarms": None}, {"alarms": {"allow": 3}}, {"alarms": {"allow": ["x"]}}):
        assert with_dates_as_text(other) == other


# --- groups ------------------------------------------------------------------------------------


def grouped(fallen: str = "b") -> tuple[Trajectory, Frame]:
    """Examples of the parts a and b, of which one falls at the last checkpoint."""
    rng = np.random.default_rng(4)
    part = np.where(np.arange(400) % 2, "b", "a")
    values = simulate(rng, 3, 400, 0.7, 0.8, 1.0)
    values[-1, (part == fallen) & (rng.random(400) < 0.6)] = 0
    one = trajectory(values)
    return one, pd.DataFrame({"part": part}, index=one.examples.astype(str))


def test_an_alarm_is_broken_down_by_the_groups_of_its_task() -> None:
    one, levels = grouped()
    settings = SETTINGS | {"against": ["predecessor"]}
    whole, table = alarms([one], settings), alarms([one], settings, levels={"task": levels})
    assert (whole["group"] == "").all()
    pd.testing.assert_frame_equal(table[table["group"] == ""], whole)  # parts do not enter the family
    parts = table[table["group"] != ""].set_index("group")
    assert parts.index.tolist() == ["part=a", "part=b"] and set(parts["checkpoint"]) == {"step2"}
    for name, row in parts.iterrows():
        inside = (levels["part"] == str(name)[-1]).to_numpy()
        assert row["n"] == 200
        assert row["change"] == pytest.approx(np.diff(one.values["accuracy"][1:, inside].mean(axis=1))[0])
        assert row["value"] - row["reference_value"] == pytest.approx(row["change"])
    assert parts.loc["part=b", "p"] < 1e-6 < parts.loc["part=a", "p"]
    assert (parts["severity"] == "").all() and parts["p_adjusted"].isna().all()
    line = lines(table, NONE, GATE, TODAY)[0]
    assert "; part=b -0.4" in line and line.index("part=b") < line.index("part=a")
    assert (
        "1 drop (1 severe, 0 moderate, 0 minor) in 2 comparisons of 1 model on 1 task"
        in lines(table, NONE, GATE, TODAY)[1]
    )
    assert status(table, NONE, GATE, TODAY)[0] == 1


def test_without_an_alarm_nothing_is_broken_down() -> None:
    one = steady(model="model", task="task")
    levels = pd.DataFrame({"part": np.arange(200) % 2}, index=one.examples.astype(str))
    assert (alarms([one], SETTINGS, levels={"task": levels})["group"] == "").all()


@pytest.mark.parametrize("levels", [["a"] * 400, [f"l{i}" for i in range(400)], [None] * 400])
def test_a_group_of_one_level_or_of_very_many_is_left_out(levels: list[Any]) -> None:
    one, _ = grouped()
    frame = pd.DataFrame({"part": levels}, index=one.examples.astype(str))
    assert (alarms([one], SETTINGS, levels={"task": frame})["group"] == "").all()


def test_levels_come_from_the_frozen_requests(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"example": ["x", "x", "y", "y"], "choice": [0, 1, 0, 1], "group_part": ["a", "a", "b", "b"]}
    )
    rows.to_parquet(tmp_path / "with.parquet")
    rows.drop(columns="group_part").to_parquet(tmp_path / "without.parquet")
    found = read_levels({"with": tmp_path / "with.parquet", "without": tmp_path / "without.parquet"})
    assert list(found) == ["with"] and found["with"]["part"].to_dict() == {"x": "a", "y": "b"}


# --- notices -----------------------------------------------------------------------------------


def config(**alarms_section: Any) -> dict[str, Any]:
    return {
        "alarms": {"allow": [], **alarms_section},
        "trajectories": {"metrics": ["accuracy"]},
        "trends": {"equivalence_margin": 0.05},
    }


def notices(*trajectories: Trajectory, results: Frame | None = None, allow: Any = ()) -> list[str]:
    """Severity, kind and detail of every notice."""
    table, missing = compared(*trajectories, results=results, allow=list(allow))
    trends = trend_table([one for t in trajectories for one in metric_trends(t, ["accuracy"], 0.05)])
    known = results_of(*trajectories) if results is None else results
    found = alarm_notices(table, missing, trends, known, config=config(allow=list(allow)), today=TODAY)
    return [f"{one.severity} {one.kind}: {one.detail}" for one in found]


def test_what_was_not_compared_is_said_once() -> None:
    one, other = run(means=(0.5,)), run("other", means=(0.5,))
    assert notices(one, other) == [  # not also as trends that were not tested
        "note not_compared: No alarms, trends or forgetting for 2 tasks (task, other): one trained "
        "checkpoint, so there is nothing to compare it with."
    ]


def test_what_imports_say_is_not_repeated() -> None:
    assert notices(results=results_of(run(), run("other"), source="imported")) == []


def test_a_checkpoint_imported_as_means_beside_samples_has_its_true_reason() -> None:
    known = results_of(run(), source="imported")
    later = known.iloc[[-1]].assign(checkpoint="step9", step=9, tokens=9000)
    _, missing = compared(run(), results=pd.concat([known, later], ignore_index=True))
    assert missing[["checkpoint", "reason"]].to_numpy().tolist() == [
        ["step9", "imported as means, without the results of single examples"]
    ]


@pytest.mark.parametrize(
    ("keys", "detail"),
    [
        ({"until": "2026-06-14"}, "(model, task) expired on 2026-06-14, and 3 alarms count again."),
        ({"checkpoints": "step1"}, "(model, task, step1) matches nothing: there is no such alarm."),
        ({"model": "m2"}, "(m2, task) matches nothing: no model m2 was compared."),
        (
            {"task": "t2", "checkpoints": {"from": 2}},
            "(model, t2, steps from 2) matches nothing: no task t2 was compared.",
        ),
        ({"checkpoints": "step1", "until": "2026-01-01"}, "expired on 2026-01-01, and it matches no alarm."),
    ],
)
def test_stale_entries_are_said(keys: dict[str, Any], detail: str) -> None:
    found = [one for one in notices(run(), allow=[entry(**keys)]) if "alarms.allow[0]" in one]
    assert len(found) == 1 and found[0].endswith(detail)
    assert found[0].startswith("warning" if "until" in keys else "note")


def test_an_entry_that_counts_is_not_said() -> None:
    assert not [one for one in notices(run(), allow=[entry(until="2026-06-15")]) if "allow" in one]


def test_comparisons_that_could_not_see_the_margin_are_said() -> None:
    [found] = [one for one in notices(steady()) if "margin" in one]
    assert found.startswith(
        "note low_power: 6 of 6 comparisons of accuracy without an alarm detect only drops"
    )
    many = simulate(np.random.default_rng(0), 3, 20_000, 0.5, 0.9, 1.0)
    assert not [one for one in notices(trajectory_of(many)) if "margin" in one]


def trajectory_of(values: np.ndarray, metric: str = "accuracy") -> Trajectory:
    one = trajectory(values)
    places = {"non_embedding": 1}
    return Trajectory("m", "t", one.checkpoints, places, one.examples, one.clusters, {metric: values})


def test_the_margin_of_a_loss_is_in_standard_deviations_of_examples() -> None:
    rng = np.random.default_rng(2)
    noisy = trajectory_of(100 * rng.gamma(2, 1, (3, 300)), "loss")
    [found] = [one for one in notices(noisy) if "margin" in one]
    assert "4 of 4 comparisons of loss" in found
    # The quotient of both numbers is the sd of examples, 100 √2 nats.
    seen = re.search(r"above (\S+) standard deviations of examples \(median; (\S+) nats per \S+\)", found)
    assert seen, found
    assert float(seen[2]) / float(seen[1]) == pytest.approx(141, rel=0.15)
    assert "equivalence_margin 0.05 standard deviations of examples" in found
    own = rng.gamma(2, 1, 300)
    sharp = trajectory_of(100 * (own + 0.01 * rng.normal(size=(3, 300))), "loss")
    assert not [one for one in notices(sharp) if "margin" in one]


def test_a_rolling_task_is_followed_by_its_loss_and_that_is_said() -> None:
    loss = np.random.default_rng(3).gamma(2, 1, (3, 100)) + np.array([0.0, -1.0, 1.0])[:, None]
    one = trajectory_of(loss, "loss")
    table, _ = compared(one)
    assert set(table["metric"]) == {"loss"} and (table["severity"] == "severe").any()
    found = notices(one)
    assert (
        "note defaulted: Alarms and trends follow loss of t, which has no values of accuracy by example."
        in found
    )
    assert "note not_compared: No early warning for t: it compares signals with accuracy." in found


def test_trends_that_were_not_tested_are_said() -> None:
    one = run()
    one.checkpoints[["step", "tokens"]] = [[0, 0], [8, 8000], [16, 0], [24, 0]]
    found = [text for text in notices(one) if "No trend" in text]
    assert found == [
        "note not_compared: No trend of model on task: fewer than two checkpoints with training tokens."
    ]
