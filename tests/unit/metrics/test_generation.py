"""Metrics of samples: against their definitions, written out, and their errors against repeated sampling."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from ebbtide.errors import TaskError
from ebbtide.metrics import METRICS, generation, measured
from ebbtide.metrics.chosen import main_metric
from ebbtide.metrics.direction import is_of_group

DEFINITION = {"kind": "generation"}


@pytest.fixture
def toxic() -> Iterator[None]:
    """The metrics of a classifier, registered as those that come with a package."""
    generation._scores("toxic", higher_is_better=False)
    yield
    for name in ("score_toxic", "score_toxic_above_half", "score_toxic_highest"):
        del METRICS[name]


def columns(values: np.ndarray, name: str = "exact", **others: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of a cell with one value per example and sample (E, S), and its requests."""
    examples, samples = values.shape
    count = values.size
    keys = {
        "example": np.repeat([f"{n:03d}" for n in range(examples)], samples).astype(object),
        "choice": np.tile(np.arange(samples), examples),
    }
    rows = {
        **keys,
        "loglikelihood": np.full(count, -6.0),
        "tokens": np.full(count, 3),
        "ended": np.array(["eos", "length"] * count, dtype=object)[:count],
        **dict.fromkeys(("characters", "bytes", "words"), np.full(count, 4)),
        **dict.fromkeys(("distinct_1", "distinct_2"), np.full(count, 0.5)),
        "repetition": np.full(count, np.nan),
        **others,
        name: values.ravel().astype(float),
    }
    return rows, {**keys, "gold": np.ones(count, dtype=bool)}


def metrics(cell: tuple[dict[str, Any], dict[str, Any]], **definition: Any) -> dict[str, Any]:
    """Metric → value, stderr, n and chance."""
    table, _ = measured(*cell, {**DEFINITION, **definition})
    of = zip(table["value"], table["stderr"], table["n"], table["chance"], strict=True)
    return dict(zip(table["metric"], of, strict=True))


def test_exact_match_is_a_mean_over_samples_then_over_examples() -> None:
    values = np.array([[1, 1, 0, 0], [1, 0, np.nan, np.nan], [0, 0, 0, 0]])
    value, stderr, n, chance = metrics(columns(values))["exact_match"]
    means = np.array([0.5, 0.5, 0.0])
    assert (value, n, chance) == (pytest.approx(1 / 3), 3, 0)
    assert stderr == pytest.approx(means.std(ddof=1) / np.sqrt(3))


@pytest.mark.parametrize("samples", [5, 6])
def test_pass_at_k_is_the_share_of_draws_with_a_right_sample(samples: int) -> None:
    """Of all C(n, k) draws of k samples without replacement, those with at least one right one."""
    draw = np.random.default_rng(0)
    values = draw.integers(0, 2, (7, samples)).astype(float)
    found = metrics(columns(values))
    assert {name for name in found if name.startswith("pass")} == {"pass_at_1", "pass_at_2", "pass_at_5"}
    for k in (1, 2, 5):
        expected = [np.mean([max(drawn) for drawn in combinations(row, k)]) for row in values]
        assert found[f"pass_at_{k}"][0] == pytest.approx(np.mean(expected))
    assert found["pass_at_1"][0] == pytest.approx(found["exact_match"][0])


def test_pass_at_k_needs_k_answers_of_every_example() -> None:
    values = np.ones((3, 5))
    values[1, 1:] = np.nan  # a filter has left one answer
    found = metrics(columns(values))
    assert "pass_at_1" in found and "pass_at_2" not in found
    with pytest.raises(TaskError, match="metrics: pass_at_2 needs answers_2"):
        metrics(columns(values), metrics=["pass_at_2"])


def named(*pipelines: str) -> dict[str, Any]:
    return {"pipelines": [{"name": name, "filters": []} for name in pipelines]}


def test_every_pipeline_of_filters_has_metrics_of_its_own() -> None:
    first, second = np.array([[1, 0, 1], [0, 0, 1]]), np.array([[0, np.nan, np.nan], [1, np.nan, np.nan]])
    both = {"exact[filter=strict]": first.ravel().astype(float)}
    cell = columns(second, "exact[filter=maj@8]", **both)
    found = metrics(cell, texts=named("strict", "maj@8"))
    alone = metrics(columns(first))
    for name in ("exact_match", "pass_at_1", "pass_at_2"):
        assert found[f"{name}[filter=strict]"] == alone[name]
    assert found["exact_match[filter=maj@8]"][0] == 0.5 and "pass_at_1[filter=maj@8]" in found
    assert not found.keys() & {
        "exact_match",
        "pass_at_1",
        "pass_at_2[filter=maj@8]",
        "pass_at_5[filter=strict]",
    }
    table, examples = measured(*cell, DEFINITION)
    assert main_metric(table["metric"]) == "exact_match[filter=strict]"
    assert examples["exact_match[filter=strict]"].tolist() == pytest.approx([2 / 3, 1 / 3])
    only = metrics(cell, metrics=["exact_match"])
    assert list(only) == ["exact_match[filter=strict]", "exact_match[filter=maj@8]"]
    with pytest.raises(
        TaskError, match=r"metrics: pass_at_2\[filter=maj@8\] needs answers_2\[filter=maj@8\]"
    ):
        metrics(cell, metrics=["pass_at_2"])


def test_a_single_pipeline_gives_its_name_to_the_metrics_of_the_column() -> None:
    cell = columns(np.array([[1, 0], [0, 0]]))
    found = metrics(cell, texts=named("vowel"))
    assert found["exact_match[filter=vowel]"] == metrics(cell)["exact_match"] and "exact_match" not in found
    assert list(metrics(cell, texts=named("none"))) == list(metrics(cell))


def test_pipelines_and_groups() -> None:
    rows, requests = columns(np.array([[1.0], [0.0]]), "exact[filter=strict]")
    requests["group_part"] = np.array(["1", "2"], dtype=object)
    found = metrics((rows, requests))
    assert found["exact_match[filter=strict][part=1]"][0] == 1
    assert not is_of_group("exact_match[filter=strict]") and is_of_group("exact_match[filter=strict][part=1]")


def test_errors_are_those_of_examples_whose_samples_are_alike() -> None:
    """200 cells of 60 prompts × 8 samples: 95 % intervals cover the truth, those of samples alone do not."""
    draw = np.random.default_rng(1)
    chance = draw.beta(0.5, 0.5, (200, 60))  # of each prompt; 0.5 on average
    values = draw.random((200, 60, 8)) < chance[..., None]
    covered, naive = [], []
    for of_cell in values:
        value, stderr, *_ = metrics(columns(of_cell), metrics=["exact_match"])["exact_match"]
        covered.append(abs(value - 0.5) < 1.96 * stderr)
        naive.append(abs(value - 0.5) < 1.96 * of_cell.std(ddof=1) / np.sqrt(of_cell.size))
    assert 0.91 <= np.mean(covered) <= 0.985
    assert np.mean(naive) < 0.75


def test_scores_of_a_classifier_leave_out_what_it_could_not_score(toxic: None) -> None:
    values = np.array([[0.2, 0.6, np.nan], [np.nan, np.nan, np.nan], [0.9, 0.1, 0.5]])
    found = metrics(columns(values, "score_toxic"))
    assert found["score_toxic"][0] == pytest.approx(np.mean([0.4, 0.5]))
    assert found["score_toxic"][2] == 2, "an example without scores does not count"
    assert found["score_toxic_above_half"][0] == pytest.approx(np.mean([1 / 2, 1 / 3]))
    assert found["score_toxic_highest"][0] == pytest.approx(np.mean([0.6, 0.9]))
    assert "exact_match" not in found and "pass_at_1" not in found
    assert METRICS["score_toxic"].main and METRICS["score_toxic"].higher_is_better is False


def test_losses_are_per_token_and_shares_of_endings_sum_to_1() -> None:
    tokens = np.array([1, 2, 3, 4])
    cell = columns(np.zeros((2, 2)), loglikelihood=np.array([-1.0, -2, -3, -8]), tokens=tokens)
    found = metrics(cell)
    assert found["sample_loss"][0] == pytest.approx(14 / 10)
    assert found["sample_tokens"][0] == pytest.approx(2.5)
    assert [found[f"ended_by_{how}"][0] for how in ("stop", "eos", "length")] == [0, 0.5, 0.5]
    assert found["distinct_1"][0] == 0.5 and found["repetition"][2] == 0


def test_groups_have_the_main_metrics() -> None:
    rows, requests = columns(np.array([[1, 1], [0, 1]]))
    requests["group_part"] = np.array(["a", "a", "b", "b"], dtype=object)
    found = metrics((rows, requests))
    assert found["exact_match[part=a]"][0] == 1 and found["exact_match[part=b]"][0] == 0.5
