"""Flips: planted ones are found, with exact numbers, in every kind of task."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebbtide.errors import CellError
from ebbtide.metrics import METRICS
from ebbtide.metrics.of_cell import example_rows, examples_of, incomparable
from ebbtide.statistics.alarms.alarms import COLUMNS as ALARMS
from ebbtide.statistics.flips.answers import Answers, answers_of, answers_of_table
from ebbtide.statistics.flips.changes import by_group, changes, counts, in_words, largest
from ebbtide.statistics.flips.notices import notices
from ebbtide.statistics.flips.on_disk import EXAMPLES, read_flips, write_flips
from ebbtide.statistics.flips.others import with_other_models
from ebbtide.statistics.flips.tables import flip_tables, pairs_of_alarms
from ebbtide.statistics.flips.texts import asked_of, few_shot_of, read_texts
from ebbtide.statistics.panel import Trajectory
from ebbtide.tables import REQUESTS, write_parquet


def answers(values: list[float], margins: list[float] | None = None, metric: str = "accuracy") -> Answers:
    n = len(values)
    return Answers(
        metric,
        np.array([f"e{i}" for i in range(n)], dtype=object),
        np.array(values),
        np.array(values if margins is None else margins),
        float(np.nanmean(values)),
        np.full(n, -1),
        np.zeros(n + 1, dtype=int),
        np.empty(0),
        np.empty(0, dtype=bool),
    )


def test_right_answers_are_lost_and_gained_and_the_largest_loss_comes_first() -> None:
    before = answers([1, 1, 1, 0, 0, 1], [0.5, 2.0, 0.1, -1.0, -0.2, 1.0])
    after = answers([0, 0, 1, 1, 0, 0], [-0.5, -1.0, 0.1, 3.0, -0.9, np.nan])
    table = changes(before, after)
    assert table["flip"].tolist() == ["lost", "lost", "", "gained", "", "lost"]
    assert counts(table) == {"n": 6, "lost": 3, "gained": 1}
    listed = largest(table, None)
    assert listed["example"].tolist() == ["e1", "e0", "e5", "e3"]  # 3.0 lost, 1.0 lost, unknown; gained
    assert listed["margin_lost"].tolist()[:2] == [3.0, 1.0]
    assert largest(table, 1)["example"].tolist() == ["e1", "e3"]


def test_of_a_rate_of_errors_a_rise_is_lost_and_examples_it_excludes_do_not_count() -> None:
    before = answers([0, 0, 1, np.nan], metric="false_positive_rate")
    after = answers([1, 0, 0, np.nan], metric="false_positive_rate")
    table = changes(before, after)
    assert table["flip"].tolist() == ["lost", "", "gained"]
    assert table["right_before"].tolist() == [True, True, False]


def test_other_examples_cannot_be_compared() -> None:
    with pytest.raises(CellError, match=r"different examples \(2 and 3\)"):
        changes(answers([1, 0]), answers([1, 0, 1]))


def test_groups_count_what_was_lost_against_what_could_be_lost() -> None:
    # 8 right in A, 8 in B, 4 wrong in B; A loses 6, B 2. One example has no level.
    before = answers([1.0] * 16 + [0.0] * 4 + [1.0])
    after = answers([0.0] * 6 + [1.0] * 2 + [0.0] * 2 + [1.0] * 6 + [0.0] * 4 + [0.0])
    levels = pd.DataFrame({"part": ["A"] * 8 + ["B"] * 12 + [None]}, index=before.examples)
    found = by_group(changes(before, after), levels.assign(same="x"))
    assert found.to_dict("records") == [
        {**of, "group": "part"}
        for of in (
            {"level": "A", "n": 8, "right_before": 8, "lost": 6, "gained": 0, "lost_expected": 4.0},
            {"level": "B", "n": 12, "right_before": 8, "lost": 2, "gained": 0, "lost_expected": 4.0},
        )
    ]
    assert in_words(found) == "6 of 8 in part=A (8 of 20 examples)"
    even = found.assign(lost=[4, 4])
    assert in_words(even) == "spread over 2 levels of part"
    assert in_words(found.assign(lost=0)) == ""


def cell(requests: pd.DataFrame, loglikelihoods: list[float], **columns: Any) -> pd.DataFrame:
    texts = requests["continuation"]
    return requests[["example", "choice"]].assign(
        loglikelihood=loglikelihoods,
        first_token_loglikelihood=loglikelihoods,
        tokens=columns.get("tokens", 1),
        bytes=[len(text.encode()) for text in texts],
        characters=texts.str.len(),
        greedy=columns.get("greedy", False),
        context_tokens=1,
        truncated=False,
    )


def asked(*choices: list[str], **columns: Any) -> pd.DataFrame:
    rows = [
        {"example": str(i), "choice": k, "context": f"c{i}", "continuation": text}
        for i, of in enumerate(choices)
        for k, text in enumerate(of)
    ]
    return pd.DataFrame(rows).assign(**columns)


def both(
    requests: pd.DataFrame, lp: list[list[float]], metric: str, kind: str, **more: Any
) -> tuple[pd.DataFrame, Answers]:
    invert = {"invert": more.pop("invert")} if "invert" in more else {}
    greedy = more.pop("greedy", [False, False])
    found = [
        answers_of(
            examples_of(cell(requests, of, greedy=flags, **more), requests, {"kind": kind, **invert}), metric
        )
        for of, flags in zip(lp, greedy, strict=True)
    ]
    return changes(*found).set_index("example"), found[1]


def test_margin_probabilities_and_choices_are_those_that_accuracy_compares() -> None:
    requests = asked([" a", " bb", " c"], [" a", " b", " c"], gold=[True, False, False, False, True, False])
    table, after = both(
        requests, [[-1, -2, -3, -1, -2, -3], [-3, -1, -2, -1, -0.5, -3]], "accuracy", "choice"
    )
    lost, gained = table.loc["0"], table.loc["1"]
    assert (lost["flip"], lost["margin_before"], lost["margin_after"], lost["margin_lost"]) == (
        "lost",
        1,
        -2,
        3,
    )
    assert (lost["chosen_before"], lost["chosen_after"]) == (0, 1)
    assert (gained["flip"], gained["margin_after"]) == ("gained", 0.5)
    odds = np.exp([-3, -1, -2])
    np.testing.assert_allclose(after.probabilities_of(0), odds / odds.sum())
    assert (after.right_of(0), after.right_of(1)) == ([0], [1])
    # By length, " bb" is compared with its 3 characters.
    by_length, _ = both(
        requests, [[-1, -2, -3, -1, -2, -3], [-1, -1.2, -3, -1, -2, -3]], "accuracy_per_character", "choice"
    )
    assert by_length.loc["0", "flip"] == "lost"
    assert by_length.loc["0", "margin_after"] == pytest.approx(-1 / 2 + 1.2 / 3)


def test_inverted_choices_exchange_right_and_wrong() -> None:
    requests = asked([" a", " b"], gold=[True, False])
    table, after = both(requests, [[-2, -1], [-1, -2]], "accuracy", "choice", invert=True)
    assert table.loc["0", ["flip", "margin_before"]].tolist() == ["lost", 1.0] and after.right_of(0) == [1]


def test_binary_tasks_flip_in_the_rate_that_counts_them() -> None:
    requests = asked([" yes", " no"], [" yes", " no"], gold=[True, False, False, True], value=[1.0, 0.0] * 2)
    lp = [[-1, -2, -2, -1], [-2, -1, -1, -3]]
    table, _ = both(requests, lp, "false_positive_rate", "binary")
    assert list(table.index) == ["1"] and table.loc["1", "flip"] == "lost"
    assert table.loc["1", "margin_lost"] == 1 + 2
    assert both(requests, lp, "accuracy", "binary")[0]["flip"].tolist() == ["lost", "lost"]


def test_sequences_lose_log_likelihood() -> None:
    requests = asked([" end"], [" end"], [" end"])
    table, after = both(requests, [[-1, -2, -3], [-4, -2, -1]], "sequence_loss", "sequence")
    assert table["flip"].tolist() == ["worse", "", "better"]
    assert table["margin_lost"].tolist() == [3, 0, -2]  # nats
    assert table["chosen_before"].isna().all() and after.probabilities_of(0) is None
    greedy, _ = both(
        requests,
        [[-1] * 3, [-2] * 3],
        "greedy_accuracy",
        "sequence",
        greedy=[[True] * 3, [True, False, True]],
    )
    assert greedy["flip"].tolist() == ["", "lost", ""] and greedy["margin_lost"].tolist() == [1, 1, 1]


def test_long_documents_count_by_their_length() -> None:
    requests = asked(["long"], ["short"])
    table, _ = both(requests, [[-30, -10], [-60, -19]], "loss", "rolling", tokens=[30, 10])
    assert table["value_after"].tolist() == [2.0, 1.9]  # nats per token
    # Lost log-likelihood: 30 and 9 nats, over the mean length of 20 tokens.
    np.testing.assert_allclose(table["margin_lost"], [30 / 20, 9 / 20])


def test_ratings_lose_by_their_squared_error_and_odds_by_their_shift() -> None:
    columns = {"value": [1.0, 5.0], "target": 5.0, "gold": [False, True]}
    table, after = both(asked([" 1", " 5"], **columns), [[-9, -0.0], [-0.0, -9]], "rmse", "rating")
    assert table.loc["0", "flip"] == "worse"
    assert table.loc["0", "margin_lost"] == pytest.approx(16, rel=1e-2)
    assert len(after.probabilities_of(0) or []) == 2
    roles = {"role": ["choice", "choice", "other", "other"], "of": [0, 1, 0, 1], "gold": [True, False] * 2}
    odds, _ = both(
        asked([" a", " b", " a", " b"], **roles), [[-1, -3, -2, -2], [-3, -1, -2, -2]], "log_odds", "log_odds"
    )
    assert odds.loc["0", ["value_before", "value_after", "margin_lost"]].tolist() == [2, -2, 4]


@pytest.mark.parametrize(
    ("kind", "metric", "columns", "tokens"),
    [
        ("choice", "margin", {"gold": [True, False] * 3}, 1),
        ("rolling", "bits_per_byte", {}, [3, 5, 9]),
        ("sequence", "sequence_loss", {}, 1),
    ],
)
def test_means_are_those_of_the_tables_of_examples(
    kind: str, metric: str, columns: dict[str, Any], tokens: Any
) -> None:
    """What `flip_tables` compares with the alarms."""
    texts = [[" a", " bb"]] * 3 if kind == "choice" else [[" a"], [" bb"], [" ccc"]]
    requests = asked(*texts, **columns)
    lp = [-1.0 - 0.5 * i for i in range(len(requests))]
    x = examples_of(cell(requests, lp, tokens=tokens), requests, {"kind": kind})
    assert answers_of(x, metric).mean == pytest.approx(np.nanmean(example_rows(x, {"kind": kind})[metric]))


def trajectory(model: str, values: list[list[float]], tokens: list[int], **metrics: Any) -> Trajectory:
    n = len(values[0])
    steps = [i if t else 0 for i, t in enumerate(tokens)]
    checkpoints = pd.DataFrame({"checkpoint": [f"t{t}" for t in tokens], "step": steps, "tokens": tokens})
    names = np.array([f"e{i}" for i in range(n)], dtype=object)
    found = {"accuracy": np.array(values), **{name: np.array(of) for name, of in metrics.items()}}
    return Trajectory(model, "t", checkpoints, {}, names, np.arange(n), found)


def flips(rows: list[tuple[str, str]], **more: Any) -> pd.DataFrame:
    pair = {"model": "a", "task": "t", "metric": "accuracy", "from_model": "a", "from": "x", "to": "y"}
    table = pd.DataFrame(rows, columns=["example", "flip"])
    return table.assign(**{**pair, "from_tokens": 100, "to_tokens": 200, **more})


def test_other_models_count_if_they_have_the_same_training_tokens() -> None:
    models = [
        trajectory("a", [[1, 1, 0], [0, 0, 1]], [100, 200]),
        trajectory("b", [[1, 1, 1], [1, 1, 0], [0, 1, 1]], [50, 101, 199]),  # within 2 %
        trajectory("c", [[1, 0, 0], [0, 1, 0]], [100, 200]),
        trajectory("far", [[1, 1, 0], [0, 0, 1]], [100, 250]),
        trajectory("a-mean2", [[1, 1, 0], [0, 0, 1]], [100, 200]),
    ]
    rows = [("e0", "lost"), ("e1", "lost"), ("e2", "gained")]
    exact = with_other_models(flips(rows), models, {"a-mean2": "a"})
    assert exact["other_models"].tolist() == [1, 1, 1]
    found = with_other_models(flips(rows), models, {"a-mean2": "a"}, 0.02)
    assert found["other_models"].tolist() == [2, 2, 2]
    assert found["also_flipped"].tolist() == [2, 0, 1]
    assert found["also_in"].tolist() == ["b, c", "", "b"]
    for unknown in ({"from_model": "b"}, {"metric": "margin"}, {"from_tokens": pd.NA}):
        assert with_other_models(flips(rows, **unknown), models)["other_models"].isna().all()


def alarm(**columns: Any) -> dict[str, Any]:
    row = {**dict.fromkeys(ALARMS, ""), "model": "a", "task": "t", "metric": "accuracy", "checkpoint": "t200"}
    return {**row, "reference": "t100", "against": "best", "severity": "minor", **columns}


def test_a_pair_with_several_alarms_is_one_pair() -> None:
    rows = [
        alarm(value=0.25, reference_value=1.0),
        alarm(against="predecessor", severity="severe", value=0.25, reference_value=1.0),
        alarm(group="part=A"),
        alarm(checkpoint="t300", severity=""),
        alarm(against="baseline", reference="b/t0", value=0.25, reference_value=0.5),
    ]
    places = pd.DataFrame(
        [("a", "t100", 1, 100), ("a", "t200", 2, 0), ("b", "t0", 0, 0)],
        columns=["model", "checkpoint", "step", "tokens"],
    )
    found = pairs_of_alarms(pd.DataFrame(rows, columns=list(ALARMS)), places)
    assert found["against"].tolist() == ["best, predecessor", "baseline"]
    assert found["severity"].tolist() == ["severe", "minor"]
    assert found[["from_model", "from", "to"]].to_numpy().tolist() == [
        ["a", "t100", "t200"],
        ["b", "t0", "t200"],
    ]
    assert found["from_tokens"].tolist() == [100, 0]
    assert found["to_tokens"].isna().all()  # trained, on an unknown number of tokens


def pair(**columns: Any) -> pd.DataFrame:
    places = [("a", "t100", 1, 100), ("a", "t200", 2, 200)]
    table = pd.DataFrame(places, columns=["model", "checkpoint", "step", "tokens"])
    row = alarm(value=0.25, reference_value=0.75, **columns)
    return pairs_of_alarms(pd.DataFrame([row], columns=list(ALARMS)), table)


OF_A = trajectory("a", [[1, 1, 1, 0], [0, 0, 1, 0]], [100, 200], margin=[[1, 2, 3, -1], [-1, -4, 3, -1]])


def no_texts(task: str) -> pd.DataFrame:
    return read_texts([])


def test_imported_answers_have_margins_but_no_choices(tmp_path: Path) -> None:
    tables = flip_tables(pair(), lambda m, c, t, metric: answers_of_table(OF_A, c, metric), no_texts, 1)
    assert tables.examples[["example", "margin_lost"]].to_numpy().tolist() == [["e1", 6.0]]
    [summary] = tables.pairs.to_dict("records")
    assert (summary["lost"], summary["listed_lost"], summary["gained"]) == (2, 1, 0)
    assert summary["note"] == "imported samples: the log-likelihoods of choices are not kept"
    assert summary["sentence"] == "2 of 4 examples went from right to wrong, 0 from wrong to right"
    write_flips(tables.examples, tmp_path / "flips.parquet")
    back = read_flips(tmp_path / "flips.parquet")
    assert list(back) == list(EXAMPLES) and back.loc[0, "probability_before"] is None
    assert back.loc[0, "from_tokens"] == 100 and back.loc[0, "margin_after"] == -4


def test_what_is_counted_but_not_listed_is_said() -> None:
    tables = flip_tables(pair(), lambda m, c, t, metric: answers_of_table(OF_A, c, metric), no_texts, 1)
    left, imported = notices(tables.pairs)
    assert left.count == 1 and left.detail.startswith(
        "flips.parquet lists the examples that changed most and leaves out 1 of 2, in 1 pair of checkpoints "
        "(most of a on t)"
    )
    assert imported.detail.startswith("The flips of 1 pair of imported checkpoints have no choices")
    assert not list(notices(tables.pairs.assign(listed_lost=2, note="")))


def test_answers_of_another_state_than_the_alarm_are_an_error() -> None:
    stale = pair().assign(to_value=0.5)
    with pytest.raises(CellError, match=r"a t200, t: accuracy of its cell is 0\.25, but 0\.5 was compared"):
        flip_tables(stale, lambda m, c, t, metric: answers_of_table(OF_A, c, metric), no_texts, 1)


def test_a_study_without_alarms_has_empty_tables(tmp_path: Path) -> None:
    none = pairs_of_alarms(
        pd.DataFrame(columns=list(ALARMS)), pd.DataFrame(columns=["model", "checkpoint", "step", "tokens"])
    )
    tables = flip_tables(none, lambda *where: pytest.fail("nothing to read"), no_texts, 5)
    examples = with_other_models(tables.examples, [])
    write_flips(examples, tmp_path / "flips.parquet")
    assert list(read_flips(tmp_path / "flips.parquet")) == list(EXAMPLES)
    assert tables.pairs.empty and "sentence" in tables.pairs and "lost_expected" in tables.groups


def test_few_shot_examples_are_told_apart_where_they_can_be() -> None:
    shots = few_shot_of(
        {"identity": "x", "definition": {"few_shot": {"k": 2, "separator": "\n\n", "seed": 1}}}
    )
    assert shots == (2, "\n\n", "")
    assert asked_of("Q1 A1\n\nQ2 A2\n\nQ3", *shots) == "Q3"
    assert asked_of("P1\n\nQ1 A1\n\nP2\n\nQ2 A2\n\nP3\n\nQ3", *shots) == "P3\n\nQ3"
    assert asked_of("P1\n\nQ1\n\nQ2\n\nQ3", *shots) == "P1\n\nQ1\n\nQ2\n\nQ3"  # not evenly
    fixed = few_shot_of({"identity": "x", "definition": {"few_shot": {"prefix": "Do it.", "separator": "#"}}})
    assert fixed[0] is None and asked_of("Do it.#Q", *fixed) == "Q"
    assert few_shot_of({"identity": "x", "definition": {}})[0] == 0
    assert few_shot_of({"definition": {}})[0] is None  # imported
    harness = {"identity": "x", "lm_eval": {"num_fewshot": 1, "config": {"fewshot_delimiter": "\n"}}}
    assert asked_of("S\nQ", *few_shot_of(harness)) == "Q"


def test_texts_of_long_contexts_keep_their_end(tmp_path: Path) -> None:
    requests = asked([" a", " b"], gold=[False, True], context="x" * 3000 + "END", group_part="P")
    write_parquet(
        requests, tmp_path / "t.parquet", REQUESTS, {"task": "t", "identity": "x", "definition": {}}
    )
    [row] = read_texts([tmp_path / "t.parquet"]).to_dict("records")
    assert row["prompt"].endswith("xEND") and len(row["prompt"]) == 2000 and row["characters_before"] == 1003
    assert (row["choices"], row["right"], row["group_part"]) == ([" a", " b"], [1], "P")


def test_examples_are_compared_only_by_metrics_with_a_better_end_and_a_value_of_their_own() -> None:
    refused = {name for name, metric in METRICS.items() if incomparable(metric)}
    assert refused == {
        *("ties", "majority_baseline", "calibration_error", "log_odds", "absolute_log_odds"),
        *("expected_rating", "bias", "item_mean_baseline", "rmse"),
        *("sequence_perplexity", "perplexity", "byte_perplexity"),
        *("sample_loss", "sample_tokens", "sample_words", "distinct_1", "distinct_2", "repetition"),
        *("ended_by_stop", "ended_by_eos", "ended_by_length"),
    }
