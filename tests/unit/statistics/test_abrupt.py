"""Abrupt abilities: known steps, thresholds and smooth rises get their verdicts."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ebbtide.errors import ConfigError, FigureError
from ebbtide.figures.abrupt import plot_abrupt
from ebbtide.figures.theme import COLUMN_CM, PAGE_CM
from ebbtide.statistics.abrupt.curves import Curves, forms_of, left_out_table, points_table
from ebbtide.statistics.abrupt.sentences import verdict_sentences
from ebbtide.statistics.abrupt.verdicts import COLUMNS, Curve, verdict_table, verdicts
from ebbtide.statistics.abrupt.width import changes, head_starts
from ebbtide.statistics.panel import Trajectory
from ebbtide.study.published_points import read_points

SIZES = np.log10([1.9e7, 8.5e7, 3.0e8, 8.1e8, 1.2e9, 2.5e9, 6.4e9, 1.1e10])  # Pythia, non-embedding
STEP, MIRAGE, SMOOTH, FLAT = "step", "mirage", "smooth", "flat"


def curve(kind: str, rng: np.random.Generator, n: int = 500, tokens: int = 5) -> Curve:
    """A series of known truth: log-probabilities per token, and answers of some tokens drawn from them."""
    x = SIZES
    share = ((x - x[0]) / (x[-1] - x[0]))[:, None]
    ease = np.exp(0.3 * rng.normal(size=n))
    if kind == STEP:
        per_token = np.where(np.arange(len(x))[:, None] >= rng.integers(1, len(x)), -0.15, -1.6) * ease
    elif kind == MIRAGE:  # log p grows geometrically, without a step
        per_token = -2.2 * (0.06 / 2.2) ** share * ease
    elif kind == SMOOTH:
        tokens, per_token = 1, -1.2 * (0.4 / 1.2) ** share * ease
    else:
        per_token = -np.ones_like(share) * ease
    logp = tokens * per_token * np.ones((len(x), n))
    right = (rng.random((len(x), n)) < np.exp(logp)).astype(float)
    noise = rng.normal(0, 0.3 * tokens, logp.shape)
    labels = tuple(f"m{i}" for i in range(len(x)))
    pair = ("greedy_exact_match", "sequence_loss")
    name = f"t{rng.integers(10**9)}"
    return Curve("size", "", "", name, pair, x, labels, right, logp + noise, np.arange(n))


def found(kind: str, times: int = 25, **settings: int) -> Counter[str]:
    rng = np.random.default_rng(7)
    rows = [next(verdicts(curve(kind, rng, **settings), draws=200)) for _ in range(times)]
    return Counter(str(row["verdict"]) for row in rows)


def test_a_true_step_is_abrupt_and_nothing_else() -> None:
    counts = found(STEP)
    assert counts["abrupt"] >= 22 and set(counts) <= {"abrupt", "cannot tell"}


@pytest.mark.parametrize("tokens", [3, 5, 8])
def test_exact_match_of_k_tokens_over_a_smooth_probability_is_a_threshold(tokens: int) -> None:
    counts = found(MIRAGE, tokens=tokens)
    assert counts["threshold"] >= 24 and counts["abrupt"] == 0


def test_a_share_that_follows_its_log_probability_is_smooth() -> None:
    counts = found(SMOOTH, n=2000)
    assert counts["smooth"] >= 24 and counts["abrupt"] == counts["threshold"] == 0


def test_noise_alone_is_no_change_as_often_as_stated() -> None:
    counts = found(FLAT, times=100)
    assert counts["no change"] >= 87  # 95 expected; percentile intervals of 200 draws
    assert counts["abrupt"] + counts["threshold"] + counts["smooth"] <= 3


def test_widths_of_a_step_and_of_a_line() -> None:
    x = np.arange(5.0)
    curves = np.array([[0, 0, 1, 1, 1], [0, 0.25, 0.5, 0.75, 1], [0, -0.25, -0.5, -0.75, -1]])
    change = changes(x, curves)
    assert change.width[0] < 0.2
    assert change.width[1:] == pytest.approx([3.2, 3.2], abs=0.05)  # 0.8 of the range
    assert change.jump == pytest.approx([1, 0.25, 0.25])
    assert change.place[0] == 2
    assert change.total.tolist() == [1, 1, -1]


def test_the_head_start_is_what_the_signal_did_before() -> None:
    signal = np.array([[0.0, 2.5, 5.0, 7.5, 10.0]] * 3)
    outcome = np.array([[0, 0.25, 0.5, 0.75, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], dtype=float)
    start = head_starts(outcome, signal)
    assert start[:2] == pytest.approx([0.1, 0.775])
    assert np.isnan(start[2])


def test_a_falling_ability_does_not_appear_and_few_sizes_tell_nothing() -> None:
    one = curve(MIRAGE, np.random.default_rng(0))
    falling = Curve(**{**vars(one), "outcome": one.outcome[::-1], "signal": one.signal[::-1]})
    assert {row["verdict"] for row in verdicts(falling, draws=200)} == {"falls"}
    first = {name: getattr(one, name)[:3] for name in ("x", "labels", "outcome", "signal")}
    (row, _) = verdicts(Curve(**{**vars(one), **first}))
    assert (row["verdict"], row["note"]) == ("cannot tell", "3 points; at least 4 are needed")
    against = Curve(**{**vars(one), "signal": one.signal[::-1]})
    (row, _) = verdicts(against, draws=200)
    assert row["note"] == "right answers rise, but their log-probability does not"


def trajectory(model: str, size: int, values: np.ndarray, task: str = "sums") -> Trajectory:
    """A model whose T checkpoints have the exact matches `values` (T, n); losses are 1 minus them."""
    steps = np.arange(1, len(values) + 1)
    checkpoints = pd.DataFrame({"checkpoint": [f"s{i}" for i in steps], "step": steps, "tokens": 100 * steps})
    names = np.array([str(i) for i in range(values.shape[1])], dtype=object)
    metrics = {"greedy_exact_match": values, "greedy_accuracy": values, "sequence_loss": 1 - values}
    counts = {"total": size, "non_embedding": size, "active": size, "nominal": 0}
    return Trajectory(model, task, checkpoints, counts, names, np.arange(len(names)), metrics)


def test_curves_are_over_the_last_checkpoints_of_all_sizes_and_over_training() -> None:
    curves = Curves({}, None)
    values = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    over_training = [curves.add(trajectory(f"m{size}", size, values * (size > 10))) for size in (10, 40, 20)]
    assert [one.over for one in over_training] == ["tokens"] * 3
    (one,) = curves.over_size()
    assert one.labels == ("m10", "m20", "m40")
    assert one.outcome.tolist() == [[0, 0], [1, 1], [1, 1]]
    assert one.signal.tolist() == [[-1, -1], [0, 0], [0, 0]]  # a loss, with higher better
    assert one.metrics == ("greedy_exact_match", "sequence_loss")
    table = points_table([one])
    assert table["value"].tolist() == [0, 1, 1, -1, 0, 0]


@pytest.mark.parametrize(
    ("tasks", "width_cm", "rows"),
    [
        pytest.param(3, PAGE_CM, [True] * 3 + [False] * 3, id="a row for each form"),
        pytest.param(4, COLUMN_CM, [True, True, False, False] * 2, id="two full rows for each"),
        pytest.param(5, PAGE_CM, [True, False] * 5, id="no full rows: a row for each task"),
        pytest.param(3, COLUMN_CM, [True, False] * 3, id="no full rows in a column"),
    ],
)
def test_both_panels_of_a_task_are_one_above_the_other_or_side_by_side(
    tasks: int, width_cm: float, rows: list[bool]
) -> None:
    one = [curve(STEP, np.random.default_rng(1), n=20)]
    table, points = verdict_table(one), points_table(one)
    tables = (pd.concat([of.assign(task=f"t{i}") for i in range(tasks)]) for of in (table, points))
    panels = plot_abrupt(*tables, width_cm=width_cm).data["panel"].cat.categories
    assert ["right answers" in name.replace("\n", " ") for name in panels] == rows


def test_models_of_one_size_are_averaged_and_other_examples_left_out() -> None:
    curves = Curves({}, ["sums"])
    for model, size, answers in (("a", 10, [0.0, 0]), ("b", 10, [1, 1]), ("c", 20, [1, 1])):
        assert curves.add(trajectory(model, size, np.array([answers]))) is None  # one checkpoint
    curves.add(trajectory("d", 40, np.array([[1.0, 1, 1]])))  # three examples
    curves.add(trajectory("e", 40, np.array([[1.0, 1]]), task="other"))
    curves.add(trajectory("f", 0, np.array([[1.0, 1]])))  # of unknown size
    loss_only = trajectory("a", 10, np.array([[1.0, 1]]), task="sums")
    del loss_only.values["greedy_exact_match"], loss_only.values["greedy_accuracy"]
    curves.add(loss_only)
    (one,) = curves.over_size()
    left = left_out_table(curves.left_out)
    assert left["task"].tolist() == ["sums"] and left["verdict"].tolist() == ["cannot tell"]
    (note,) = left["note"]
    for part in (
        "size unknown, so not among sizes: f",
        "than most, so not among sizes: d",
        "no right answers",
    ):
        assert part in note
    assert verdict_sentences(left) == [f"sums: {note}."]
    assert one.labels == ("2 models", "c")
    assert one.outcome.tolist() == [[0.5, 0.5], [1, 1]]


def test_the_figure_and_the_sentences_say_the_verdict() -> None:
    rng = np.random.default_rng(1)
    curves = [curve(STEP, rng), curve(MIRAGE, rng)]
    table, points = verdict_table(curves), points_table(curves)
    assert list(table) == list(COLUMNS) and len(table) == 4
    published = pd.DataFrame({"task": [curves[0].task], "series": "x", "parameters": 1e10, "value": 0.8})
    drawn = plot_abrupt(table, points, published, {curves[0].task: "Sums"})
    assert drawn.labels.caption == "Squares: x."
    panels = drawn.data["panel"].cat.categories
    assert panels[0].startswith("Sums: right answers") and "(abrupt)" in panels[0].replace("\n", " ")
    abrupt, threshold = verdict_sentences(table)
    assert "abrupt" in abrupt and "times the size" in abrupt
    assert "a threshold on something smooth" in threshold and "% of its change" in threshold
    with pytest.raises(FigureError, match="several sizes"):
        plot_abrupt(table, points[:0])


def test_a_task_of_programs_has_its_log_probability_per_byte() -> None:
    def forms(*metrics: str) -> tuple[str, str] | None:
        return forms_of(SimpleNamespace(values=dict.fromkeys(metrics)))  # type: ignore[arg-type]

    per_byte = "sequence_loss_per_byte"
    assert forms("greedy_accuracy", per_byte) == ("greedy_accuracy", per_byte)
    assert forms("greedy_accuracy", per_byte, "sequence_loss") == ("greedy_accuracy", "sequence_loss")
    assert forms(per_byte) is None


def test_published_points_are_checked(tmp_path) -> None:
    file = tmp_path / "points.tsv"
    file.write_text("# a comment\ntask\tseries\tparameters\tvalue\tsource\nt\tGPT-3\t1.3e10\t0.08\tpaper\n")
    assert read_points(str(file)) == [
        {"task": "t", "series": "GPT-3", "parameters": 1.3e10, "value": 0.08, "source": "paper"}
    ]
    file.write_text("task\tvalue\nt\t0.1\n")
    with pytest.raises(
        ConfigError, match=r"points.tsv: found the columns task, value; allowed: task, series"
    ):
        read_points(str(file))
    file.write_text("task\tseries\tparameters\tvalue\tsource\nt\tGPT-3\t1.3e10\t8\tpaper\n")
    with pytest.raises(ConfigError, match=r"row 1: value: found '8'; allowed: a number from 0 to 1"):
        read_points(str(file))
    assert read_points(None) == []
