"""The next token: noise from counters, truncation, and frequencies against the softmax."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from ebbtide.errors import ConfigError
from ebbtide.scoring.generation.choice import choose, kept_tokens
from ebbtide.scoring.generation.decoding import Decoding, generation_key
from ebbtide.scoring.generation.noise import Noise, gumbels, uniforms
from generating import PROMPTS, generated, of_decoder
from scoring_reference import native

KEY = bytes(range(16))
ROWS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=60).map(
    lambda row: np.array(row, dtype=np.float32)
)


def sampling(**settings: float) -> Decoding:
    return Decoding(max_tokens=1, **{"temperature": 1.0, **settings})  # type: ignore[arg-type]


# Noise.


def test_noise_is_philox_of_key_and_place() -> None:
    """A change of these numbers would change all samples."""
    key = hashlib.sha256(KEY + (3).to_bytes(8, "little")).digest()[:16]
    bits = Noise(KEY, 3).bits(sample=5, position=7, count=6)
    philox = np.random.Philox(key=int.from_bytes(key, "little"), counter=[0, 7, 5, 0])
    assert bits.tolist() == philox.random_raw(6).tolist()
    assert uniforms(bits)[:3].tolist() == [0.9026172067240863, 0.1630195990764115, 0.31160306098037016]
    assert Noise(KEY, 3).bits(5, 7, 4).tolist() == bits[:4].tolist()


def test_noise_is_uniform_and_differs_between_places() -> None:
    noise = Noise(KEY, 0)
    places = [noise.bits(sample, position, 50) for sample in range(40) for position in range(25)]
    values = np.concatenate([uniforms(bits) for bits in places])
    counts = np.histogram(values, 100, (0, 1))[0]
    assert chi2.sf(((counts - 500) ** 2 / 500).sum(), 99) > 1e-4
    assert len(np.unique(values)) == len(values)
    assert not np.intersect1d(values, uniforms(Noise(KEY, 1).bits(0, 0, 50))).size


def test_the_extremes_of_noise_are_numbers() -> None:
    found = gumbels(np.array([0, 2**11, 2**64 - 1], dtype=np.uint64))
    assert found[0] == -np.inf
    assert found[1] == pytest.approx(-np.log(53 * np.log(2)))
    assert found[2] == pytest.approx(53 * np.log(2))


def test_keys_of_examples_differ_by_cell_and_example() -> None:
    keys = [generation_key(cell, example) for cell in ("a", "ab") for example in ("b", "c", "bb")]
    assert len(set(keys)) == 6
    assert {len(key) for key in keys} == {16}


# Truncation, by its definition.


def by_definition(row: np.ndarray, decoding: Decoding) -> set[int]:
    scaled = row.astype(np.float64) / decoding.temperature
    order = sorted(range(len(row)), key=lambda token: (-scaled[token], token))
    if decoding.top_k:
        least = scaled[order[min(decoding.top_k, len(row)) - 1]]
        order = [token for token in order if scaled[token] >= least]
    shares = np.exp(scaled[order] - scaled[order[0]])
    before = np.cumsum(shares / shares.sum()) - shares / shares.sum()
    return {token for token, mass in zip(order, before, strict=True) if mass < decoding.top_p - 1e-6} | {
        order[0]
    }


@given(ROWS, st.floats(0.05, 0.99), st.integers(0, 70), st.sampled_from([0.3, 1.0, 4.0]))
def test_kept_tokens_are_those_of_the_definition(
    row: np.ndarray, p: float, k: int, temperature: float
) -> None:
    decoding = sampling(top_p=p, top_k=k, temperature=temperature)
    found = set(kept_tokens(row, row.max(), decoding).tolist())
    assert by_definition(row, decoding) <= found
    nearly = sampling(top_p=min(1.0, p + 2e-6), top_k=k, temperature=temperature)
    assert found <= by_definition(row, nearly)


@given(ROWS, st.sampled_from([0.3, 1.0, 4.0]), st.integers(0, 50))
def test_the_winner_is_the_argmax_of_log_probability_and_noise(
    row: np.ndarray, temperature: float, place: int
) -> None:
    bits = Noise(KEY, 0).bits(place, 0, len(row))
    token, loglikelihood = choose(row, sampling(temperature=temperature), lambda count: bits[:count])
    score = row.astype(np.float64) / temperature + gumbels(bits)
    assert score[token] == pytest.approx(score.max(), abs=1e-6)
    wide = row.astype(np.float64)
    assert loglikelihood == pytest.approx(wide[token] - np.logaddexp.reduce(wide), abs=1e-5)


def test_of_equal_tokens_the_lowest_id_is_taken() -> None:
    row = np.array([0.0, 2.0, 2.0, 1.0], dtype=np.float32)
    assert choose(row, Decoding(max_tokens=1), np.zeros)[0] == 1
    equal = np.full(4, 2**62, dtype=np.uint64)
    for settings in ({}, {"top_p": 0.5}, {"top_k": 2}):
        assert choose(row, sampling(**settings), lambda count: equal[:count])[0] == 1
    assert kept_tokens(row, row.max(), sampling(top_k=1)).tolist() == [1, 2]  # as likely as the last
    assert kept_tokens(row, row.max(), sampling(top_p=0.2)).tolist() == [1]


# Frequencies.


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 6},
        {"top_p": 0.7},
        {"top_k": 12, "top_p": 0.8},
    ],
    ids=str,
)
@pytest.mark.parametrize("vocabulary", [40, 20_000])
def test_frequencies_are_those_of_the_softmax(settings: dict[str, float], vocabulary: int) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    row = rng.normal(scale=3.0, size=vocabulary).astype(np.float32)
    decoding, noise, count = sampling(**settings), Noise(KEY, 0), 2000
    drawn = Counter(
        choose(row, decoding, lambda size: noise.bits(n, 0, size))[0]  # noqa: B023
        for n in range(count)
    )
    kept = by_definition(row, decoding)
    assert set(drawn) <= kept
    tokens = np.array(sorted(kept))
    scaled = row[tokens].astype(np.float64) / decoding.temperature
    expected = count * np.exp(scaled - np.logaddexp.reduce(scaled))
    observed = np.array([drawn[token] for token in tokens.tolist()])
    order = np.argsort(-expected)
    # Bins of at least five expected: single tokens, and the rest together.
    single = order[expected[order] >= 5]
    rest = count - expected[single].sum(), count - observed[single].sum()
    wanted, got = [*expected[single], rest[0]], [*observed[single], rest[1]]
    parts = [(g - w) ** 2 / w for w, g in zip(wanted, got, strict=True) if w > 1e-6]
    assert chi2.sf(sum(parts), len(parts) - 1) > 1e-4


def test_first_tokens_of_a_model_are_those_of_its_softmax(tmp_path) -> None:
    """2,000 samples of one prompt, which is forwarded once."""
    import torch

    import architectures
    from ebbtide.checkpoints.load import load_model

    directory = architectures.saver(tmp_path)("llama")
    found = generated(
        of_decoder(native(directory, "float32")[0]), PROMPTS[:1], sampling(samples=2000, temperature=2.0)
    )
    with torch.no_grad():
        logits = load_model(directory, "float64")(torch.tensor(PROMPTS[:1])).logits[0, -1]
    expected = 2000 * torch.softmax(logits / 2, 0).double().numpy()
    observed = np.bincount(found.tokens, minlength=len(expected))
    assert chi2.sf(((observed - expected) ** 2 / expected).sum(), len(expected) - 1) > 1e-4


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 0}, r"decoding\.max_tokens: found 0, allowed: 1 or more\."),
        ({"samples": 0}, r"decoding\.samples: found 0, allowed: 1 or more\."),
        ({"temperature": -1.0}, r"decoding\.temperature: found -1\.0, allowed: 0 \(greedy\) or more\."),
        ({"temperature": float("nan")}, r"decoding\.temperature: found nan"),
        ({"temperature": 1.0, "top_p": 0.0}, r"decoding\.top_p: found 0\.0, allowed: above 0, at most 1\."),
        ({"temperature": 1.0, "top_k": -1}, r"decoding\.top_k: found -1, allowed: 0 \(all\) or more\."),
        ({"stop": ("",)}, r"decoding\.stop: found \(''?,\), allowed: strings that are not empty\."),
        (
            {"samples": 2},
            r"decoding\.samples: found 2, but temperature 0 always .*; allowed: 1\. Set decoding",
        ),
        ({"top_p": 0.9}, r"decoding\.top_p: found 0\.9, but temperature 0 .*; allowed: 1\."),
        ({"top_k": 5}, r"decoding\.top_k: found 5, but temperature 0 .*; allowed: 0\."),
    ],
)
def test_bad_settings_are_a_sentence(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Decoding(**{"max_tokens": 1, **settings})  # type: ignore[arg-type]
