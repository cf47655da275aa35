"""Metrics of the right choices against their definitions, written out example by example."""

import math
import re
from itertools import permutations
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ebbtide.errors import TaskError
from ebbtide.metrics import METRICS
from ebbtide.metrics.examples import without_texts
from ebbtide.metrics.of_cell import FOLLOWED, measure, texts_needed
from ebbtide.metrics.ranges import range_of

LENGTHS = ("character", "byte", "token")


def made(examples: list[list[tuple[str, float, bool]]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cell and requests of examples that are lists of (text, log-likelihood, gold)."""
    rows = [
        {
            **{"example": f"e{e}", "choice": c, "loglikelihood": lp, "tokens": len(text.split()) or 1},
            **{"bytes": len(text.encode()), "characters": len(text)},
            **{"context": "Q", "continuation": text, "gold": gold},
        }
        for e, example in enumerate(examples)
        for c, (text, lp, gold) in enumerate(example)
    ]
    table = pd.DataFrame(rows)
    asked = ["context", "continuation", "gold"]
    return table.drop(columns=asked), table[["example", "choice", *asked]]


def values_of(examples: list[list[tuple[str, float, bool]]], **definition: object) -> dict[str, float]:
    found: dict[str, float] = measure(*made(examples), definition).set_index("metric")["value"].to_dict()
    return found


def drawn(seed: int, most_right: int) -> list[list[tuple[str, float, bool]]]:
    """Examples of random texts, some with a leading space or letters of two and three bytes."""
    rng = np.random.default_rng(seed)
    examples = []
    for _ in range(60):
        choices = int(rng.integers(most_right + 1, 6))
        right = set(rng.choice(choices, int(rng.integers(1, most_right + 1)), replace=False).tolist())
        texts = ["".join(rng.choice(list("ab é漢 "), rng.integers(2, 9))) for _ in range(choices)]
        examples.append([(text, float(-rng.gamma(2, 4)), k in right) for k, text in enumerate(texts)])
    return examples


@pytest.mark.parametrize("most_right", [1, 3])
def test_metrics_of_the_right_choices_follow_their_definitions(most_right: int) -> None:
    examples = drawn(4, most_right)
    found = values_of(examples)
    expected: dict[str, list[float]] = {}
    for example in examples:
        of: dict[str, list[float]] = {
            name: []
            for name in ("gold_bits_per_byte", "gold_bits_per_byte_without_space", "gold_probability")
        }
        for text, lp, gold in example:
            size = len(text.encode())
            if gold:
                of["gold_bits_per_byte"].append(-math.log2(math.e) * lp / size)
                shorter = size - 1 if text[0] == " " else size
                of["gold_bits_per_byte_without_space"].append(-math.log2(math.e) * lp / shorter)
                of["gold_probability"].append(math.exp(lp))
        for length in LENGTHS:
            sizes = [
                {"character": len(text), "byte": len(text.encode()), "token": len(text.split()) or 1}[length]
                for text, _, _ in example
            ]
            powers = [math.exp(lp) ** (1 / n) for (_, lp, _), n in zip(example, sizes, strict=True)]
            right = [p for p, (_, _, gold) in zip(powers, example, strict=True) if gold]
            of[f"gold_probability_per_{length}"] = right
            of[f"choice_probability_per_{length}"] = [math.fsum(right) / math.fsum(powers)]
        for name, values in of.items():
            expected.setdefault(name, []).append(fmean(values))
    assert len(expected) == 9
    for name, values in expected.items():
        assert found[name] == pytest.approx(fmean(values), rel=1e-12), name


def test_bits_per_byte_of_a_right_choice_by_hand() -> None:
    """A right choice of probability 1/8 and four bytes, of which the first is a space."""
    examples = [[(" abc", math.log(1 / 8), True), ("d", -9.0, False)]]
    found = values_of(examples)
    assert found["gold_bits_per_byte"] == pytest.approx(3 / 4)
    assert found["gold_bits_per_byte_without_space"] == pytest.approx(3 / 3)
    assert found["gold_probability_per_byte"] == pytest.approx(2 ** -found["gold_bits_per_byte"])
    unspaced = values_of([[("abcd", math.log(1 / 8), True), (" ", -9.0, False)]])
    assert unspaced["gold_bits_per_byte_without_space"] == unspaced["gold_bits_per_byte"]


def test_a_choice_that_is_only_a_space_counts_as_one_byte() -> None:
    found = values_of([[(" ", -2.0, True), (" a", -1.0, False)]])
    assert found["gold_bits_per_byte_without_space"] == pytest.approx(2 * math.log2(math.e))


def test_invert_takes_the_wrong_choices() -> None:
    examples = [[(" a", -1.0, True), (" bcd", -2.0, False)]]
    swapped = [[(text, lp, not gold) for text, lp, gold in examples[0]]]
    inverted, expected = values_of(examples, invert=True), values_of(swapped)
    for name in ("gold_bits_per_byte", "gold_probability", "choice_probability_per_byte", "gold_rank"):
        assert inverted[name] == expected[name]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [([-1.0], [-2.0, -3.0]), ([-3.0], [-1.0, -2.0]), ([-1.0], [-1.0, -1.0]), ([-1.0, -1.0], [-1.0, -0.5])],
)
def test_the_rank_is_that_of_ties_in_random_order(right: list[float], wrong: list[float]) -> None:
    """Against all orders of the choices, each as likely, in which equal ones are ranked as they come."""
    marked = [(lp, True) for lp in right] + [(lp, False) for lp in wrong]
    ranks = []
    for order in permutations(marked):
        ranked = sorted(order, key=lambda choice: -choice[0])  # stable
        ranks.append(1 + [gold for _, gold in ranked].index(True))
    found = measure(*made([[("x", lp, gold) for lp, gold in marked]])).set_index("metric").loc["gold_rank"]
    assert found["value"] == pytest.approx(fmean(ranks))
    uniform = [1 + [gold for _, gold in order].index(True) for order in permutations(marked)]
    assert found["chance"] == pytest.approx(fmean(uniform))
    assert range_of("gold_rank").low == 1


def test_probabilities_that_vanish_are_finite() -> None:
    with np.errstate(all="raise", under="ignore"):
        found = values_of([[("a", -5000.0, True), ("b", -1.0, False)]])
    assert found["choice_probability_per_byte"] == found["gold_probability"] == 0.0
    assert found["gold_bits_per_byte"] == pytest.approx(5000 * math.log2(math.e))


def test_without_lengths_or_texts_their_metrics_are_left_out() -> None:
    """Imported samples may lack them; an empty choice has no bits per byte."""
    cell, requests = made([[(" a", -1.0, True), ("b", -2.0, False)]])
    bare = set(measure(cell[["example", "choice", "loglikelihood"]], requests)["metric"])
    assert {name for name in bare if "_per_" in name} == set() and "gold_rank" in bare
    no_texts = requests.drop(columns=["context", "continuation"])
    assert "gold_bits_per_byte" in set(measure(cell, no_texts)["metric"])
    with pytest.raises(TaskError, match="gold_bits_per_byte_without_space needs leading_space"):
        measure(cell, no_texts, {"metrics": ["gold_bits_per_byte_without_space"]})
    empty = cell.assign(bytes=[0, 1])
    assert not any("byte" in name for name in measure(empty, requests)["metric"])


def test_a_leading_space_is_read_alike_from_arrow_and_frames() -> None:
    texts = [" a", "a ", " ", "\u00a0b", "", "\tc", " é"]
    frame = pd.DataFrame({"choice": range(7), "context": ["q"] * 7, "continuation": texts})
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    pieces = pa.concat_tables([arrow.slice(0, 0), arrow.slice(0, 3), arrow.slice(3, 1), arrow.slice(4)])
    expected = [True, False, True, False, False, False, True]
    for table in (frame, arrow, pieces, arrow.slice(0)):
        found = without_texts(table)
        assert found["leading_space"].tolist() == expected
        assert set(found) == {"choice", "leading_space"}
    assert "leading_space" not in without_texts(frame[["choice"]])


def test_continuations_are_read_only_where_a_metric_needs_them() -> None:
    assert (
        texts_needed({})
        == texts_needed({"metrics": ["gold_bits_per_byte_without_space"]})
        == {"continuation"}
    )
    assert texts_needed({"metrics": ["accuracy", "gold_bits_per_byte"]}) == set()
    assert texts_needed({"kind": "rolling"}) == texts_needed({"kind": "sequence"}) == set()


def test_the_page_of_metrics_lists_each_with_its_name_in_the_harness() -> None:
    page = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    listed: dict[str, dict[str, str]] = {}
    for kind, section in re.findall(r"^## Kind `(\w+)`\n(.*?)(?=^## )", page, re.DOTALL | re.MULTILINE):
        rows = re.findall(r"^\| `(\w+)` \| .*? \| (?:`(\w+)`)? ?\| [^|]*\|[^|]*\|$", section, re.MULTILINE)
        above = re.findall(r"`(\w+)`", section.split("as above")[0]) if "as above" in section else []
        listed[kind] = dict(rows) | {name: METRICS[name].harness for name in above}
    alone = [m for m in METRICS.values() if not m.name.startswith("score_")]  # listed as score_{classifier}
    expected = {kind: {m.name: m.harness for m in alone if kind in m.kinds} for kind in listed}
    assert len(listed) == 7
    assert listed == expected
    followed = set(FOLLOWED) | {m.name for m in METRICS.values() if m.main and "choice" in m.kinds}
    assert followed == set(
        re.findall(r"`(\w+)`", page.split("have them are")[1].split("`metrics.parquet`")[0])
    )
