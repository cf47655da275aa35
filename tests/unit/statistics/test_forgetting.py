"""Forgetting: what is counted, what noise gives, and that noise is not called forgetting."""

import html
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ebbtide.errors import FigureError
from ebbtide.figures.forgetting import plot_forgetting
from ebbtide.metrics.direction import with_properties
from ebbtide.report.forgotten.page import forgotten_page
from ebbtide.statistics.forgetting.flicker import expected_falls, forgotten_by_chance
from ebbtide.statistics.forgetting.forgetting import curves, median_survival, net_test, summarise_histories
from ebbtide.statistics.forgetting.history import History, default_streak, history
from ebbtide.statistics.forgetting.notices import notices
from ebbtide.statistics.forgetting.tables import forgetting_tables, prompts, shortened, with_texts
from ebbtide.statistics.forgetting.together import forgotten_together
from ebbtide.statistics.panel import Trajectory
from simulate_forgetting import called
from simulated import simulate


def trajectory(
    values: np.ndarray, model: str = "m", size: int = 7, tokens: Sequence[int] | None = None
) -> Trajectory:
    T, n = values.shape
    steps = [2**t for t in range(T)]
    places = pd.DataFrame(
        {
            "checkpoint": [f"step{s}" for s in steps],
            "step": steps,
            "tokens": tokens or [10 * s for s in steps],
        }
    )
    names = np.array([f"e{i:04}" for i in range(n)])
    return Trajectory(
        model, "t", places, {"total": size}, names, np.arange(n), {"accuracy": values.astype(float)}
    )


def of(*strips: str, streak: int | None = None, **more: object) -> History:
    values = np.array([[c == "1" for c in strip] for strip in strips]).T
    found = history(trajectory(values, **more), "accuracy", streak=streak, size=7)
    assert isinstance(found, History)
    return found


def tables(
    *trajectories: Trajectory, largest: int = 3, streak: int | None = None, measured=None, replicates=None
):
    return forgetting_tables(
        trajectories,
        metrics=["accuracy"],
        parameters="total",
        largest=largest,
        streak=streak,
        alpha=0.05,
        measured=measured,
        replicates=replicates,
    )


def test_states_of_examples():
    found = of("11111111", "00011111", "01100000", "01010101", "01100001", streak=2)
    assert found.states.tolist() == ["always", "learned", "forgotten", "never", "wavering"]
    learned, lost = found.spans()
    assert learned.tolist() == [0, 3, 1, -1, 1] and lost.tolist() == [-1, -1, 3, -1, 3]


def test_untrained_checkpoints_do_not_count():
    values = np.array([[1, 1], [1, 0], [1, 0], [0, 0], [0, 0]])
    whole = trajectory(values)
    whole.checkpoints.loc[0, ["step", "tokens"]] = 0
    found = history(whole, "accuracy", streak=2, size=7)
    assert isinstance(found, History)
    assert found.right.shape == (4, 2) and found.forgotten.tolist() == [True, False]


@pytest.mark.parametrize(("T", "streak"), [(4, 1), (6, 2), (8, 2), (9, 3)])
def test_the_chance_of_looking_forgotten_is_a_count_of_orders(T, streak):
    for k in range(T + 1):
        orders = [
            "".join("1" if t in ones else "0" for t in range(T))
            for ones in itertools.combinations(range(T), k)
        ]
        hits = sum("1" * streak in order and order.endswith("0" * streak) for order in orders)
        assert forgotten_by_chance(T, streak)[k] == pytest.approx(hits / len(orders))
        falls = sum(order.count("10") for order in orders) / len(orders)
        assert expected_falls(np.array([[c == "1"] for c in orders[0]])) == pytest.approx(falls)


def test_long_trajectories_have_chances_between_0_and_1():
    chances = forgotten_by_chance(154, default_streak(154))
    assert ((chances >= 0) & (chances <= 1)).all() and default_streak(154) == 7
    assert [default_streak(T) for T in (2, 3, 4, 9, 16, 17)] == [1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("persistence", [0.0, 0.9])
def test_noise_is_not_called_forgetting(persistence):
    """At most 5 % where nothing moves; 150 draws see 5 ± 3.6 %."""
    assert called("noise", 8, 150, persistence, draws=150)["forgets"] <= 0.09


def test_forgetting_is_found_and_turnover_is_not_taken_for_it():
    assert called("forgetting", 8, 150, 0.5, draws=30)["forgets"] >= 0.9
    learning = called("learning", 8, 150, 0.5, draws=30)
    assert learning["forgets"] == 0
    drifting = called("noise", 16, 400, 0.9, draws=20)
    assert drifting["turnover"] >= 0.5 and drifting["forgets"] <= 0.2


def test_examples_of_a_cluster_count_once():
    """Ten copies of each example say no more than one."""
    values = simulate(np.random.default_rng(3), 8, 40, np.linspace(0.6, 0.4, 8), 0.5, 1.0)
    once = of(*["".join(str(int(x)) for x in column) for column in values.T])
    copies = np.repeat(values, 10, axis=1)
    many = trajectory(copies)
    clustered = Trajectory(
        *[getattr(many, f) for f in ("model", "task", "checkpoints", "parameters", "examples")],
        np.repeat(np.arange(40), 10),
        many.values,
    )
    found = history(clustered, "accuracy", streak=None, size=7)
    assert isinstance(found, History)
    assert net_test(found)["p_net"] == pytest.approx(net_test(once)["p_net"], abs=0.01)


def test_median_time_counts_what_was_not_lost():
    assert median_survival(np.array([1.0, 2.0, 3.0]), np.array([True] * 3)) == 2.0
    assert median_survival(np.array([1.0, 2.0, 2.5, 2.5]), np.array([True, True, False, False])) == 2.0
    assert np.isnan(median_survival(np.array([1.0, 2.0, 2.0]), np.array([True, False, False])))


def test_time_to_forget_is_in_decades_of_tokens():
    table = summarise_histories([of("11000000", "11110000", "11111111", streak=2)], 0.05)
    assert table["median_decades_to_forget"][0] == pytest.approx(np.log10(2**4))
    assert table[["ever_held", "ever_lost", "not_lost"]].values.tolist() == [[3, 2, 1]]
    unknown = summarise_histories([of("1100", tokens=[0, 0, 0, 0])], 0.05)
    assert "tokens are unknown" in unknown["note"][0] and np.isnan(unknown["median_decades_to_forget"][0])


def test_what_cannot_be_said_is_said_in_words():
    constant = of("11111111", "11111111")
    row = summarise_histories([constant], 0.05).iloc[0]
    assert row["p_net"] == 1 and row["p_flicker"] == 1 and "every answer is right" in row["note"]
    empty = tables()
    assert empty.summary["note"].tolist() == ["no forgetting: the study has no results"]
    assert empty.examples.empty


def at_steps(steps: list[int], **values: np.ndarray) -> Trajectory:
    """A trajectory of these steps, with these metrics."""
    whole = trajectory(next(iter(values.values())))
    places = pd.DataFrame({"checkpoint": [f"c{s}" for s in steps], "step": steps, "tokens": steps})
    return replace(whole, checkpoints=places, values=values)


HALF, ONES = np.full((3, 2), 0.5), np.ones((3, 2))
TWO = ", at least 2 trained ones needed; add steps of the model"
NO_ACCURACY = "; the task has no metric accuracy (trajectories.metrics)"


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (at_steps([0], accuracy=ONES[:1]), f"0 trained checkpoints and 1 untrained{TWO}"),
        (at_steps([8], accuracy=ONES[:1]), f"1 trained checkpoint{TWO}"),
        (at_steps([0, 8], accuracy=ONES[:2]), f"1 trained checkpoint and 1 untrained{TWO}"),
        (
            at_steps([1, 2, 3], accuracy=HALF),
            "accuracy is not a 0/1 metric; the task has none, only accuracy",
        ),
        (
            at_steps([1, 2, 3], loss=HALF, bits_per_byte=HALF),
            f"loss is not a 0/1 metric; the task has none, only loss, bits_per_byte{NO_ACCURACY}",
        ),
        (
            at_steps([1, 2, 3], margin=HALF, solved=ONES),
            "margin is not a 0/1 metric; add a 0/1 metric of the task to trajectories.metrics: "
            f"solved{NO_ACCURACY}",
        ),
        (at_steps([1, 2, 3], accuracy=ONES * np.nan), "accuracy has no value for any example"),
    ],
)
def test_a_task_that_cannot_be_followed_says_why(one: Trajectory, reason: str):
    found = tables(one)
    assert found.summary["note"].tolist() == [f"no forgetting: {reason}"]
    assert found.summary["verdict"].tolist() == [""] and found.curves.empty
    [said] = notices(found.summary, None)
    assert (said.severity, said.kind) == ("note", "not_compared")
    none = "the task has none" in reason
    assert said.detail == (
        "No forgetting of t, which has no 0/1 metric." if none else f"No forgetting: {reason} (m on t)."
    )
    page = forgotten_page(found.examples, found.summary, "s", rows=3)
    assert "No task could be followed." in page and html.escape(f"t: no forgetting: {reason}.") in page
    assert "No example was forgotten" not in page and "consecutive checkpoints" not in page


def test_results_without_examples_are_rows_with_their_reason():
    measured = pd.DataFrame(
        [("m", "t", "scored"), ("m", "whole", "scored"), ("other", "t", "imported"), ("m", "t", "imported")],
        columns=["model", "task", "source"],
    )
    found = tables(trajectory(np.ones((4, 2))), measured=measured)
    rows = found.summary.set_index(["model", "task"])["note"]
    assert list(rows.index) == [("m", "t"), ("m", "whole"), ("other", "t")]
    assert rows["m", "whole"] == (
        "no forgetting: lm-eval's own code measures the task as a whole, not example by example"
    )
    assert rows["other", "t"] == (
        "no forgetting: the results are imported summaries, which have no examples; import the samples of "
        "the same evaluation (format: lm_eval_samples)"
    )
    page = forgotten_page(found.examples, found.summary, "s", rows=3)
    assert "No example was forgotten. Left out: whole: no forgetting: lm-eval" in page
    assert [n.kind for n in notices(found.summary, 2)] == ["not_compared"] * 2


def test_what_was_chosen_instead_is_said():
    short = tables(trajectory(np.ones((6, 2))), streak=5).summary
    assert short["streak"].tolist() == [3]
    assert "forgetting.streak is 5, more than half of 6 trained checkpoints: 3 is used" in short["note"][0]
    [said] = notices(short, 5)
    assert said.detail == (
        "Examples are forgotten by a streak of 3 instead of 5, because a streak is at most half of the "
        "trained checkpoints (m on t)."
    )
    asked = tables(trajectory(np.ones((6, 2))), streak=1).summary
    assert "counts as learned" not in asked["note"][0] and notices(asked, 1) == []
    few = tables(trajectory(np.ones((3, 2)))).summary
    assert "only 3 trained checkpoints, so one correct answer counts as learned" in few["note"][0]
    [said] = notices(few, None)
    assert said.detail == "Examples are learned and forgotten by a streak of 1, the default."
    first = tables(at_steps([1, 2, 3, 4], exact_match=np.ones((4, 2)))).summary
    assert first["note"][0].startswith(
        "the task has no metric accuracy (trajectories.metrics): its main metric is followed"
    )
    unordered = tables(at_steps([0, 0, 0], accuracy=ONES)).summary
    assert (
        "neither steps nor tokens are known: checkpoints are in the order of their names"
        in (unordered["note"][0])
    )


def test_models_that_cannot_be_compared_say_why():
    a, b = trajectory(np.ones((4, 2)), "a", 10), trajectory(np.ones((4, 2)), "b", 20)
    longer = trajectory(np.ones((4, 3)), "b", 20)
    unknown = trajectory(np.ones((4, 2)), "c", 0)
    one, other = replace(a, task="u"), replace(trajectory(np.ones((1, 2)), "b", 20), task="u")
    for trajectories, largest, task, note in (
        ([a], 3, "t", "one model only: nothing to compare"),
        ([a, b], 1, "t", "forgetting.largest is 1: at least 2 models are needed"),
        ([a, longer], 3, "t", "b and a have different examples"),
        ([a, b, one, other], 3, "u", "only a of the largest models (b, a) has a history of this task"),
        ([a, b, replace(unknown, task="u")], 2, "u",
         "none of the 2 largest models (b, a) has a history of this task"),
        ([a, b, unknown], 3, "t",
         "the sizes of c are unknown, so these may not be the largest models"),
    ):  # fmt: skip
        together = tables(*trajectories, largest=largest).together.set_index("task")
        assert together.loc[task, "note"] == note


@pytest.mark.parametrize("persistence", [0.0, 0.8])
def test_models_that_share_only_hard_examples_forget_together_by_chance(persistence: float) -> None:
    """Level where answers drift and examples are hard for all; power where the same examples are lost."""
    T, n, draws = 12, 300, 40
    found = {False: 0, True: 0}
    for draw, same in itertools.product(range(draws), found):
        rng = np.random.default_rng([draw, same])
        hard, lost = rng.normal(size=n), np.where(np.arange(n) < 40, 1, 0) * same
        models = []
        for name in "abc":
            noise = [rng.normal(size=n)]
            for fresh in rng.normal(size=(T - 1, n)):
                noise.append(persistence * noise[-1] + np.sqrt(1 - persistence**2) * fresh)
            values = (hard + np.array(noise) + lost * np.linspace(3, -3, T)[:, None] > 0).astype(float)
            models.append(history(trajectory(values, name), "accuracy", streak=None, size=1))
        found[same] += forgotten_together(models, ["a", "b", "c"])["p"][0] < 0.05
    assert found[False] <= 0.12 * draws
    assert found[True] >= 0.8 * draws


def test_forgotten_by_all_large_models():
    a = trajectory(np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 1]]), "a", 10)
    b = trajectory(np.array([[1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1]]), "b", 20)
    small = trajectory(np.array([[0, 0, 0]] * 4), "s", 1)
    found = tables(small, a, b, largest=2)
    [row] = found.together.to_dict("records")
    assert row["models"] == "b, a" and row["forgotten_together"] == 1 and row["forgotten_each"] == "1, 2"
    assert row["expected_independent"] == pytest.approx(3 * 1 / 3 * 2 / 3)
    # All three are right twice in a, two of them forgotten; in b only the one that is right twice is.
    assert row["expected_difficulty"] == pytest.approx(2 / 3 * 1)
    examples = found.examples.set_index("example")
    assert examples.loc["e0000", ["in_all_large", "forgotten_in"]].tolist() == ["yes", 2]
    assert examples.loc["e0001", "in_all_large"] == "no"
    assert examples.loc["e0000", "when"] == "a: step1 → step4; b: step1 → step4"
    assert "a ●●○○" in examples.loc["e0000", "strips"]
    assert "one model" in forgotten_together([of("1100")], ["m"])["note"][0]


def test_the_largest_models_are_of_different_sizes_where_some_differ_only_by_seed():
    """With three seeds of the largest size, all three largest models would be of that size."""
    lost = trajectory(np.array([[1, 1], [1, 1], [0, 0], [0, 0]]), "small", 10)
    kept = trajectory(np.array([[1, 1], [1, 1], [1, 0], [1, 0]]), "big-2", 20)
    seeds = [replace(kept, model=name) for name in ("big-1", "big-0")]
    of_seeds = dict.fromkeys(("big-0", "big-1", "big-2"), "20")
    found = tables(lost, kept, *seeds, largest=2, replicates=of_seeds)
    [row] = found.together.to_dict("records")
    assert (row["models"], row["forgotten_together"]) == ("big-0, small", 1)
    assert row["note"] == "big-0 stands for the 3 runs of 20"
    examples = found.examples.set_index("example")
    assert examples["in_all_large"].to_dict() == {"e0000": "no", "e0001": "yes"}
    assert tables(lost, kept, *seeds, largest=2).together["models"][0] == "big-0, big-1"


def test_prompts_have_their_right_answer():
    asked = pd.DataFrame(
        {
            "example": ["x", "x", "y", "y"],
            "choice": [0, 1, 0, 1],
            "context": ["a\nb", "a\nb", "c" * 400, "c" * 400],
            "continuation": [" no", " yes", " one", " two"],
            "gold": [False, True, True, False],
        }
    )
    shown = prompts(asked).set_index("example")
    assert shown.loc["x"].tolist() == ["a⏎b", " yes"] and shown.loc["y", "answer"] == " one"
    assert len(shown.loc["y", "prompt"]) < 240
    assert prompts(asked, invert=True).set_index("example").loc["x", "answer"] == " no"
    assert shortened("abcdefgh", 2, 1) == "ab … h"


def test_the_page_escapes_texts_and_is_bounded():
    values = np.array([[1] * 5, [1] * 5, [0] * 5, [0] * 5])
    found = tables(trajectory(values), trajectory(values, "<b>"))
    texts = pd.DataFrame(
        {"example": found.examples["example"], "prompt": "<script>alert(1)</script>", "answer": "&"}
    )
    examples = with_texts(found.examples, {"t": texts})
    page = forgotten_page(examples, found.summary, "s", rows=3)
    assert page.count("<script>") == 1 and "&lt;script&gt;alert(1)" in page and "&lt;b&gt; ●●○○" in page
    assert page.count("<tr><td>") == 3 and "2 of t" in page
    assert "http" not in page.replace("http-equiv", "")
    none = tables(trajectory(np.ones((4, 2))))
    assert "No example was forgotten" in forgotten_page(none.examples, none.summary, "s", rows=3)


def test_curves_end_where_the_table_ends():
    found = of("01100000", "11111111", "01010101", streak=2)
    table = curves(found)
    assert table["forgotten"].iloc[-1] == found.forgotten.mean()
    assert table["forgotten_expected"].iloc[-1] == pytest.approx(found.forgotten_by_chance.mean())
    assert table["right"].tolist() == found.right.mean(axis=1).tolist()
    table = with_properties(table)
    none = pd.DataFrame({"note": ["no forgetting: loss is not a 0/1 metric", ""]})
    titles = {
        "tokens": "Training tokens (log scale)",
        "step": "Training step (log scale; tokens unknown: set tokens_per_step)",
        "checkpoint": "Checkpoint, in order (no training tokens or steps above 0)",
    }
    for unknown, title in zip(({}, {"tokens": 0}, {"tokens": 0, "step": 0}), titles.values(), strict=True):
        plot = plot_forgetting(table.assign(**unknown), none)
        plot.draw()
        assert plot.labels.x == title
    with pytest.raises(FigureError, match="nothing to draw: no forgetting: loss is not a 0/1 metric"):
        plot_forgetting(table.iloc[:0], none)
    with pytest.raises(FigureError, match="no model has results by example"):
        plot_forgetting(table.iloc[:0], none.iloc[:0])
