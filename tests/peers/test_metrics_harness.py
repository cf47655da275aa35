"""Metrics against lm-evaluation-harness's own formulas, where it is installed."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebbtide.metrics import METRICS
from ebbtide.metrics.of_cell import measure

pytest.importorskip("lm_eval", reason="lm_eval is not installed")

EXAMPLES, CHOICES = 60, 4


def cell_of(rng: np.random.Generator, choices: int) -> tuple[pd.DataFrame, list[list[str]]]:
    """Random log-likelihoods of texts of several scripts."""
    texts = [
        ["".join(rng.choice(list("abc éü漢字"), rng.integers(1, 12))) for _ in range(choices)]
        for _ in range(EXAMPLES)
    ]
    flat = [text for of_example in texts for text in of_example]
    return (
        pd.DataFrame(
            {
                "example": np.repeat([f"e{i:03}" for i in range(EXAMPLES)], choices),
                "choice": np.tile(np.arange(choices), EXAMPLES),
                "loglikelihood": -rng.gamma(2, 4, len(flat)),
                "tokens": rng.integers(1, 9, len(flat)),
                "bytes": [len(text.encode()) for text in flat],
                "characters": [len(text) for text in flat],
                "greedy": rng.random(len(flat)) < 0.3,
            }
        ),
        texts,
    )


def mean_and_error(items: list[Any]) -> tuple[float, float]:
    from lm_eval.api.metrics import mean, mean_stderr

    return mean(items), mean_stderr(items)


@pytest.mark.parametrize("several", [False, True])
def test_multiple_choice(several: bool) -> None:
    from lm_eval.api.metrics import brier_score
    from lm_eval.api.task import ConfigurableTask

    rng = np.random.default_rng(5)
    cell, texts = cell_of(rng, CHOICES)
    bare = -rng.gamma(2, 4, len(cell))
    golds = [sorted(rng.choice(CHOICES, 2, replace=False).tolist()) for _ in texts]
    if not several:
        golds = [gold[:1] for gold in golds]
    names = ["acc", "acc_norm", "acc_bytes"] + ([] if several else ["acc_mutual_info", "brier_score"])
    results = []
    for i, (choices, gold) in enumerate(zip(texts, golds, strict=True)):
        rows = slice(i * CHOICES, (i + 1) * CHOICES)
        task = SimpleNamespace(
            config=SimpleNamespace(process_results=None),
            OUTPUT_TYPE="multiple_choice",
            _metric_fn_list=dict.fromkeys(names),
            multiple_input=False,
            multiple_target=several,
            doc_to_choice=lambda _, c=choices: c,
            doc_to_target=lambda _, g=gold: g if several else g[0],
        )
        lps = [(lp, False) for lp in cell["loglikelihood"][rows]]
        if not several:
            lps += [(lp, False) for lp in bare[rows]]
        results.append(ConfigurableTask.process_results(task, {}, lps))

    requests = cell[["example", "choice"]].assign(
        gold=[k in gold for gold in golds for k in range(CHOICES)], role="choice", of=cell["choice"]
    )
    if not several:
        alone = requests.assign(choice=requests["choice"] + CHOICES, role="unconditional")
        requests = pd.concat([requests, alone])
        cell = pd.concat([cell, cell.assign(choice=cell["choice"] + CHOICES, loglikelihood=bare)])
    found = measure(cell, requests).set_index("metric")
    ours = {m.harness: m.name for m in METRICS.values() if "choice" in m.kinds}
    for name in names:
        row = found.loc[ours[name]]
        items = [result[name] for result in results]
        if name == "brier_score":
            assert row["value"] == pytest.approx(brier_score(items))
        else:
            assert (row["value"], row["stderr"]) == pytest.approx(mean_and_error(items))


def test_the_right_choice() -> None:
    """Version 0.4 lacks these metrics of version 0.5; its bits per byte and its softmax are their parts."""
    from lm_eval.api.metrics import bits_per_byte
    from lm_eval.utils import softmax

    rng = np.random.default_rng(9)
    cell, texts = cell_of(rng, CHOICES)
    golds = rng.integers(0, CHOICES, EXAMPLES)
    requests = cell[["example", "choice"]].assign(gold=np.ravel(np.eye(CHOICES, dtype=bool)[golds]))
    lps, sizes = (
        cell[name].to_numpy(float).reshape(EXAMPLES, CHOICES) for name in ("loglikelihood", "bytes")
    )
    assert sizes[0].tolist() == [len(text.encode()) for text in texts[0]]
    rows = range(EXAMPLES)
    items = {
        "gold_bits_per_byte": [bits_per_byte([(lps[i, golds[i]], sizes[i, golds[i]])]) for i in rows],
        "choice_probability": [softmax(lps[i])[golds[i]] for i in rows],
        "choice_probability_per_byte": [softmax(lps[i] / sizes[i])[golds[i]] for i in rows],
    }
    found = measure(cell, requests).set_index("metric")
    for name, values in items.items():
        expected = pytest.approx(mean_and_error(values), rel=1e-9)
        assert tuple(found.loc[name, ["value", "stderr"]]) == expected, name


def test_truthful_qa() -> None:
    """MC2 with labels that are not sorted; MC1 is accuracy over its own choices."""
    from lm_eval.tasks.truthfulqa.utils import process_results_mc2

    rng = np.random.default_rng(6)
    cell, _ = cell_of(rng, 6)
    labels = [rng.permutation([1, 1, 0, 0, 0, int(rng.integers(0, 2))]) for _ in range(EXAMPLES)]
    best = []
    for of_example in labels:
        true, false = np.flatnonzero(of_example == 1), np.flatnonzero(of_example == 0)
        column = np.full(6, -1)
        column[true[0]], column[false[:2]] = 1, 0
        best.append(column)
    lps = cell["loglikelihood"].to_numpy().reshape(EXAMPLES, 6)
    mc2 = [
        process_results_mc2({"mc2_targets": {"labels": list(of)}}, [(lp, False) for lp in row])["acc"]
        for of, row in zip(labels, lps, strict=True)
    ]
    mc1 = [float(np.argmax(np.r_[row[b == 1], row[b == 0]]) == 0) for row, b in zip(lps, best, strict=True)]
    requests = cell[["example", "choice"]].assign(gold=np.ravel(labels) == 1, best=np.ravel(best))
    found = measure(cell, requests).set_index("metric")
    for name, items in (("mc1", mc1), ("mc2", mc2)):
        assert tuple(found.loc[name, ["value", "stderr"]]) == pytest.approx(mean_and_error(items))


def test_single_continuations() -> None:
    from lm_eval.api.metrics import perplexity

    cell, _ = cell_of(np.random.default_rng(7), 1)
    cell["loglikelihood"] /= 4
    requests = cell[["example", "choice"]].assign(gold=True)
    found = measure(cell, requests, {"kind": "sequence"}).set_index("metric")
    assert found.loc["sequence_perplexity", "value"] == pytest.approx(perplexity(cell["loglikelihood"]))
    greedy = mean_and_error(cell["greedy"].astype(int).tolist())
    assert tuple(found.loc["greedy_accuracy", ["value", "stderr"]]) == pytest.approx(greedy)


def test_documents() -> None:
    from lm_eval.api.metrics import bits_per_byte, weighted_perplexity

    cell, _ = cell_of(np.random.default_rng(8), 1)
    requests = cell[["example", "choice"]].assign(gold=True)
    found = measure(cell, requests, {"kind": "rolling"}).set_index("metric")
    items = list(zip(cell["loglikelihood"], cell["bytes"], strict=True))
    assert found.loc["bits_per_byte", "value"] == pytest.approx(bits_per_byte(items))
    assert found.loc["byte_perplexity", "value"] == pytest.approx(weighted_perplexity(items))
    assert found.loc["bits_per_byte", "stderr"] == pytest.approx(_bootstrap(bits_per_byte, items), rel=0.15)


def _bootstrap(function: Any, items: list[Any]) -> float:
    """The harness's bootstrap, in this process."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(items), (2000, len(items)))
    return float(np.std([function([items[i] for i in draw]) for draw in draws], ddof=1))
