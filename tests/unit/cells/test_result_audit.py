"""The audit after scoring: what it must find, what it must leave alone, and where its thresholds lie."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide import cli
from ebbtide.cells.cell import write_cell
from ebbtide.cells.result_audit import (
    ALL,
    COLUMNS,
    METRIC,
    audit,
    departures,
    identical,
    outliers,
    read_digests,
)
from ebbtide.errors import CellError
from ebbtide.metrics import loglikelihoods_sha256
from ebbtide.tables import METRICS, REQUESTS, read_footer, read_frame, write_parquet, write_tsv


def digests(table: dict[str, dict[str, str]], model: str = "m") -> pd.DataFrame:
    """From {task: {"0 16 32": "aab"}}: the letters are the results at these steps."""
    rows = [
        (model, f"step{step}", int(step), task, letter)
        for task, results in table.items()
        for steps, letters in results.items()
        for step, letter in zip(steps.split(), letters, strict=True)
    ]
    return pd.DataFrame(rows, columns=["model", "checkpoint", "step", "task", "loglikelihoods"])


def found(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    return list(table[["model", "checkpoint", "task"]].itertuples(index=False, name=None))


def trajectories(values: dict[str, list[float]] | np.ndarray, stderr=0.01, model: str = "m") -> pd.DataFrame:
    """Metrics of tasks over checkpoints; an array holds (tasks, checkpoints)."""
    tasks = values if isinstance(values, dict) else {f"t{i}": row for i, row in enumerate(values)}
    errors = np.broadcast_to(stderr, (len(tasks), len(next(iter(tasks.values())))))
    rows = [
        (model, f"step{step}", step, task, METRIC, value, error)
        for (task, row), line in zip(tasks.items(), errors, strict=True)
        for step, (value, error) in enumerate(zip(row, line, strict=True))
    ]
    return pd.DataFrame(rows, columns=["model", "checkpoint", "step", "task", "metric", "value", "stderr"])


# Equal results


def test_different_results_are_no_finding() -> None:
    assert identical(digests({"a": {"0 1 2": "xyz"}, "b": {"0 1 2": "uvw"}})).empty


def test_equal_results_name_each_other() -> None:
    table = identical(digests({"a": {"0 1 2 3": "xyxz"}, "b": {"0 1 2 3": "uvwt"}}))
    assert found(table) == [("m", "step0", "a"), ("m", "step2", "a")]
    assert table["finding"].unique() == ["identical_results"]
    assert table["step"].tolist() == [0, 2]
    assert "step2" in table["detail"].iloc[0]
    assert "step0" in table["detail"].iloc[1]


def test_all_tasks_equal_is_one_row_per_checkpoint() -> None:
    table = identical(digests({"a": {"0 1 2": "xxz"}, "b": {"0 1 2": "uuw"}}))
    assert found(table) == [("m", "step0", ALL), ("m", "step1", ALL)]


def test_tasks_that_agree_on_other_checkpoints_stay_apart() -> None:
    table = identical(digests({"a": {"0 1 2": "xxz"}, "b": {"0 1 2": "uuu"}}))
    assert set(found(table)) == {
        ("m", f"step{s}", t) for t, steps in {"a": "01", "b": "012"}.items() for s in steps
    }


def test_most_tasks_are_not_all() -> None:
    table = identical(digests({"a": {"0 1": "xx"}, "b": {"0 1": "uu"}, "c": {"0 1": "vw"}}))
    assert set(table["task"]) == {"a", "b"}


def test_equal_results_of_two_models_or_tasks_are_not_compared() -> None:
    a, b = digests({"a": {"0": "x"}, "b": {"0": "x"}}), digests({"a": {"1": "x"}}, model="other")
    assert identical(pd.concat([a, b])).empty


def test_many_equals_are_counted() -> None:
    table = identical(digests({"a": {"0 1 2 3 4 5": "xxxxxx"}}))
    assert len(table) == 6
    assert table["detail"].iloc[0].endswith("those of step1, step2, step3 and 2 more.")


def test_the_digest_sees_every_bit_and_no_order_of_rows() -> None:
    cell = pd.DataFrame({"example": [0, 0, 1], "choice": [0, 1, 0], "loglikelihood": [-1.0, -2.0, -3.0]})
    whole = loglikelihoods_sha256(cell)
    assert whole == loglikelihoods_sha256(cell.iloc[[2, 0, 1]])
    for row in range(3):
        moved = cell.copy()
        moved.loc[row, "loglikelihood"] = math.nextafter(cell["loglikelihood"][row], 0)
        assert loglikelihoods_sha256(moved) != whole
    exchanged = cell.assign(loglikelihood=[-2.0, -1.0, -3.0])
    assert loglikelihoods_sha256(exchanged) != whole


def test_measure_keeps_the_digests_and_the_audit_reads_them(tmp_path) -> None:
    """From cells to findings: two steps with equal cells, and one that differs in one bit."""
    requests = pd.DataFrame(
        {
            "example": ["e", "e"],
            "choice": [0, 1],
            "context": "c",
            "continuation": ["a", "b"],
            "gold": [True, False],
        }
    )
    write_parquet(requests, tmp_path / "task.parquet", REQUESTS)
    content = read_footer(tmp_path / "task.parquet", REQUESTS)["content_sha256"]
    parts = []
    for step, first in enumerate([-1.0, -1.0, math.nextafter(-1.0, 0)]):
        rows = pd.DataFrame({"example": ["e", "e"], "choice": [0, 1], "loglikelihood": [first, -2.0]}).assign(
            tokens=1,
            bytes=1,
            characters=1,
            greedy=False,
            first_token_loglikelihood=-1.0,
            context_tokens=1,
            truncated=False,
        )
        footer = {
            "requests": 2,
            "requests_sha256": content,
            "parameters_total": 9,
            "parameters_non_embedding": 5,
        }
        write_cell(rows, tmp_path / f"cell{step}.parquet", {"weights": f"w{step}"}, footer)
        expected = {"model": "m", "checkpoint": f"step{step}", "step": step, "tokens": 0}
        expected["parameters_nominal"] = 0
        expected["cells"] = [{"task": "t", "identity": {"weights": f"w{step}"}}]
        parts.append(tmp_path / f"part{step}.parquet")
        arguments = [
            "--cells",
            str(tmp_path / f"cell{step}.parquet"),
            "--requests",
            str(tmp_path / "task.parquet"),
        ]
        arguments += ["--expected", json.dumps(expected), "--to", str(parts[-1])]
        assert cli.main(["measure", *arguments, "--examples", str(tmp_path / "examples.parquet")]) == 0
    assert found(identical(read_digests(parts))) == [("m", "step0", "t"), ("m", "step1", "t")]

    write_parquet(read_frame(parts[0], METRICS), tmp_path / "bare.parquet", METRICS)
    with pytest.raises(CellError, match=r"bare.parquet: the footer has no 'loglikelihoods'; delete the file"):
        read_digests([tmp_path / "bare.parquet"])


# Outliers: single trajectories

SMOOTH = {
    "flat": [0.5] * 8,
    "steep": [0.1, 0.1, 0.1, 0.9, 0.95, 0.96, 0.96, 0.96],
    "fall": [0.9, 0.9, 0.7, 0.3, 0.1, 0.05, 0.05, 0.05],
    "V": [0.9, 0.7, 0.5, 0.3, 0.5, 0.7, 0.9, 0.9],
    "U": [0.8, 0.6, 0.45, 0.35, 0.3, 0.35, 0.5, 0.7],
    "bend": [0.5, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0],
    "peak": [0.2, 0.2, 0.4, 0.6, 0.55, 0.5, 0.45, 0.4],
    "ends": [0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1],
}


@pytest.mark.parametrize("shape", SMOOTH)
def test_smooth_trajectories_are_left_alone(shape: str) -> None:
    assert outliers(trajectories({"t": SMOOTH[shape]}, stderr=0.0)).empty


@pytest.mark.parametrize("shape", sorted(SMOOTH.keys() - {"ends"}))
@pytest.mark.parametrize("at", range(2, 6))
@pytest.mark.parametrize("side", [-1, 1])
def test_a_jump_out_and_back_is_found_and_nothing_else(shape: str, at: int, side: int) -> None:
    """Displaced to beyond everything the trajectory reaches."""
    values = list(SMOOTH[shape])
    values[at] = 0.9 + max(values) if side > 0 else min(values) - 0.9
    table = outliers(trajectories({"t": values}))
    assert found(table) == [("m", f"step{at}", "t")]
    assert table["severity"].tolist() == ["note"]
    assert ("above" if side > 0 else "below") in table["detail"].iloc[0]


@pytest.mark.parametrize("at", [1, 6])
def test_the_second_and_the_last_but_one_are_judged(at: int) -> None:
    values = [0.5] * 8
    values[at] = 0.9
    assert found(outliers(trajectories({"t": values}))) == [("m", f"step{at}", "t")]


def test_the_sentence_says_how_far() -> None:
    [detail] = outliers(trajectories({"t": [0.50, 0.52, 0.54, 0.30, 0.54, 0.52, 0.50]}))["detail"]
    # Neighbours 0.54; the lines through them reach 0.56.
    assert detail.startswith(
        "choice_probability 0.300 is 0.240 below the range of its neighbours (0.540 to 0.560)"
    )


def excess_by_definition(x: list[float], i: int) -> float:
    reached = [x[i - 1], x[i + 1]]
    reached += [2 * x[i - 1] - x[i - 2]] if i > 1 else []
    reached += [2 * x[i + 1] - x[i + 2]] if i < len(x) - 2 else []
    return max(0.0, min(reached) - x[i], x[i] - max(reached))


def z_by_definition(tasks: list[list[float]], errors: list[list[float]], of: int, i: int) -> float:
    """z of checkpoint i in task `of`, by the formulas of the module, one number at a time."""

    def noise(s: list[float], j: int) -> float:
        return s[j] ** 2 + (s[j - 1] ** 2 + s[j + 1] ** 2) / 4 + 0.002**2

    squares, ratios = [], []
    for number, (x, s) in enumerate(zip(tasks, errors, strict=True)):
        kept = [j for j in range(len(x)) if j != i]
        for place, j in list(enumerate(kept))[1:-1]:
            # The ends of what is kept are not judged.
            square = excess_by_definition([x[k] for k in kept], place) ** 2
            ratios.append(square / noise(s, j))
            squares += [square] if number == of else []
    scale2 = noise(errors[of], i) * max(1.0, math.fsum(ratios) / len(ratios))
    return excess_by_definition(tasks[of], i) / math.sqrt(scale2 + math.fsum(squares) / len(squares))


@settings(deadline=None, max_examples=30)
@given(n=st.integers(5, 9), count=st.integers(1, 3), data=st.data())
def test_z_follows_its_definition(n: int, count: int, data: st.DataObject) -> None:
    def rows(least: float, most: float) -> list[list[float]]:
        row = st.lists(st.floats(least, most), min_size=n, max_size=n)
        return data.draw(st.lists(row, min_size=count, max_size=count))

    tasks, errors = rows(0, 1), rows(0.001, 0.1)
    table = departures(trajectories(np.array(tasks), np.array(errors)))
    table = table.set_index(["task", "step"])["z"]
    assert table.xs(0, level="step").eq(0).all()  # the ends are not judged
    assert table.xs(n - 1, level="step").eq(0).all()
    for of in range(count):
        for i in range(1, n - 1):
            expected = z_by_definition(tasks, errors, of, i)
            assert table[f"t{of}", i] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_other_jumps_of_the_task_and_of_the_model_widen_the_scale() -> None:
    lonely = [0.5, 0.5, 0.5, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    restless = [0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6]
    assert len(outliers(trajectories({"t": lonely}))) == 1
    assert outliers(trajectories({"t": restless})).empty
    beside = outliers(trajectories({"t": lonely, "other": restless, "third": restless}))
    assert beside.empty


def test_few_checkpoints_and_missing_errors_are_not_judged() -> None:
    jump = [0.5, 0.5, 0.9, 0.5]
    assert outliers(trajectories({"t": jump})).empty
    assert outliers(trajectories({"t": [*jump, 0.5]}, stderr=math.nan)).empty
    assert len(outliers(trajectories({"t": [*jump, 0.5]}))) == 1


def test_other_metrics_and_the_order_of_rows_do_not_matter() -> None:
    rows = trajectories({"t": [0.5, 0.5, 0.9, 0.5, 0.5, 0.5], "u": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
    noise = rows.assign(metric="accuracy", value=np.arange(12) % 2)
    shuffled = pd.concat([rows, noise]).sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(outliers(shuffled), outliers(rows))


@settings(deadline=None, max_examples=30)
@given(
    steps=st.lists(st.floats(0, 0.3), min_size=4, max_size=12),
    sign=st.sampled_from([-1, 1]),
    stderr=st.floats(0, 0.01),
)
def test_whatever_is_monotone_is_left_alone(steps: list[float], sign: int, stderr: float) -> None:
    values = 0.5 + sign * np.cumsum([0, *steps])
    assert (departures(trajectories(values[None], stderr=stderr))["excess"] < 1e-12).all()


@settings(deadline=None, max_examples=30)
@given(
    values=st.lists(st.floats(0, 1), min_size=5, max_size=10),
    stderr=st.floats(0.001, 0.05),
)
def test_turning_a_trajectory_over_or_around_changes_no_z(values: list[float], stderr: float) -> None:
    z = departures(trajectories(np.array([values]), stderr))["z"].to_numpy()
    over = departures(trajectories(1 - np.array([values]), stderr))["z"].to_numpy()
    around = departures(trajectories(np.array([values])[:, ::-1], stderr))["z"].to_numpy()
    np.testing.assert_allclose(over, z, atol=1e-6)
    np.testing.assert_allclose(around[::-1], z, atol=1e-6)


# Outliers: a checkpoint as a whole


def rising(tasks: int, n: int = 12) -> np.ndarray:
    return 0.3 + 0.5 / (1 + np.exp(-(np.arange(n)[None] - np.linspace(2, 4, tasks)[:, None]) / 0.7))


def test_a_small_jump_in_most_tasks_is_one_finding() -> None:
    values = rising(4)
    values[:3, 9] -= 0.045  # not enough alone
    table = outliers(trajectories(values))
    assert found(table) == [("m", "step9", ALL)]
    assert table["severity"].tolist() == ["warning"]
    assert "in 3 of 4 tasks that change" in table["detail"].iloc[0]


def test_half_of_the_tasks_are_not_most() -> None:
    values = rising(4)
    values[:2, 9] -= 0.045
    assert outliers(trajectories(values)).empty


def test_tasks_that_never_leave_chance_do_not_count() -> None:
    chance = 0.25 + 0.01 * np.random.default_rng(0).standard_normal((9, 12))
    values = np.concatenate([rising(3), chance])
    values[:3, 9] = 0.3
    table = outliers(trajectories(values))
    assert (table["task"] == ALL).sum() == 1
    assert "in 3 of 3 tasks that change" in table[table["task"] == ALL]["detail"].iloc[0]


def test_one_task_is_not_all() -> None:
    values = rising(1)
    values[0, 9] = 0.3
    assert found(outliers(trajectories(values))) == [("m", "step9", "t0")]


def test_a_broken_checkpoint_does_not_hide_one_of_another_model() -> None:
    broken, whole = rising(3), rising(3)
    broken[:, 8] = 0.3
    table = outliers(pd.concat([trajectories(broken, model="a"), trajectories(whole, model="b")]))
    assert set(table["model"]) == {"a"}
    assert set(table["checkpoint"]) == {"step8"}


# The table


def test_the_table_names_grave_findings_first() -> None:
    values = [0.5, 0.5, 0.9, 0.5, 0.5]
    table = audit(trajectories({"t": values}), digests({"t": {"0 1 2 3 4": "xyzuu"}}))
    assert table.columns.tolist() == list(COLUMNS)
    assert table["severity"].tolist() == ["warning", "warning", "note"]
    assert table["finding"].tolist() == ["identical_results"] * 2 + ["outlier"]
    assert (table["remedy"].str.len() > 0).all()


def test_an_empty_audit_is_its_header(tmp_path) -> None:
    write_tsv(audit(trajectories({"t": [0.5] * 6}), digests({"t": {"0 1": "xy"}})), tmp_path / "audit.tsv")
    assert (tmp_path / "audit.tsv").read_text() == "\t".join(COLUMNS) + "\n"
    assert audit(trajectories({"t": [0.5]}), digests({"t": {"0": "x"}})).empty


# The thresholds, by simulation with fixed seeds


def simulated(shape: int, n: int, tasks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Values and standard errors (tasks, checkpoints): a smooth curve; errors correlated over the steps."""

    def sigmoid(centre: float, width: float) -> np.ndarray:
        where = n * (centre + 0.1 * rng.uniform(-1, 1, (tasks, 1)))
        return 1 / (1 + np.exp((where - np.arange(n)) / (n * width)))

    low, high = rng.uniform(0.1, 0.4, (tasks, 1)), rng.uniform(0.6, 0.9, (tasks, 1))
    curves = [
        lambda: np.zeros((tasks, n)),
        lambda: sigmoid(0.4, 0.1),
        lambda: 1 - sigmoid(0.4, 0.1),
        lambda: sigmoid(0.5, 0.02),
        lambda: sigmoid(0.3, 0.08) - 0.7 * sigmoid(0.7, 0.08),
        lambda: 1 - sigmoid(0.3, 0.08) + 0.7 * sigmoid(0.7, 0.08),
    ]
    smooth = low + (high - low) * curves[shape % len(curves)]()
    stderr = np.sqrt(smooth * (1 - smooth) / rng.choice([300, 1000, 3000], (tasks, 1))) * 0.6
    rho = rng.choice([0, 0.5, 0.9])
    noise = math.sqrt(rho) * rng.standard_normal((tasks, 1))
    noise = noise + math.sqrt(1 - rho) * rng.standard_normal((tasks, n))
    return smooth + stderr * noise, stderr


def studies(
    count: int, n: int, tasks: int, seed: int, displaced: float = 0.0
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Metrics of `count` models; in each, one checkpoint is displaced by so many standard errors."""
    rng = np.random.default_rng(seed)
    parts, where = [], {}
    for number in range(count):
        values, stderr = simulated(number, n, tasks, rng)
        at = int(rng.integers(2, n - 2))
        values[:, at] += displaced * stderr[:, at] * rng.choice([-1, 1], tasks)
        parts.append(trajectories(values, stderr, model=f"m{number}"))
        where[f"m{number}"] = at
    return pd.concat(parts, ignore_index=True), where


SIZES = [(240, 8, 1), (90, 8, 4), (60, 20, 4), (24, 20, 12), (24, 154, 1), (12, 154, 12)]


@pytest.mark.parametrize(("count", "n", "tasks"), SIZES)
def test_sampling_noise_raises_no_alarm(count: int, n: int, tasks: int) -> None:
    metrics, _ = studies(count, n, tasks, seed=n * tasks)
    assert outliers(metrics).empty


def test_a_lower_threshold_would_raise_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, _ = studies(60, 154, 4, seed=0)
    assert outliers(metrics).empty
    monkeypatch.setattr("ebbtide.cells.result_audit.ALONE", 2.5)
    assert len(outliers(metrics)) >= 3
    monkeypatch.setattr("ebbtide.cells.result_audit.ALONE", 4.0)
    monkeypatch.setattr("ebbtide.cells.result_audit.TOGETHER", 1.0)
    assert (outliers(metrics)["task"] == ALL).sum() >= 3


@pytest.mark.parametrize(
    ("n", "displaced", "alone", "together"), [(8, 15, 0.5, 0.45), (20, 10, 0.7, 0.85), (154, 8, 0.7, 0.9)]
)
def test_a_displaced_checkpoint_is_found(n: int, displaced: float, alone: float, together: float) -> None:
    tasks = 6
    metrics, where = studies(30, n, tasks, seed=n, displaced=displaced)
    table = outliers(metrics)
    there = table["step"] == table["model"].map(where)
    whole = table["task"] == ALL
    assert (there & ~whole).sum() / (30 * tasks) > alone
    assert (there & whole).sum() / 30 > together
    assert table[~there]["model"].nunique() <= 3  # beside a jump on a steep slope, which point jumps is open
