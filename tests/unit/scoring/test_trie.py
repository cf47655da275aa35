"""The trie, and the walk over it with models of transformers: the numbers of one forward per request."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma2Config, Gemma3TextConfig, MambaConfig, MistralConfig, Olmo2Config, Qwen3Config

import architectures
import tiny
from ebbtide.corpus import write_tokenizer
from ebbtide.errors import ScoringError
from ebbtide.scoring import trie as trie_module
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.engine import load_scorer
from ebbtide.scoring.hugging_face import TESTED_TYPES, TransformersBody, body_of
from ebbtide.scoring.padded import score_padded
from ebbtide.scoring.scorer import Counters
from ebbtide.scoring.trie import build_trie
from ebbtide.scoring.walk import score_trie
from scoring_reference import drawn, plain, trie_size

VOCABULARY = 40
WINDOW = 4  # of sliding attention: shorter than the requests
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "intermediate_size": 32,
}
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
MORE = {
    "mistral": MistralConfig(**SHAPE, sliding_window=WINDOW),
    "olmo2": Olmo2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE),
    "gemma2": Gemma2Config(**SHAPE, sliding_window=WINDOW, layer_types=ALTERNATING, query_pre_attn_scalar=4),
    "gemma3": Gemma3TextConfig(**SHAPE, sliding_window=WINDOW, layer_types=ALTERNATING),
}
FAMILIES = [family for family in tiny.FAMILIES if family != "bloom"] + list(MORE)


def make(family: str) -> Any:
    """A random float64 model whose attention matters."""
    from transformers import AutoModelForCausalLM

    if family not in MORE:
        return tiny.model(family, vocabulary=VOCABULARY)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(MORE[family]).double().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    return make(request.param)


@given(requests=drawn(max_size=20), at_once=st.sampled_from([1, 7, 1 << 20]))
def test_the_trie_has_each_prefix_once(requests: Requests, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trie_module, "BLOCK", at_once)
        trie = requests.trie
    assert sorted(zip(trie.request.tolist(), trie.position.tolist(), strict=True)) == [
        (r, p) for r, request in enumerate(requests) for p in range(len(request.continuation))
    ]
    assert trie.node.tolist() == sorted(trie.node.tolist())
    assert len(trie) == trie_size(requests)
    parents = [max((a for a in range(b) if trie.end[a] > b), default=-1) for b in range(len(trie))]
    for request, position, node, target in zip(
        trie.request, trie.position, trie.node, trie.target, strict=True
    ):
        path, at = [], int(node)
        while at >= 0:
            path.append(int(trie.token[at]))
            at = parents[at]
        fed = requests[request].tokens[: requests[request].context + position]
        assert tuple(reversed(path)) == fed
        assert requests[request].continuation[position] == target


@settings(deadline=None, max_examples=12)
@given(requests=drawn(min_size=1, max_size=12), chunk=st.integers(1, 40))
def test_the_walk_equals_plain_forwards(model: Any, requests: Requests, chunk: int) -> None:
    counters = Counters()
    found = score_trie(TransformersBody(model), requests, counters, chunk=chunk)
    assert counters.forwarded == trie_size(requests)
    tolerance = 1e-5 if model.config.model_type == "gemma2" else 1e-9  # its soft cap runs in float32
    for request, score in zip(requests, found, strict=True):
        assert score.loglikelihoods == pytest.approx(plain(model, request), abs=tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_stays_near_float64(family: str) -> None:
    exact = make(family)
    requests = Requests.of(
        [Encoded(tuple((7 * i + j) % VOCABULARY for j in range(2 + i)), 1 + i // 2, False) for i in range(20)]
    )
    expected = [plain(exact, request) for request in requests]
    found = score_trie(TransformersBody(exact.float()), requests, Counters(), chunk=16)
    for values, score in zip(expected, found, strict=True):
        assert score.loglikelihoods == pytest.approx(values, abs=1e-4)


def test_known_families_take_the_trie(model: Any) -> None:
    assert body_of(model) is not None


OTHERS = sorted(TESTED_TYPES - {*FAMILIES, "gemma3_text"})


@pytest.mark.parametrize("model_type", OTHERS)
def test_trusted_types_see_their_masks_at_any_depth(model_type: str) -> None:
    """Paths much longer than the window, cut by chunks; what a small probe cannot see."""
    shape = {**SHAPE, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "max_position_embeddings": 64}
    if model_type in ("phi3", "starcoder2", "olmo3", "exaone4"):
        shape["sliding_window"] = WINDOW
    if model_type == "gptj":
        shape = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 3, "n_head": 4, "rotary_dim": 4}
    model = architectures.random_model(model_type, shape).double()
    stem = tuple((7 * i) % VOCABULARY for i in range(45))
    requests = Requests.of(
        [Encoded((*stem[:cut], 3, cut % 5, cut % 7, 1), cut - 5, False) for cut in range(10, 45, 3)]
    )
    assert body_of(model) is not None
    found = score_trie(TransformersBody(model), requests, Counters(), chunk=17)
    for request, score in zip(requests, found, strict=True):
        assert score.loglikelihoods == pytest.approx(plain(model, request), abs=1e-9)


def test_a_type_with_attention_of_its_own_takes_padded_batches() -> None:
    """GPT-Neo masks a window by slot; the probe is too short to see it."""
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "window_size": 256}
    assert (
        body_of(architectures.random_model("gpt_neo", {**shape, "attention_types": [[["local"], 2]]})) is None
    )


@pytest.mark.usefixtures("any_tokenizer")
def test_positions_that_depend_on_the_longest_text_are_scored_one_by_one(tmp_path) -> None:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 2,
        "long_factor": [8.0] * 2,
        "original_max_position_embeddings": 8,
    }
    shape = {
        **SHAPE,
        "head_dim": 4,
        "max_position_embeddings": 64,
        "rope_parameters": rope,
        "pad_token_id": 0,
    }
    architectures.random_model("llama", shape).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    scorer = load_scorer(tmp_path)
    assert (scorer.method, scorer.alone) == ("padded", True)
    short, long = Encoded((1, 2, 3, 4), 1, False), Encoded(tuple(range(1, 20)), 1, False)
    [together, _], [alone] = scorer.score(Requests.of([short, long])), scorer.score(Requests.of([short]))
    assert together == alone
    assert alone.loglikelihoods == pytest.approx(plain(scorer.model.cpu(), short), abs=1e-5)


def test_a_model_with_a_running_state_takes_padded_batches_and_says_so(caplog) -> None:
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
    from transformers import AutoModelForCausalLM

    mamba = AutoModelForCausalLM.from_config(MambaConfig(**shape)).eval()
    logging.getLogger("ebbtide").propagate = True
    assert body_of(mamba) is None
    assert "MambaForCausalLM: padded batches instead of the trie" in caplog.text


def test_bloom_takes_padded_batches() -> None:
    assert body_of(tiny.model("bloom", vocabulary=VOCABULARY)) is None


def test_a_wrong_mask_is_found_by_the_probe(monkeypatch) -> None:
    """Were positions counted along the chunk instead of by depth, the model would not be trusted."""
    from ebbtide.scoring import encoded

    def flat(*arrays: np.ndarray) -> Any:
        trie = build_trie(*arrays)
        trie.depth[:] = range(len(trie))
        return trie

    monkeypatch.setattr(encoded, "build_trie", flat)
    assert body_of(make("gpt_neox")) is None


def test_out_of_memory_halves_the_chunk_and_loses_nothing(model: Any, monkeypatch) -> None:
    requests = Requests.of([Encoded((1, 2, 3, i, i + 1, i + 2), 3, False) for i in range(10)])
    expected = score_trie(TransformersBody(model), requests, Counters(), chunk=256)
    base, sizes = model.base_model, []

    def small_memory(*arguments: Any, input_ids: Any, **named: Any) -> Any:
        sizes.append(input_ids.shape[1])
        output = type(base).forward(base, *arguments, input_ids=input_ids, **named)
        if input_ids.shape[1] > 4:  # after the layers have filled the cache
            raise torch.OutOfMemoryError("no memory")
        return output

    monkeypatch.setattr(base, "forward", small_memory)
    counters = Counters()
    found = score_trie(TransformersBody(model), requests, counters, chunk=16)
    assert sizes[:4] == [12, 6, 3, 3]  # 23 tokens in chunks of equal size
    assert counters.forwarded == sum(sizes) == trie_size(requests) + 12 + 6
    for a, b in zip(found, expected, strict=True):
        assert a.loglikelihoods == pytest.approx(b.loglikelihoods, abs=1e-5)


def test_what_cannot_fit_is_a_sentence(monkeypatch) -> None:
    model = make("llama")

    def no_memory(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(model.base_model, "forward", no_memory)
    with pytest.raises(ScoringError, match="one token at depth 0 does not fit in memory"):
        score_trie(TransformersBody(model), Requests.of([Encoded((1, 2, 3), 1, False)]), Counters(), chunk=4)


def test_the_walk_agrees_with_padded_batches(model: Any) -> None:
    requests = Requests.of([Encoded((1, *range(2, 2 + i), 5), i, False) for i in range(1, 12)])
    walked = score_trie(TransformersBody(model), requests, Counters(), chunk=256)
    padded = score_padded(model, requests, Counters())
    assert [s.greedy for s in walked] == [s.greedy for s in padded]
