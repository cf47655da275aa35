"""Our own decoder: for each family, the numbers of one plain forward of transformers per request."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

import architectures
import tiny
from ebbtide.checkpoints.configuration import configuration
from ebbtide.checkpoints.load import count_parameters, load_model
from ebbtide.errors import CheckpointError, ScoringError
from ebbtide.scoring.attention import Cache
from ebbtide.scoring.body import NativeBody
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.scoring.families import FAMILIES, Unsupported, build
from ebbtide.scoring.scorer import Counters
from ebbtide.scoring.walk import score_trie
from ebbtide.scoring.weights import Weights
from scoring_reference import drawn, native, plain, trie_size

# transformers takes a softmax in float32 in these.
ROUGH = {"bloom": 1e-5, "gemma2": 1e-5}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return architectures.saver(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="module", params=list(architectures.NATIVE))
def pair(request: pytest.FixtureRequest, saved: Callable[[str], Path]) -> tuple[str, Any, NativeBody]:
    """A family's name, transformers' model, and ours."""
    directory = saved(request.param)
    return request.param, load_model(directory, "float64"), native(directory)[0]


def test_every_family_is_tested() -> None:
    assert {model_type for model_type, _ in architectures.NATIVE.values()} == set(FAMILIES)


@settings(deadline=None, max_examples=6)
@given(requests=drawn(min_size=1, max_size=12), chunk=st.integers(1, 90))
def test_the_walk_equals_plain_forwards(
    pair: tuple[str, Any, NativeBody], requests: Requests, chunk: int
) -> None:
    name, model, body = pair
    counters = Counters()
    found = score_trie(body, requests, counters, chunk=chunk, ranks=True)
    assert counters.forwarded == counters.unique == trie_size(requests)
    for request, score in zip(requests, found, strict=True):
        expected = plain(model, request)
        assert score.loglikelihoods == pytest.approx(expected, abs=ROUGH.get(name, 1e-9))
        ranks = plain_ranks(model, request)
        assert score.ranks == ranks
        assert score.greedy == all(rank == 1 for rank in ranks)


def plain_ranks(model: Any, request: Encoded) -> tuple[int, ...]:
    with torch.no_grad():
        logits = model(torch.tensor([request.tokens])).logits[0]
    return tuple(
        1 + int((logits[place - 1] > logits[place - 1, request.tokens[place]] + 1e-6).sum())
        for place in range(request.context, len(request.tokens))
    )


@pytest.mark.parametrize("separate", [True, False], ids=["as on a CPU", "as on a GPU"])
def test_a_long_path_is_read_in_groups(
    pair: tuple[str, Any, NativeBody], separate: bool, monkeypatch
) -> None:
    """Groups smaller than chunks, chunks smaller than paths: every border is crossed."""
    from ebbtide.scoring import chunks

    monkeypatch.setitem(chunks.GROUP, "cpu", 3)
    monkeypatch.setattr(chunks, "SEPARATE", {"cpu"} if separate else set())
    name, model, body = pair
    stem = tuple((7 * i) % architectures.VOCABULARY for i in range(30))
    requests = Requests.of(
        [Encoded((*stem[:cut], cut % 5, 3, cut % 7, 1), max(1, cut - 3), False) for cut in range(2, 30)]
    )
    found = score_trie(body, requests, Counters(), chunk=10)
    for request, score in zip(requests, found, strict=True):
        assert score.loglikelihoods == pytest.approx(plain(model, request), abs=ROUGH.get(name, 1e-9))


@pytest.mark.parametrize("name", list(architectures.NATIVE))
def test_float32_stays_near_float64(name: str, saved: Callable[[str], Path]) -> None:
    exact = load_model(saved(name), "float64")
    body, _ = native(saved(name), "float32")
    requests = Requests.of(
        [Encoded(tuple((7 * i + j) % 40 for j in range(2 + i)), 1 + i // 2, False) for i in range(20)]
    )
    by_chunk = [score_trie(body, requests, Counters(), chunk=chunk) for chunk in (512, 1, 7)]
    order = list(reversed(range(20)))
    shuffled = score_trie(body, Requests.of([requests[i] for i in order]), Counters(), chunk=512)
    assert [*score_trie(body, requests, Counters(), chunk=512)] == [*by_chunk[0]]  # the same bits
    for i, request in enumerate(requests):
        whole = by_chunk[0][i].loglikelihoods
        assert whole == pytest.approx(plain(exact, request), abs=1e-4)
        for other in (by_chunk[1][i], by_chunk[2][i], shuffled[order.index(i)]):
            assert other.loglikelihoods == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("name", list(architectures.NATIVE))
def test_parameters_are_counted_as_transformers_does(name: str, saved: Callable[[str], Path]) -> None:
    _, weights = native(saved(name))
    assert (weights.total, weights.total - weights.embedding) == count_parameters(
        load_model(saved(name), "float32")
    )


# Configurations as they lie on the Hub: older keys, defaults left out, prefixes left out.

OLDER: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "gpt_neox": lambda c: (
        _without(c, "rope_parameters", "attention_bias", "dtype")
        | {"rotary_pct": 0.25, "rotary_emb_base": 10000, "torch_dtype": "float16"}
    ),
    "llama": lambda c: (
        _without(c, "rope_parameters", "mlp_bias") | {"rope_theta": 10000.0, "rope_scaling": None}
    ),
    "llama, stretched": lambda c: (
        _without(c, "rope_parameters")
        | {
            "rope_theta": 500.0,
            "rope_scaling": {k: v for k, v in architectures.STRETCHED.items() if k != "rope_theta"},
        }
    ),
    "mistral": lambda c: _without(c, "rope_parameters", "sliding_window") | {"rope_theta": 10000.0},
    "qwen2": lambda c: _without(c, "rope_parameters", "layer_types") | {"rope_theta": 10000.0},
    "qwen2, windows": lambda c: _without(c, "layer_types"),
    "qwen3": lambda c: _without(c, "rope_parameters", "layer_types") | {"rope_theta": 1e6},
    "olmo": lambda c: _without(c, "rope_parameters") | {"rope_theta": 10000.0},
    "olmo2": lambda c: _without(c, "rope_parameters") | {"rope_theta": 500000},
    "gemma": lambda c: _without(c, "rope_parameters", "hidden_act") | {"hidden_act": "gelu"},
    "gemma2": lambda c: _without(c, "rope_parameters", "layer_types") | {"cache_implementation": "hybrid"},
    "gemma3": lambda c: (
        _without(c, "rope_parameters", "layer_types", "_sliding_window_pattern")
        | {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 2, "rope_scaling": None}
    ),
    "gemma3, stretched": lambda c: (
        _without(c, "rope_parameters", "layer_types", "_sliding_window_pattern")
        | {"sliding_window_pattern": 2, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    ),
    "gpt2": lambda c: _without(c, "n_inner", "tie_word_embeddings") | {"n_ctx": 64, "n_inner": None},
    "opt": lambda c: _without(c, "tie_word_embeddings") | {"prefix": "</s>", "activation_dropout": 0.0},
    "bloom": lambda c: (
        _without(c, "hidden_size")
        | {"n_embed": 24, "n_inner": None, "offset_alibi": 100, "seq_length": 2048, "num_attention_heads": 6}
    ),
}


def _without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def copy_of(directory: Path, to: Path, config: dict[str, Any] | None = None) -> Path:
    to.mkdir()
    for file in directory.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    if config is not None:
        (to / "config.json").write_text(json.dumps(config))
    return to


@pytest.mark.parametrize("name", list(OLDER))
def test_older_configurations_mean_what_transformers_reads(
    name: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    old = copy_of(saved(name), tmp_path / "old", OLDER[name](configuration(saved(name))))
    model, body = load_model(old, "float64"), native(old)[0]
    requests = Requests.of(
        [Encoded(tuple((5 * i + 3 * j) % 40 for j in range(12)), 4, False) for i in range(5)]
    )
    for request, score in zip(requests, score_trie(body, requests, Counters(), chunk=20), strict=True):
        assert score.loglikelihoods == pytest.approx(plain(model, request), abs=ROUGH.get(name, 1e-9))


@pytest.mark.parametrize(
    ("name", "prefix"), [("gpt2", "transformer."), ("opt", "model."), ("bloom", "transformer.")]
)
def test_names_without_the_prefix_of_the_body(
    name: str, prefix: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    bare = copy_of(saved(name), tmp_path / "bare")
    tensors = load_file(bare / "model.safetensors")
    save_file({key.removeprefix(prefix): t for key, t in tensors.items()}, bare / "model.safetensors")
    request = Requests.of([Encoded((1, 2, 3, 4, 5), 2, False)])
    found, expected = (
        score_trie(native(directory)[0], request, Counters(), chunk=9) for directory in (bare, saved(name))
    )
    assert [*found] == [*expected]


# What we do not know goes to transformers; what is damaged is a sentence.


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("llama", {"new_trick": 3}, "new_trick in config.json"),
        ("llama", {"hidden_act": "relu2"}, "activation 'relu2'"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
            "kind 'yarn'",
        ),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
        ("opt", {"do_layer_norm_before": False}, "do_layer_norm_before False"),
        ("qwen3", {"layer_types": ["full_attention", "chunked_attention", "full_attention"]}, "layer_types"),
        ("llama", {"model_type": "granite"}, "model type 'granite'"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama", {"intermediate_size": None}, "config.json without intermediate_size"),
        ("llama", {"hidden_size": "16"}, "config.json has a value this decoder does not support"),
        ("llama", {"num_attention_heads": 0}, "config.json has a value this decoder does not support"),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "beside rope_scaling"),
        ("llama", {"rotary_emb_base": 100}, "rotary_emb_base in config.json"),
        ("gpt_neox", {"partial_rotary_factor": 0.5}, "partial_rotary_factor in config.json"),
        (
            "gemma3",
            {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 8.0}},
            "rope_scaling",
        ),
    ],
)
def test_what_is_not_known_is_not_guessed(
    name: str, change: dict[str, Any], why: str, saved: Callable[[str], Path]
) -> None:
    with Weights(saved(name), torch.float32, "cpu") as weights, pytest.raises(Unsupported, match=why):
        build(configuration(saved(name)) | change, weights)


@pytest.mark.usefixtures("any_tokenizer")
def test_transformers_scores_what_we_do_not_know(saved: Callable[[str], Path], tmp_path: Path) -> None:
    config = configuration(saved("llama")) | {"vocab_size": 40, "an_unknown_key": 1}
    other = copy_of(saved("llama"), tmp_path / "other", config)
    ours, theirs = load_scorer(saved("llama")), load_scorer(other)
    assert (ours.implementation, theirs.implementation) == ("ebbtide", "transformers")
    assert ours.method == theirs.method == "trie"
    requests = Requests.of([Encoded((1, 2, 3, i, 5), 2, False) for i in range(8)])
    for a, b in zip(ours.score(requests), theirs.score(requests), strict=True):
        assert a.loglikelihoods == pytest.approx(b.loglikelihoods, abs=1e-5)


def _drop(tensors: dict[str, Any]) -> None:
    del tensors["model.norm.weight"]


def _add(tensors: dict[str, Any]) -> None:
    tensors["model.extra"] = torch.zeros(2)


def _reshape(tensors: dict[str, Any]) -> None:
    tensors["model.norm.weight"] = torch.zeros(3)


def _poison(tensors: dict[str, Any]) -> None:
    tensors["model.norm.weight"][0] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, "missing keys in the weights: norm.weight"),
        (_add, "unexpected keys in the weights: model.extra"),
        (_reshape, "mismatched keys in the weights: model.norm.weight"),
        (_poison, "tensor model.norm.weight has non-finite values"),
    ],
)
def test_damaged_weights_are_named(
    change: Callable[[dict[str, Any]], None], message: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    damaged = copy_of(saved("llama"), tmp_path / "damaged")
    tensors = load_file(damaged / "model.safetensors")
    change(tensors)
    save_file(tensors, damaged / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_scorer(damaged)


def test_a_truncated_file_is_a_sentence(saved: Callable[[str], Path], tmp_path: Path) -> None:
    damaged = copy_of(saved("llama"), tmp_path / "damaged")
    file = damaged / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        CheckpointError, match=r"damaged cannot be loaded|model\.safetensors has [\d,]+ bytes"
    ):
        load_scorer(damaged)


@pytest.mark.usefixtures("any_tokenizer")
def test_huge_values_that_only_overflow_a_sum_are_finite(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    large = copy_of(saved("llama"), tmp_path / "large")
    tensors = load_file(large / "model.safetensors")
    tensors["lm_head.weight"].fill_(3e38)
    save_file(tensors, large / "model.safetensors")
    assert load_scorer(large).implementation == "ebbtide"


# Memory.


def test_out_of_memory_halves_the_chunk_and_loses_nothing(
    pair: tuple[str, Any, NativeBody], monkeypatch
) -> None:
    _, _, body = pair
    requests = Requests.of([Encoded((1, 2, 3, i, i + 1, i + 2), 3, False) for i in range(10)])
    expected = score_trie(body, requests, Counters(), chunk=16)
    forward, sizes = body.forward, []

    def small_memory(chunk: Any) -> Any:
        sizes.append(chunk.stop - chunk.start)
        hidden = forward(chunk)
        if sizes[-1] > 4:  # after the layers have filled the cache
            raise torch.OutOfMemoryError("no memory")
        return hidden

    monkeypatch.setattr(body, "forward", small_memory)
    counters = Counters()
    found = score_trie(body, requests, counters, chunk=16)
    assert sizes[:4] == [12, 6, 3, 3]  # 23 tokens in chunks of equal size
    assert counters.unique == trie_size(requests)
    assert counters.forwarded == sum(sizes) == counters.unique + 12 + 6
    for a, b in zip(found, expected, strict=True):
        assert a.loglikelihoods == pytest.approx(b.loglikelihoods, abs=1e-5)


def test_a_real_allocation_that_fails_is_survived(saved: Callable[[str], Path], monkeypatch) -> None:
    """The CPU's allocator raises a plain RuntimeError."""
    body, _ = native(saved("llama"), "float32")
    keep, calls = body.keep, []

    def greedy_keep(slots: Any) -> None:
        calls.append(len(slots))
        if len(calls) == 1:
            torch.empty(2**60, dtype=torch.uint8)
        keep(slots)

    monkeypatch.setattr(body, "keep", greedy_keep)
    requests = Requests.of([Encoded((1, 2, 3, i, i + 1, i + 2), 3, False) for i in range(10)])
    found = score_trie(body, requests, Counters(), chunk=16)
    assert len(calls) > 1
    for a, b in zip(
        found, score_trie(native(saved("llama"))[0], requests, Counters(), chunk=99), strict=True
    ):
        assert a.loglikelihoods == pytest.approx(b.loglikelihoods, abs=1e-4)


def test_nodes_wait_for_the_head(saved: Callable[[str], Path], monkeypatch) -> None:
    """A product with few rows is bound by reading the vocabulary, so that chunks share one."""
    from ebbtide.scoring import walk

    body, _ = native(saved("llama"))
    logits, rows = body.logits, []

    def counted(hidden: Any) -> Any:
        rows.append(len(hidden))
        return logits(hidden)

    monkeypatch.setattr(body, "logits", counted)
    requests = Requests.of([Encoded((1, 2, i, i + 1, 3), 3, False) for i in range(30)])
    expected = score_trie(body, requests, Counters(), chunk=5)
    assert rows == [60]
    monkeypatch.setitem(walk.HEAD_BATCH, "cpu", 20)
    rows.clear()
    assert [s.greedy for s in score_trie(body, requests, Counters(), chunk=5)] == [s.greedy for s in expected]
    assert sum(rows) == 60
    assert len(rows) in (2, 3)


def test_memory_that_runs_out_in_the_head_loses_nothing(saved: Callable[[str], Path], monkeypatch) -> None:
    body, _ = native(saved("llama"))
    requests = Requests.of([Encoded((1, 2, i, i + 1, 3), 3, False) for i in range(30)])
    expected = score_trie(body, requests, Counters(), chunk=16)
    logits, calls = body.logits, []

    def small_memory(hidden: Any) -> Any:
        calls.append(len(hidden))
        if len(calls) < 3:
            raise torch.OutOfMemoryError("no memory")
        return logits(hidden)

    monkeypatch.setattr(body, "logits", small_memory)
    counters = Counters()
    assert [*score_trie(body, requests, counters, chunk=16)] == [*expected]
    assert calls == [60, 60, 60]
    assert counters.forwarded == counters.unique


def test_what_cannot_fit_is_a_sentence(saved: Callable[[str], Path], monkeypatch) -> None:
    body, _ = native(saved("llama"))

    def no_memory(_: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(body, "forward", no_memory)
    with pytest.raises(ScoringError, match="one token at depth 0 does not fit in memory"):
        score_trie(body, Requests.of([Encoded((1, 2, 3), 1, False)]), Counters(), chunk=4)


def test_the_chunk_shrinks_with_free_memory(saved: Callable[[str], Path], monkeypatch) -> None:
    from ebbtide.scoring import memory

    body, _ = native(saved("llama"))
    monkeypatch.setattr(memory, "free_memory", lambda _: 20 * body.bytes_per_token(9))
    assert memory.chunk_size(body.preferred_tokens, body.bytes_per_token(9), body.device) == 10
    monkeypatch.setattr(memory, "free_memory", lambda _: 2**40)
    assert memory.chunk_size(body.preferred_tokens, body.bytes_per_token(9), body.device) == 512


# Start-up.


def test_a_task_is_scored_without_transformers_and_pandas(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    """They cost seconds of every process that scores."""
    requests = tiny.requests(tmp_path / "task.parquet", [("0", 0, "the", " old", True)])
    checkpoint = tiny.checkpoint(tmp_path / "checkpoint", "gpt_neox")
    code = (
        "import sys; from ebbtide.cli import main\n"
        f"status = main(['score', '--model', {str(checkpoint)!r}, '--requests', {str(requests)!r}, "
        f"'--to', {str(tmp_path / 'cell.parquet')!r}])\n"
        "sys.exit(status or ', '.join({'transformers', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_footer_says_whose_forward_it_was(tmp_path: Path) -> None:
    requests = tiny.requests(tmp_path / "task.parquet")
    footer = score_requests(load_scorer(tiny.checkpoint(tmp_path / "checkpoint")), requests).footer
    assert (footer["implementation"], footer["method"]) == ("ebbtide", "trie")
    assert footer["peak_memory_bytes"] > 10 * 2**20


# The head.


@pytest.mark.usefixtures("any_tokenizer")
def test_a_head_of_its_own_beside_a_tied_embedding_is_not_guessed(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    """Which of the two counts is for transformers to say."""
    both = copy_of(saved("llama, stretched"), tmp_path / "both")
    tensors = load_file(both / "model.safetensors")
    assert "lm_head.weight" not in tensors
    tensors["lm_head.weight"] = 1.5 * tensors["model.embed_tokens.weight"].flip(0)
    save_file(tensors, both / "model.safetensors", metadata={"format": "pt"})
    with (
        Weights(both, torch.float32, "cpu") as weights,
        pytest.raises(Unsupported, match=r"lm_head\.weight beside a tied embedding"),
    ):
        build(configuration(both), weights)
    scorer = load_scorer(both)
    assert scorer.implementation == "transformers"
    model = load_model(both, "float64")
    requests = Requests.of([Encoded((1, 2, 3, i, 5), 2, False) for i in range(8)])
    for request, score in zip(requests, scorer.score(requests), strict=True):
        assert score.loglikelihoods == pytest.approx(plain(model, request), abs=1e-4)


@pytest.mark.parametrize("name", ["gemma2", "gpt2"])
def test_a_vocabulary_in_slices_gives_the_same_scores(
    name: str, saved: Callable[[str], Path], monkeypatch
) -> None:
    from ebbtide.scoring import head

    monkeypatch.setattr(head, "SMALLEST_SLICE", 7)  # of 40 tokens: the last slice has 5
    monkeypatch.setitem(head.SLICE_ELEMENTS, "cpu", 1)
    model, (body, _) = load_model(saved(name), "float64"), native(saved(name))
    firsts = [first for first, _ in body.logits(torch.zeros(1, len(body.decoder.embedding[0])).double())]
    assert firsts == [0, 7, 14, 21, 28, 35]
    asked = [Encoded((1, 2, token, (token + 1) % 40), 2, False) for token in range(40)]
    for start in range(40):
        with torch.no_grad():
            best = int(model(torch.tensor([[start, 3]])).logits[0, -1].argmax())
        asked.append(Encoded((start, 3, best), 2, False))
    requests = Requests.of(asked)
    found = score_trie(body, requests, Counters(), chunk=50, ranks=True)
    for request, score in zip(requests, found, strict=True):
        assert score.loglikelihoods == pytest.approx(plain(model, request), abs=ROUGH.get(name, 1e-9))
        assert score.ranks == plain_ranks(model, request)
        assert score.greedy == all(rank == 1 for rank in score.ranks)
    assert all(score.greedy for score in found[40:])
    assert len({request.tokens[-1] // 7 for request in requests[40:]}) > 2  # the best lie in several slices


# The cache.


class OneLayerOnly(TorchDispatchMode):
    """Memory for the gathered slots of one layer, and not of the second."""

    gathers = (
        torch.ops.aten.index.Tensor,
        torch.ops.aten.index_select.default,
        torch.ops.aten.gather.default,
    )

    def __init__(self) -> None:
        super().__init__()
        self.gathered = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.gathers:
            self.gathered += 1
            if self.gathered == 2:
                raise torch.OutOfMemoryError("no memory")
        return func(*args, **(kwargs or {}))


def test_the_cache_keeps_all_or_nothing(saved: Callable[[str], Path]) -> None:
    body, _ = native(saved("llama"))
    cache = Cache(body.decoder)
    cache.reserve(6)
    for layer, buffer in enumerate(cache._buffers):
        buffer.copy_(torch.arange(buffer.numel()).reshape(buffer.shape) + 1000 * layer)
    cache.keep(torch.arange(4))
    before = [buffer.clone() for buffer in cache._buffers]
    slots = torch.tensor([0, 2, 5])
    with pytest.raises(torch.OutOfMemoryError), OneLayerOnly():
        cache.keep(slots)
    assert cache.length == 4
    assert all(torch.equal(now, then) for now, then in zip(cache._buffers, before, strict=True))
    cache.keep(slots)
    assert cache.length == 3
    for now, then in zip(cache._buffers, before, strict=True):
        assert torch.equal(now[:, :3], then[:, slots])
