"""The engine: equal to one plain forward per request, whatever the batch; and its errors as sentences."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

import tiny
from ebbtide.checkpoints import count_parameters, identities, load_model, load_tokenizer
from ebbtide.errors import CellError, CheckpointError, ScoringError
from ebbtide.scoring import Scorer, load_scorer, score_requests
from ebbtide.scoring.encoding import Encoded, beginning, encode
from ebbtide.scoring.engine import unique_tokens
from ebbtide.scoring.padded import Counters, score_padded

VOCABULARY = 40


def exactness(model: Any) -> float:
    """Rounding of a float64 forward; BLOOM takes the softmax of its attention in float32."""
    return 1e-6 if model.config.model_type == "bloom" else 1e-9


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    return tiny.model(request.param, vocabulary=VOCABULARY)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def scorer(checkpoint: Path) -> Scorer:
    return load_scorer(checkpoint)


def plain(model: Any, request: Encoded) -> list[float]:
    """The definition: one forward of one request, all logits, log-softmax in float64."""
    with torch.no_grad():
        logits = model(torch.tensor([request.tokens])).logits[0]
    log_probabilities = torch.log_softmax(logits.double(), dim=-1)
    return [
        float(log_probabilities[place - 1, request.tokens[place]])
        for place in range(request.context, len(request.tokens))
    ]


@st.composite
def encoded(draw: st.DrawFn) -> Encoded:
    # Few different tokens at the beginning, so that requests share prefixes.
    tokens = draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
    tokens += draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=8))
    return Encoded(tuple(tokens), draw(st.integers(1, len(tokens) - 1)), False)


@settings(deadline=None, max_examples=15)
@given(requests=st.lists(encoded(), min_size=1, max_size=12), batch_tokens=st.integers(1, 200))
def test_batches_equal_plain_forwards(model: Any, requests: list[Encoded], batch_tokens: int) -> None:
    found = score_padded(model, requests, Counters(), batch_tokens=batch_tokens)
    for request, score in zip(requests, found, strict=True):
        assert score.loglikelihoods == pytest.approx(plain(model, request), abs=exactness(model))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_float32_stays_near_float64(family: str) -> None:
    exact = tiny.model(family, vocabulary=VOCABULARY)
    single = tiny.model(family, vocabulary=VOCABULARY).float()
    requests = [
        Encoded(tuple((7 * i + j) % VOCABULARY for j in range(2 + i)), 1 + i // 2, False) for i in range(20)
    ]
    for request, score in zip(requests, score_padded(single, requests, Counters()), strict=True):
        assert score.loglikelihoods == pytest.approx(plain(exact, request), abs=1e-4)


@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_order_does_not_matter(model: Any, data: st.DataObject) -> None:
    requests = data.draw(st.lists(encoded(), min_size=2, max_size=10))
    order = data.draw(st.permutations(range(len(requests))))
    scores = score_padded(model, requests, Counters(), batch_tokens=30)
    shuffled = score_padded(model, [requests[i] for i in order], Counters(), batch_tokens=30)
    for place, index in enumerate(order):
        assert shuffled[place].loglikelihoods == pytest.approx(
            scores[index].loglikelihoods, abs=exactness(model)
        )
        assert shuffled[place].greedy == scores[index].greedy


def test_a_model_that_returns_all_logits_is_scored_the_same(model: Any) -> None:
    """An architecture may ignore `logits_to_keep`; its logits must not be read at shifted positions."""

    class Verbose:
        device = model.device

        def __call__(self, ids: torch.Tensor, **_: Any) -> Any:
            return model(ids)

    requests = [Encoded((1, 2, 3, 4, 5), 3, False), Encoded((1, 2, 6), 2, False)]
    assert score_padded(Verbose(), requests, Counters()) == score_padded(model, requests, Counters())


def test_greedy_means_every_token_is_the_argmax(model: Any) -> None:
    tokens = [1, 2]
    for _ in range(3):
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    right = Encoded(tuple(tokens), 2, False)
    wrong = Encoded((*tokens[:-1], (tokens[-1] + 1) % VOCABULARY), 2, False)
    assert [s.greedy for s in score_padded(model, [right, wrong], Counters())] == [True, False]


def test_a_row_is_forwarded_once_for_all_its_continuations() -> None:
    requests = [Encoded((1, 2, 3, last), 3, False) for last in range(10)]
    counters = Counters()
    score_padded(tiny.model("gpt_neox", vocabulary=VOCABULARY), requests, counters)
    assert counters.forwarded == 3


def trie_size(requests: Sequence[Encoded]) -> int:
    return len({request.fed[: i + 1] for request in requests for i in range(len(request.fed))})


@given(st.lists(encoded(), max_size=20))
def test_unique_tokens_are_the_nodes_of_the_trie(requests: list[Encoded]) -> None:
    assert unique_tokens(requests) == trie_size(requests)


# From texts to tokens. In the BPE vocabulary, `ab` and ` ab` are one token each, `abcd` is two or one.


def one(tokenizer: Any, context: str, continuation: str, window: int = 40) -> Encoded:
    [found] = encode(
        tokenizer, [context], [continuation], ["example 1"], encoding="harness", window=window, vocabulary=280
    )
    return found


def texts(tokenizer: Any, found: Encoded) -> tuple[str, str]:
    return tokenizer.decode(found.tokens[: found.context]), tokenizer.decode(found.continuation)


def test_trailing_whitespace_moves_to_the_continuation() -> None:
    tokenizer = tiny.bpe()
    assert one(tokenizer, "ab ", "ab") == one(tokenizer, "ab", " ab")
    assert texts(tokenizer, one(tokenizer, "cd \n", "ab")) == ("cd", " \nab")


def test_an_empty_context_becomes_the_beginning_token() -> None:
    for context in ("", " "):
        found = one(tiny.bpe(), context, "ab cd")
        assert (found.tokens[0], found.context) == (0, 1)
    # ... and not two of them, where the tokenizer adds its own.
    assert one(tiny.bpe(beginning=True), "", "ab cd") == one(tiny.bpe(), "", "ab cd")


def test_a_context_that_the_tokenizer_drops_counts_as_empty() -> None:
    tokenizer = tiny.bpe()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("~", "")
    assert one(tokenizer, "~~", "ab") == one(tokenizer, "", "ab")


def test_without_a_beginning_token_the_end_token_stands_for_it() -> None:
    tokenizer = tiny.bpe()
    tokenizer.bos_token = None
    assert one(tokenizer, "", "ab").tokens[0] == 1
    tokenizer.eos_token = None
    with pytest.raises(ScoringError, match="neither a beginning nor an end token"):
        one(tokenizer, "", "ab")
    one(tokenizer, "cd", " ab")  # not needed here


@pytest.mark.parametrize("end", [False, True])
def test_the_beginning_is_what_the_post_processor_puts_in_front(end: bool) -> None:
    assert beginning(tiny.bpe(beginning=True, end=end)) == [0]
    assert beginning(tiny.bpe(end=end)) == []
    bare, started = one(tiny.bpe(), "ab cd", " ab"), one(tiny.bpe(beginning=True, end=end), "ab cd", " ab")
    assert started.tokens == (0, *bare.tokens)
    assert started.context == bare.context + 1


def test_the_beginning_of_a_word_level_tokenizer(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(checkpoint)
    assert beginning(tokenizer) == [0]
    without_a = {word: i for word, i in tokenizer.get_vocab().items() if word != "a"}
    assert len(without_a) < len(tokenizer.get_vocab())
    state = json.loads((checkpoint / "tokenizer.json").read_text())
    state["model"]["vocab"] = without_a
    state["post_processor"]["single"].append({"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}})
    ended = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    assert beginning(ended) == [0]  # and not the one behind


def test_a_continuation_of_several_tokens_is_scored_whole() -> None:
    tokenizer = tiny.bpe()
    found = one(tokenizer, "ab", " cd xyz")
    assert len(found.continuation) > 3
    assert texts(tokenizer, found) == ("ab", " cd xyz")
    assert found.fed == found.tokens[:-1]


def test_tokens_that_merge_over_the_border_are_cut_after_the_context_s_count() -> None:
    """The rule of lm-evaluation-harness: `a` + `b` is one token `ab`; behind one token is nothing."""
    tokenizer = tiny.bpe()
    assert len(tokenizer("ab")["input_ids"]) == len(tokenizer("a")["input_ids"]) == 1
    with pytest.raises(ScoringError, match="example 1: the continuation has no tokens of its own"):
        one(tokenizer, "a", "b")
    found = one(tokenizer, "a", "b cd")
    whole = tokenizer("ab cd")["input_ids"]
    assert found.tokens == (*tokenizer("a")["input_ids"], *whole[1:])


def test_an_empty_continuation_is_an_error() -> None:
    with pytest.raises(ScoringError, match="example 1: the continuation has no tokens of its own"):
        one(tiny.bpe(), "ab", "")


def test_a_long_context_loses_its_left_end_and_is_flagged() -> None:
    tokenizer = tiny.bpe()
    whole = one(tokenizer, "x" * 30, "ab cd")
    assert not whole.truncated
    assert not one(tokenizer, "x" * 30, "ab cd", window=len(whole.fed)).truncated
    cut = one(tokenizer, "x" * 30, "ab cd", window=10)
    assert cut.truncated
    assert len(cut.fed) == 10
    assert cut.tokens == whole.tokens[-11:]
    assert cut.continuation == whole.continuation


def test_a_continuation_longer_than_the_window_is_an_error() -> None:
    tokenizer = tiny.bpe()
    assert one(tokenizer, "x", "y" * 10, window=10).context == 1  # its last token is not fed
    with pytest.raises(
        ScoringError, match=r"example 1: the continuation alone \(11 tokens\) exceeds the window of 10"
    ):
        one(tokenizer, "x", "y" * 11, window=10)


def test_an_unknown_word_names_the_example(checkpoint: Path) -> None:
    with pytest.raises(ScoringError, match="request 1: 'the zebra' cannot be encoded"):
        encode(
            load_tokenizer(checkpoint),
            ["the", "the zebra"],
            [" old", " old"],
            ["request 0", "request 1"],
            encoding="harness",
            window=40,
            vocabulary=271,
        )


def test_an_unknown_encoding_is_an_error() -> None:
    with pytest.raises(ScoringError, match="encoding: found 'best', allowed: harness"):
        encode(tiny.bpe(), ["a"], ["b"], ["x"], encoding="best", window=9, vocabulary=9)


# A whole task.


def test_a_task_is_scored(scorer: Scorer, tmp_path: Path) -> None:
    path = tiny.requests(tmp_path / "task.parquet")
    scored = score_requests(scorer, path)
    rows = scored.rows

    assert rows["example"].tolist() == [row[0] for row in tiny.ROWS]
    assert rows["choice"].tolist() == [row[1] for row in tiny.ROWS]
    assert rows["tokens"].tolist() == [2, 4, 1, 2, 2, 1]
    assert rows["context_tokens"].tolist() == [4, 4, 3, 3, 1, 1]  # with the beginning token
    assert rows["characters"].tolist() == [len(row[3]) for row in tiny.ROWS]
    assert not rows["truncated"].any()
    ids = scorer.tokenizer
    for row, (_, _, context, continuation, _) in zip(rows.itertuples(), tiny.ROWS, strict=True):
        tokens = tuple(ids(context + continuation)["input_ids"])
        expected = plain(scorer.model, Encoded(tokens, len(tokens) - row.tokens, False))
        assert row.loglikelihood == pytest.approx(sum(expected), abs=1e-5)
        assert row.first_token_loglikelihood == pytest.approx(expected[0], abs=1e-5)


def test_the_footer_counts(scorer: Scorer, tmp_path: Path) -> None:
    path = tiny.requests(tmp_path / "task.parquet")
    footer = score_requests(scorer, path).footer
    # Fed: <e> the old child {is | is not young}; <e> every tall {_ | the}; <e> {no | _}.
    assert footer["requests"] == 6
    assert footer["unique_tokens"] == 1 + 3 + 3 + 2 + 1 + 1
    assert footer["forwarded_tokens"] >= footer["unique_tokens"]
    assert footer["truncated"] == 0
    assert (footer["dtype"], footer["device"]) == ("float32", scorer.device)
    assert footer["parameters_total"] > footer["parameters_non_embedding"] > 0
    json.dumps(footer, allow_nan=False)

    short = score_requests(scorer, path, max_length=4)
    assert short.footer["truncated"] == short.rows["truncated"].sum() == 2
    assert short.rows["context_tokens"].tolist() == [3, 1, 3, 3, 1, 1]


def test_bytes_and_characters_differ(scorer: Scorer, tmp_path: Path) -> None:
    rows = [("0", 0, "the", "\u2003old", True)]  # an em space
    found = score_requests(scorer, tiny.requests(tmp_path / "task.parquet", rows)).rows
    assert (found["characters"].item(), found["bytes"].item()) == (4, 6)


def test_the_content_hash_is_that_of_the_frozen_task(scorer: Scorer, tmp_path: Path) -> None:
    from ebbtide.tables import REQUESTS, read_footer

    path = tiny.requests(tmp_path / "task.parquet")
    found = score_requests(scorer, path).footer["requests_sha256"]
    assert found == read_footer(path, REQUESTS)["content_sha256"]


def test_an_empty_task_is_an_error(scorer: Scorer, tmp_path: Path) -> None:
    rows = pd.DataFrame(tiny.ROWS, columns=["example", "choice", "context", "continuation", "gold"]).iloc[:0]
    rows.to_parquet(tmp_path / "task.parquet")
    with pytest.raises((ScoringError, CellError), match=r"task\.parquet"):
        score_requests(scorer, tmp_path / "task.parquet")


def test_the_window_is_the_model_s(scorer: Scorer, tmp_path: Path) -> None:
    rows = [("0", 0, "the old " * 30, "child", True)]
    path = tiny.requests(tmp_path / "task.parquet", rows)
    assert score_requests(scorer, path).rows["context_tokens"].item() == tiny.WINDOW
    with pytest.raises(
        ScoringError, match=f"max_length: found 49, the model's window is {tiny.WINDOW} tokens"
    ):
        score_requests(scorer, path, max_length=49)


def test_a_tokenizer_of_another_model_is_an_error(tmp_path: Path) -> None:
    scorer = load_scorer(tiny.checkpoint(tmp_path / "small", vocabulary=20))
    path = tiny.requests(tmp_path / "task.parquet")
    with pytest.raises(
        ScoringError, match="outside the model's vocabulary of 20; the tokenizer does not belong"
    ):
        score_requests(scorer, path)


def test_a_log_likelihood_that_is_no_number_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    scorer = load_scorer(checkpoint)
    with torch.no_grad():
        scorer.model.get_output_embeddings().weight.fill_(float("inf"))
    with pytest.raises(
        ScoringError, match="example 0, choice 0: the log-likelihood is nan; score in a wider dtype"
    ):
        score_requests(scorer, tiny.requests(tmp_path / "task.parquet"))


# Checkpoints that are not what they should be.


@pytest.fixture
def damaged(checkpoint: Path, tmp_path: Path) -> Path:
    shutil.copytree(checkpoint, tmp_path / "copy")
    return tmp_path / "copy"


def rewrite(directory: Path, **changes: torch.Tensor | None) -> None:
    weights = load_file(directory / "model.safetensors")
    for name, tensor in changes.items():
        weights.pop(name) if tensor is None else weights.__setitem__(name, tensor)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


HEAD = "embed_out.weight"  # in the file; `lm_head.weight` in the model


def test_non_finite_weights_are_an_error(damaged: Path) -> None:
    weight = load_file(damaged / "model.safetensors")[HEAD]
    weight[3, 3] = math.nan
    rewrite(damaged, **{HEAD: weight})
    with pytest.raises(CheckpointError, match=r"copy: tensor lm_head\.weight holds non-finite values"):
        load_model(damaged, "float32")


@pytest.mark.parametrize(
    ("name", "tensor", "what"),
    [
        (HEAD, None, "missing keys in the weights: lm_head.weight"),
        ("gpt_neox.extra", torch.zeros(2), "unexpected keys in the weights: gpt_neox.extra"),
        (HEAD, torch.zeros(3, 16), "mismatched keys in the weights: .*lm_head.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_an_error(damaged: Path, name: str, tensor: Any, what: str) -> None:
    rewrite(damaged, **{name: tensor})
    with pytest.raises(CheckpointError, match=what):
        load_model(damaged, "float32")


def test_the_buffers_of_old_pythia_files_are_no_error(damaged: Path) -> None:
    layer = "gpt_neox.layers.0.attention"
    buffers = {f"{layer}.bias": torch.ones(1, 1, 4, 4), f"{layer}.masked_bias": torch.tensor(-1e9)}
    rewrite(damaged, **buffers, **{f"{layer}.rotary_emb.inv_freq": torch.ones(4)})
    load_model(damaged, "float32")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (shutil.rmtree, "copy is not a directory"),
        (lambda d: (d / "config.json").unlink(), "copy has no config.json"),
        (lambda d: (d / "tokenizer.json").unlink(), "copy has no tokenizer.json"),
        (lambda d: (d / "model.safetensors").unlink(), r"copy holds no \*.safetensors file \(found: config"),
        (lambda d: (d / "model.safetensors").write_bytes(b"short"), "copy cannot be loaded"),
        (lambda d: (d / "config.json").write_text('{"model_type": "nonsense"}'), "copy cannot be loaded"),
        (
            lambda d: (d / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "b.safetensors"}}'
            ),
            "copy lacks b.safetensors, which model.safetensors.index.json lists",
        ),
        (lambda d: (d / "model.safetensors.index.json").write_text("[]"), "is not an index of weights"),
    ],
)
def test_an_incomplete_directory_is_an_error(damaged: Path, change: Any, what: str) -> None:
    change(damaged)
    with pytest.raises(CheckpointError, match=what):
        load_model(damaged, "float32")


def test_a_damaged_tokenizer_is_an_error(damaged: Path) -> None:
    (damaged / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="copy: the tokenizer cannot be loaded"):
        load_tokenizer(damaged)


def test_parameters_are_counted_by_hand() -> None:
    # Width 16, two layers: attention 16·48 + 48 + 16·16 + 16, forward 16·32 + 32 + 32·16 + 16, norms 4·16.
    layers = 2 * (16 * 48 + 48 + 16 * 16 + 16 + 16 * 32 + 32 + 32 * 16 + 16 + 64) + 2 * 16
    assert count_parameters(tiny.model("gpt_neox", vocabulary=40)) == (layers + 2 * 40 * 16, layers)
    # Tied: the matrix counts once. Grouped keys: 16·16 + 2·16·8 + 16·16, three matrices of 16·32, norms.
    layers = 2 * (256 + 256 + 256 + 3 * 512 + 32) + 16
    assert count_parameters(tiny.model("llama", vocabulary=40)) == (layers + 40 * 16, layers)


def test_identities_follow_the_content_of_the_files(damaged: Path, tmp_path: Path) -> None:
    cache = tmp_path / "digests.json"
    before = identities(damaged, cache)
    assert identities(damaged, cache) == identities(damaged, None) == before

    shutil.copytree(damaged, tmp_path / "moved")
    assert identities(tmp_path / "moved", cache) == before

    rewrite(damaged, **{HEAD: load_file(damaged / "model.safetensors")[HEAD] + 1})
    weights, tokenizer = identities(damaged, cache)
    assert weights != before[0]
    assert tokenizer == before[1]

    (damaged / "tokenizer_config.json").write_text("{}")
    assert identities(damaged, cache) == (weights, identities(damaged, None)[1])
    assert identities(damaged, cache)[1] != tokenizer

    cache.write_text("damaged")
    assert identities(tmp_path / "moved", cache) == before


def test_a_cached_digest_is_not_computed_again(damaged: Path, tmp_path: Path) -> None:
    cache = tmp_path / "digests.json"
    before = identities(damaged, cache)
    known = json.loads(cache.read_text())
    cache.write_text(json.dumps({name: "0" * 64 for name in known}))
    assert identities(damaged, cache) != before
