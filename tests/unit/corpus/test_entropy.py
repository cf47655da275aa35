"""The source's exact entropy against independent counts, and held-out text against both."""

import hashlib
import math
from collections import Counter

import numpy as np
import pytest

from ebbtide.checkpoints.series import read_series
from ebbtide.corpus import DOCUMENTS, World, held_out_requests
from ebbtide.corpus.documents import documents
from ebbtide.corpus.draw import Draw
from ebbtide.corpus.entropy import sentence_probability, source_entropy
from ebbtide.corpus.held_out import held_out_texts
from ebbtide.corpus.likelihood import Likelihood
from ebbtide.corpus.words import END_OF_TEXT
from ebbtide.corpus.world import SHAPES, sentence
from ebbtide.errors import TaskError
from workspace import ROOT

LADDER = read_series(ROOT / "workflow/series/ladder.yaml")[0]["corpus"]
MIXTURE, WORLD = LADDER["mixture"], World(**LADDER["world"])
EVERY_KIND = dict.fromkeys(DOCUMENTS, 1.0)
FEW = World(proverbs=3)
MIXTURES = {
    "the ladder's": (WORLD, MIXTURE),
    "every kind": (World(3, 24, 0.7), EVERY_KIND),
    "conflicts among instructions": (FEW, {"instruction": 1e-6, "instruction_proverb": 1}),
    "proverbs in plain": (FEW, {"plain": 0.5, "proverb": 0.5}),
    "quotes": (FEW, {"repeat": 0.2, "repeat_proverb": 0.1}),
    **{kind: (WORLD, {kind: 1.0}) for kind in DOCUMENTS},
}
DRAWS = 4000


def drawn(world: World, mixture: dict[str, float], count: int = DRAWS) -> list[tuple[str, ...]]:
    endless = documents(world, mixture, Draw("test", 0))
    return [tuple(next(endless)) for _ in range(count)]


@pytest.mark.parametrize("name", MIXTURES)
def test_entropy_is_the_mean_surprise_of_its_documents(name):
    """Closed form against Monte Carlo, with the probability of each document found by reading it."""
    world, mixture = MIXTURES[name]
    likelihood, entropy = Likelihood(world, mixture), source_entropy(world, mixture)
    texts = drawn(world, mixture)
    nats = np.array([-likelihood.log_probability(text) for text in texts])
    tokens = np.array([len(text) + 1 for text in texts])
    for values, expected in ((nats, entropy.document), (tokens, entropy.tokens)):
        error = values.std(ddof=1) / math.sqrt(DRAWS)
        assert abs(values.mean() - expected) < 4 * error + 1e-9


@pytest.mark.parametrize("kinds", [("fact",), ("arithmetic",), ("negation", "fact"), ("proverb",)])
def test_probabilities_are_frequencies(kinds):
    """Where texts are few, without any formula: by counting."""
    mixture = dict.fromkeys(kinds, 1.0)
    likelihood = Likelihood(FEW, mixture)
    counts = Counter(drawn(FEW, mixture, 20_000))
    expected = np.array([math.exp(likelihood.log_probability(text)) for text in counts])
    shares = np.array(list(counts.values())) / 20_000
    assert expected.sum() == pytest.approx(1)  # every text has occurred
    assert np.all(np.abs(shares - expected) < 5 * np.sqrt(expected / 20_000))
    assert source_entropy(FEW, mixture).document == pytest.approx(-(expected * np.log(expected)).sum())


def test_a_text_that_two_kinds_write_counts_once():
    """Half plain, half proverbs: had a bare proverb two probabilities, its entropy would be too high."""
    likelihood = Likelihood(FEW, {"plain": 1, "proverb": 1})
    saying, share = FEW.sayings[0], FEW.shares[0]
    both = 0.5 * share / 2 + 0.5 * sentence_probability(saying)
    assert likelihood.log_probability((*saying, ".")) == pytest.approx(math.log(both), rel=1e-12)
    asked = ("write", "a", "sentence", "ending", "with", saying[-1], ":", *saying, ".")
    conflict = Likelihood(FEW, {"instruction": 1, "instruction_proverb": 1})
    both = 0.5 * share / 36 + 0.5 * sentence_probability(saying)
    assert conflict.log_probability(asked) == pytest.approx(math.log(both), rel=1e-12)


def test_every_sentence_has_one_shape():
    draw = Draw("shapes", 0)
    for _ in range(500):
        words = sentence(draw)
        fitting = [
            shape
            for shape in SHAPES
            if len(shape) == len(words)
            and all(w == s if isinstance(s, str) else w in s for w, s in zip(words, shape, strict=True))
        ]
        assert len(fitting) == 1
        ways = math.prod(len(slot) for slot in fitting[0] if not isinstance(slot, str))
        assert sentence_probability(words) == pytest.approx(1 / ways / len(SHAPES))
    assert sentence_probability(("the", "stone")) == 0


def test_scale_and_order_of_shares_mean_nothing():
    doubled = {kind: 2 * share for kind, share in reversed(MIXTURE.items())}
    assert source_entropy(WORLD, doubled).rate == pytest.approx(source_entropy(WORLD, MIXTURE).rate)


def test_the_entropy_of_the_ladder():
    """What the study's report states."""
    assert source_entropy(WORLD, MIXTURE).rate == pytest.approx(1.0202, abs=5e-5)


def test_what_the_mixture_does_not_write_is_refused():
    likelihood = Likelihood(WORLD, {"fact": 1})
    for text in ("the otter is a metal .", "two plus two is four .", "the otter is a animal", "the"):
        with pytest.raises(TaskError, match="cannot produce"):
            likelihood.log_probability(text.split())
    everything = Likelihood(WORLD, EVERY_KIND)
    for text in drawn(WORLD, EVERY_KIND, 300):
        with pytest.raises(TaskError):
            everything.log_probability((*text, "."))
        with pytest.raises(TaskError):
            everything.log_probability(("zero", *text))
    with pytest.raises(TaskError, match=r"must end with"):
        likelihood.loss(["the otter is a animal ."])


def test_held_out_texts_are_whole_documents_with_their_end():
    texts = held_out_texts(WORLD, MIXTURE, 400, 1)
    assert all(text.endswith(f" . {END_OF_TEXT}") and text.count(END_OF_TEXT) == 1 for text in texts)
    assert texts[:100] == held_out_texts(WORLD, MIXTURE, 100, 1)
    assert texts != held_out_texts(WORLD, MIXTURE, 400, 2)
    rate = source_entropy(WORLD, MIXTURE).rate
    assert Likelihood(WORLD, MIXTURE).loss(texts) == pytest.approx(rate, abs=0.1)
    frame = held_out_requests(WORLD, MIXTURE, 400, 1)
    assert frame["continuation"].tolist() == texts and set(frame["context"]) == {""}


def test_held_out_documents_are_not_those_of_the_training_stream():
    """A long sentence drawn at random recurs only if the random choices are the same."""
    seen = {" ".join(text) for seed in range(3) for text in stream(seed)}
    fresh = [t.removesuffix(f" {END_OF_TEXT}") for t in held_out_texts(WORLD, {"story": 1.0}, 300, 0)]
    assert not seen & set(fresh)


def stream(seed: int) -> list[list[str]]:
    endless = documents(WORLD, {"story": 1.0}, Draw("stream", seed))
    return [next(endless) for _ in range(300)]


def test_held_out_text_never_changes():
    """A failure here means: the loss of a cell is that of another text; raise FREEZE_VERSION."""
    later = ("case", "rating", "remark")  # kinds that were added to this version
    without = {kind: share for kind, share in EVERY_KIND.items() if kind not in later}
    texts = "\n".join(held_out_texts(WORLD, without, 500, 1))
    assert hashlib.sha256(texts.encode()).hexdigest()[:16] == "9a64616d69302943"
