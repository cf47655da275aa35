"""Log-odds of toxic continuations: a known difference, errors clustered by document, slopes."""

import numpy as np
import pandas as pd
import pytest

from ebbtide.errors import ConfigError, FigureError
from ebbtide.figures.toxicity import plot_toxic_continuations
from ebbtide.metrics.examples import Examples, join
from ebbtide.statistics.toxicity.continuations import COLUMNS, Asked, Scored, continuation_table
from ebbtide.statistics.toxicity.sentences import continuation_sentences

DOCUMENTS, EACH = 60, 4
LEVEL, TRAINING, SIZE = -0.5, 0.2, 0.1  # nats per byte; per tenfold tokens; per tenfold size


def asked(rng: np.random.Generator) -> Asked:
    """The sentences of a document are mostly of one kind, as on the web."""
    documents = np.repeat(np.arange(DOCUMENTS), EACH)
    toxic = (documents % 2 == 0) ^ (rng.random(len(documents)) < 0.1)
    return Asked("t", toxic, rng.random(len(documents)) < 0.5, documents)


def scored(one: Asked, rng: np.random.Generator, steps: tuple[int, ...] = (100, 1000)) -> list[Scored]:
    """Two models; the documents differ, and how much they are learnt differs by document."""
    level, learnt = (0.3 * rng.normal(size=DOCUMENTS)[one.clusters] for _ in range(2))
    found = []
    for model, size in (("small", 10), ("large", 100)):
        for tokens in steps:
            odds = LEVEL + TRAINING * np.log10(tokens / 100) + SIZE * np.log10(size / 10)
            mean = -2 + level + learnt * np.log10(tokens / 100) + odds * one.toxic + 0.4 * one.after_toxic
            noise = 0.02 * rng.normal(size=len(mean))
            found.append(Scored("t", model, f"step{tokens}", tokens, size, mean + noise))
    return found


def row(table: pd.DataFrame, **place: object) -> pd.Series:
    (found,) = table[(table[list(place)] == list(place.values())).all(axis=1)].to_dict("records")
    return pd.Series(found)


def test_intervals_clustered_by_document_cover_the_truth() -> None:
    rng = np.random.default_rng(1)
    truths = {"checkpoint": LEVEL, "tokens": TRAINING}
    covered: dict[str, list[bool]] = {over: [] for over in truths}
    for _ in range(200):
        one = asked(rng)
        table = continuation_table([one], scored(one, rng))
        for over, truth in truths.items():
            place = {"checkpoint": "step100"} if over == "checkpoint" else {}
            found = row(table, over=over, model="small", prompts="all", **place)
            covered[over].append(found["low"] <= truth <= found["high"])
    for over, inside in covered.items():
        assert 0.88 <= np.mean(inside) <= 0.99, over  # 0.95 ± 3 standard errors, and 60 clusters


def test_the_slope_is_that_of_the_estimates_of_checkpoints() -> None:
    rng = np.random.default_rng(0)
    one = asked(rng)
    table = continuation_table([one], scored(one, rng, steps=(100, 1000, 10000)))
    assert list(table) == list(COLUMNS)
    for prompts in ("all", "toxic", "other"):
        own = table[(table["model"] == "large") & (table["prompts"] == prompts)]
        points = own[own["over"] == "checkpoint"]
        slope = np.polyfit(np.log10(points["tokens"].astype(float)), points["estimate"], 1)[0]
        assert row(own, over="tokens")["estimate"] == pytest.approx(slope)
        ends = [row(table, model=m, checkpoint="step10000", prompts=prompts) for m in ("small", "large")]
        change = row(table, over="size", prompts=prompts)
        assert change["estimate"] == pytest.approx(ends[1]["estimate"] - ends[0]["estimate"])
    counts = table[(table["prompts"] != "all") & (table["over"] == "size")]["n"]
    assert counts.sum() == DOCUMENTS * EACH == row(table, over="size", prompts="all")["n"]


def test_errors_of_single_sentences_would_be_too_small() -> None:
    rng = np.random.default_rng(0)
    one = asked(rng)
    made = scored(one, rng)
    alone = Asked("t", one.toxic, one.after_toxic, np.arange(len(one.toxic)))
    place = {"over": "checkpoint", "model": "small", "checkpoint": "step100", "prompts": "all"}
    clustered, plain = (row(continuation_table([of], made), **place) for of in (one, alone))
    assert clustered["estimate"] == pytest.approx(plain["estimate"])
    assert clustered["stderr"] > 1.4 * plain["stderr"]


def test_what_cannot_be_compared_says_why() -> None:
    rng = np.random.default_rng(0)
    one = asked(rng)
    made = scored(one, rng)
    same = Asked("t", np.ones_like(one.toxic), one.after_toxic, one.clusters)
    table = continuation_table([same], made[:1])
    assert table["estimate"].isna().all()
    notes = table.groupby("over")["note"].first()
    assert "terms cannot be told apart" in notes["checkpoint"]
    assert notes["tokens"] == "fewer than two checkpoints of known tokens"
    assert notes["size"] == "fewer than two models of known size"
    assert continuation_sentences(table) == [
        "t, continuations over sizes: fewer than two models of known size."
    ]
    unknown = [*made, Scored("t", "nameless", "step100", 100, 0, made[0].per_byte)]
    over_size = row(continuation_table([one], unknown), over="size", prompts="all")
    assert over_size["note"] == "size unknown, left out: nameless" and over_size["estimate"] > 0
    one_document = Asked("t", one.toxic, one.after_toxic, np.zeros_like(one.clusters))
    first = continuation_table([one_document], made).iloc[0]
    assert np.isnan(first["stderr"]) and first["note"] == "one cluster, so no error"
    with pytest.raises(FigureError, match="no checkpoint has log-odds"):
        plot_toxic_continuations(table)


def test_the_figure_and_the_sentences() -> None:
    rng = np.random.default_rng(3)
    one = asked(rng)
    table = continuation_table([one], scored(one, rng, steps=(100, 1000, 10000)))
    drawn = plot_toxic_continuations(table).data
    assert set(drawn["panel"]) == {"after toxic prompts", "after other prompts"}
    assert len(drawn) == 2 * 3 * 2 and list(drawn["model"].cat.categories) == ["small", "large"]
    toxic, other = continuation_sentences(table)
    after = "t, toxic continuations after toxic prompts: log-odds rise over training in"
    assert toxic.startswith(f"{after} 0 and fall in 0 of 2 models")
    higher, lower = (
        continuation_sentences(table.assign(low=table["low"] + by, high=table["high"] + by)) for by in (1, -1)
    )
    assert higher[0].startswith(f"{after} 2 and fall in 0 of 2 models")
    assert lower[0].startswith(f"{after} 0 and fall in 2 of 2 models")
    assert "; a tenfold size changes log-odds by +0." in other


def test_kinds_and_clusters_come_from_the_groups_of_the_task() -> None:
    requests = pd.DataFrame(
        {"example": ["a", "b", "c"], "choice": 0, "gold": True, "group_toxic": ["yes", "no", "no"],
         "group_said": ["no", "yes", "no"], "group_document": ["x", "y", "x"]}
    )  # fmt: skip
    cell = requests[["example", "choice"]].assign(loglikelihood=-1.0, tokens=2, bytes=4, greedy=False)
    x = Examples(join(cell, requests), {"kind": "sequence"})
    section = {"group": "toxic", "toxic": "yes", "continuations": {"group": "said"}}
    found = Asked.of(x, "t", section, "document")
    assert found.toxic.tolist() == [False, True, False]
    assert found.after_toxic.tolist() == [True, False, False]
    assert found.clusters.tolist() == [0, 1, 0]
    assert Asked.of(x, "t", section, None).clusters.tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match=r"found 'ja'; allowed, as levels of group said of task t: no, yes"):
        Asked.of(x, "t", {**section, "toxic": "ja"}, None)
