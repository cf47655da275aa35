"""Samples: those of transformers if greedy, and independent of batches, order, restarts and back ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import architectures
from ebbtide.checkpoints.load import load_model
from ebbtide.logs import log
from ebbtide.scoring.body import NativeBody
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.generation import prefill
from ebbtide.scoring.generation.decoding import Decoding, Samples
from ebbtide.scoring.generation.hugging_face import CachedRows, UncachedRows, rows_of
from ebbtide.scoring.generation.loop import Rows
from ebbtide.scoring.scorer import Counters
from ebbtide.scoring.walk import score_trie
from generating import PROMPTS, generated, greedy_tokens, of_decoder
from scoring_reference import native, plain

GREEDY = Decoding(max_tokens=12)
SAMPLED = Decoding(max_tokens=9, samples=5, temperature=0.9, top_p=0.9)
# Grouped heads, biases by distance, soft caps, learned positions, windows.
SPECIAL = ("llama", "bloom", "gemma2", "gpt2", "mistral")
# The published attention of BLOOM and Gemma 2 is in float32 in any precision.
ROUGH = {"bloom": 1e-5, "gemma2": 1e-5}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return architectures.saver(tmp_path_factory.mktemp("generation"))


@pytest.fixture(scope="module")
def body(saved: Callable[[str], Path]) -> NativeBody:
    return native(saved("llama"))[0]


def same(found: Samples, expected: Samples, tolerance: float = 1e-10) -> None:
    assert found.tokens.tolist() == expected.tokens.tolist()
    assert found.ended.tolist() == expected.ended.tolist()
    assert found.loglikelihood == pytest.approx(expected.loglikelihood, abs=tolerance)


# Greedy.


@pytest.mark.parametrize("name", list(architectures.NATIVE))
def test_greedy_is_what_transformers_generates(name: str, saved: Callable[[str], Path]) -> None:
    """Prompts in parts, in segments or copied to rows; batches that sequences enter and leave."""
    model = load_model(saved(name), "float64").double()
    expected = [greedy_tokens(model, prompt, GREEDY.max_tokens) for prompt in PROMPTS]
    eos = expected[2][4]
    expected = [tokens[: tokens.index(eos) + 1] if eos in tokens else tokens for tokens in expected]
    decoder, _ = native(saved(name))
    makers: list[tuple[Callable[[int], Rows], int]] = [
        (of_decoder(decoder), 64),
        (of_decoder(decoder, shared=False), 3),
        (of_decoder(decoder), 7),
        (lambda _: CachedRows(model), 3),
        (lambda _: UncachedRows(model, alone=False), 64),
    ]
    for rows, batch in makers:
        found = generated(rows, PROMPTS, GREEDY, batch=batch, chunk=10, eos=frozenset({eos}))
        assert [list(sample.tokens) for sample in found] == expected
        assert [sample.ended == "eos" for sample in found] == [tokens[-1] == eos for tokens in expected]


# A sample depends on its prompt, key and number alone.


@pytest.mark.parametrize("name", SPECIAL)
def test_samples_do_not_depend_on_the_batch(name: str, saved: Callable[[str], Path]) -> None:
    decoder, _ = native(saved(name))
    expected = generated(of_decoder(decoder), PROMPTS, SAMPLED)
    assert len(set(expected.texts)) > 40  # of 50
    for batch, chunk in ((1, 7), (7, 512)):
        same(generated(of_decoder(decoder), PROMPTS, SAMPLED, batch=batch, chunk=chunk), expected)
    backwards = generated(of_decoder(decoder), PROMPTS[::-1], SAMPLED, batch=7)
    for index in range(len(PROMPTS)):
        for number in range(SAMPLED.samples):
            found = backwards[SAMPLED.samples * (len(PROMPTS) - 1 - index) + number]
            assert found.tokens == expected[SAMPLED.samples * index + number].tokens


@pytest.mark.parametrize("shortest", [1, 3])
def test_samples_do_not_depend_on_the_segments(
    shortest: int, body: NativeBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts in as many parts as they have branches."""
    expected = generated(of_decoder(body), PROMPTS, SAMPLED)
    monkeypatch.setattr(prefill, "SHORTEST", shortest)
    for shared in (True, False):
        same(generated(of_decoder(body, shared=shared), PROMPTS, SAMPLED, batch=20, chunk=9), expected)


def test_single_precision_differs_by_ties_only(saved: Callable[[str], Path]) -> None:
    """A tie is broken by rounding once in about a million tokens; none is among these."""
    decoder, _ = native(saved("llama"), "float32")
    decoding = Decoding(max_tokens=10, samples=8, temperature=1.0, top_p=0.9)
    samples = [
        generated(of_decoder(decoder), PROMPTS, decoding, batch=batch, chunk=chunk)
        for batch, chunk in ((64, 512), (3, 11), (7, 64))
    ]
    different = sum(
        a.tokens != b.tokens for other in samples[1:] for a, b in zip(samples[0], other, strict=True)
    )
    assert different <= 1
    exact = generated(of_decoder(native(saved("llama"))[0]), PROMPTS, decoding)
    assert sum(a.tokens != b.tokens for a, b in zip(samples[0], exact, strict=True)) <= 1


def test_some_samples_are_those_of_all(body: NativeBody) -> None:
    decoding = Decoding(max_tokens=6, samples=25, temperature=1.0)
    whole = generated(of_decoder(body), PROMPTS[:3], decoding)
    rest = generated(of_decoder(body), PROMPTS[:3], decoding, numbers=range(10, 25))
    for row, sample in enumerate(rest):
        expected = whole[25 * (row // 15) + 10 + row % 15]
        assert (sample.tokens, sample.text, sample.ended) == (expected.tokens, expected.text, expected.ended)
        assert sample.loglikelihood == pytest.approx(expected.loglikelihood, abs=1e-10)


def test_equal_prompts_with_equal_keys_have_equal_samples_and_are_forwarded_once(body: NativeBody) -> None:
    counters = Counters()
    found = generated(of_decoder(body), [PROMPTS[5]] * 3, SAMPLED, counters=counters, batch=4)
    assert found[0].tokens == found[5].tokens == found[10].tokens
    assert counters.forwarded == counters.unique == len(PROMPTS[5]) + len(found.tokens) - len(found)


def test_another_seed_key_or_number_gives_another_sample(body: NativeBody) -> None:
    first, other = (
        generated(of_decoder(body), PROMPTS[:2], Decoding(9, samples=2, temperature=1.0, seed=seed))
        for seed in (0, 1)
    )
    texts = [*first.texts, *other.texts]
    assert len(set(texts)) == len(texts)


# Log-likelihoods.


@pytest.mark.parametrize("name", SPECIAL)
def test_log_likelihoods_are_those_of_scoring(name: str, saved: Callable[[str], Path]) -> None:
    """Under the model itself: at temperature 1, without truncation."""
    decoder, _ = native(saved(name))
    decoding = Decoding(max_tokens=9, samples=3, temperature=0.7, top_k=5, top_p=0.8)
    found = generated(of_decoder(decoder), PROMPTS, decoding, eos=frozenset({11}))
    requests = [
        Encoded((*PROMPTS[row // 3], *sample.tokens), len(PROMPTS[row // 3]), truncated=False)
        for row, sample in enumerate(found)
    ]
    scores = score_trie(decoder, Requests.of(requests), Counters(), chunk=512)
    assert found.loglikelihood == pytest.approx(scores.loglikelihood, abs=ROUGH.get(name, 1e-10))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_sixteen_bits_are_as_near_as_transformers(
    name: str, dtype: str, saved: Callable[[str], Path]
) -> None:
    """Both have the same rounded weights, so that only the rounding on the way counts."""
    found = generated(of_decoder(native(saved(name), dtype)[0]), PROMPTS, SAMPLED)
    requests = [
        Encoded((*PROMPTS[row // 5], *sample.tokens), len(PROMPTS[row // 5]), truncated=False)
        for row, sample in enumerate(found)
    ]
    model = load_model(saved(name), dtype)
    theirs = np.concatenate([plain(model, request) for request in requests])
    exact = np.concatenate([plain(model.double(), request) for request in requests])
    errors = [float(np.sqrt(np.mean((values - exact) ** 2))) for values in (found.loglikelihood, theirs)]
    assert 0 < errors[0] < 1.5 * errors[1]


# Back ends.


@pytest.mark.parametrize("name", SPECIAL)
def test_transformers_gives_the_samples_of_the_decoder(name: str, saved: Callable[[str], Path]) -> None:
    model = load_model(saved(name), "float64").double()
    expected = generated(of_decoder(native(saved(name))[0]), PROMPTS, SAMPLED, eos=frozenset({11}))
    makers: list[Callable[[int], Rows]] = [
        lambda _: CachedRows(model),
        lambda _: UncachedRows(model, alone=True),
    ]
    for rows in makers:
        same(generated(rows, PROMPTS, SAMPLED, batch=7, chunk=30, eos=frozenset({11})), expected, 1e-5)


def unsupported(model: Any, *, wrong: float = 0.0) -> Any:
    """A model whose forward pass refuses a cache, or is wrong with one."""
    forward = model.forward

    def with_fault(*given: Any, past_key_values: Any = None, **named: Any) -> Any:
        if past_key_values is not None and not wrong:
            raise TypeError("forward() got an unexpected keyword argument 'past_key_values'")
        output = forward(*given, past_key_values=past_key_values, **named)
        if past_key_values is not None:
            output.logits = output.logits + wrong * torch.arange(output.logits.shape[-1])
        return output

    model.forward = with_fault
    return model


@pytest.mark.parametrize(
    ("wrong", "reason"), [(0.0, "unexpected keyword argument"), (0.1, "its logits differ by 4.1")]
)
def test_models_without_such_a_cache_read_whole_texts(
    wrong: float, reason: str, saved: Callable[[str], Path], caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    model = load_model(saved("gpt_neox"), "float64").double()
    assert rows_of(model).func is CachedRows  # type: ignore[attr-defined]
    expected = generated(lambda _: CachedRows(model), PROMPTS[:4], SAMPLED)
    assert not caplog.text
    rows = rows_of(unsupported(model, wrong=wrong))
    assert reason in caplog.text
    counters = Counters()
    same(generated(lambda _: rows(), PROMPTS[:4], SAMPLED, counters=counters), expected)
    assert counters.forwarded > 3 * counters.unique
