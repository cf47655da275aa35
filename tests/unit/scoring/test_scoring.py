"""The engine: equal to one plain forward per request, whatever the batch; and its errors as sentences."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from ebbtide.checkpoints.load import load_model
from ebbtide.errors import CellError, ScoringError
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.scoring.padded import score_padded
from ebbtide.scoring.scorer import Counters, Scorer
from scoring_reference import drawn, plain

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


@settings(deadline=None, max_examples=15)
@given(requests=drawn(min_size=1, max_size=12), batch_tokens=st.integers(1, 200))
def test_batches_equal_plain_forwards(model: Any, requests: Requests, batch_tokens: int) -> None:
    found = score_padded(model, requests, Counters(), batch_tokens=batch_tokens)
    for request, score in zip(requests, found, strict=True):
        assert score.loglikelihoods == pytest.approx(plain(model, request), abs=exactness(model))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_float32_stays_near_float64(family: str) -> None:
    exact = tiny.model(family, vocabulary=VOCABULARY)
    single = tiny.model(family, vocabulary=VOCABULARY).float()
    requests = Requests.of(
        [Encoded(tuple((7 * i + j) % VOCABULARY for j in range(2 + i)), 1 + i // 2, False) for i in range(20)]
    )
    for request, score in zip(requests, score_padded(single, requests, Counters()), strict=True):
        assert score.loglikelihoods == pytest.approx(plain(exact, request), abs=1e-4)


@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_order_does_not_matter(model: Any, data: st.DataObject) -> None:
    requests = data.draw(drawn(min_size=2, max_size=10))
    order = data.draw(st.permutations(range(len(requests))))
    scores = score_padded(model, requests, Counters(), batch_tokens=30)
    shuffled = score_padded(model, Requests.of([requests[i] for i in order]), Counters(), batch_tokens=30)
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

    requests = Requests.of([Encoded((1, 2, 3, 4, 5), 3, False), Encoded((1, 2, 6), 2, False)])
    verbose, quiet = (score_padded(m, requests, Counters()) for m in (Verbose(), model))
    assert [*verbose] == [*quiet]


def test_greedy_means_every_token_is_the_argmax(model: Any) -> None:
    tokens = [1, 2]
    for _ in range(3):
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    right = Encoded(tuple(tokens), 2, False)
    wrong = Encoded((*tokens[:-1], (tokens[-1] + 1) % VOCABULARY), 2, False)
    assert [s.greedy for s in score_padded(model, Requests.of([right, wrong]), Counters())] == [True, False]


def test_a_row_is_forwarded_once_for_all_its_continuations() -> None:
    requests = Requests.of([Encoded((1, 2, 3, last), 3, False) for last in range(10)])
    counters = Counters()
    score_padded(tiny.model("gpt_neox", vocabulary=VOCABULARY), requests, counters)
    assert counters.forwarded == 3


def test_batches_are_halved_when_memory_runs_out() -> None:
    model = tiny.model("gpt_neox", vocabulary=VOCABULARY)
    requests = Requests.of([Encoded((1, 2, 3, 4, i, 5), 3, False) for i in range(12)])
    sizes = []

    class Small:
        device = model.device

        def __call__(self, ids: torch.Tensor, **named: Any) -> Any:
            sizes.append(ids.numel())
            if ids.numel() > 20:
                raise torch.OutOfMemoryError("no memory")
            return model(ids, **named)

    counters = Counters()
    found = score_padded(Small(), requests, counters, ranks=True)
    assert sizes[:4] == [60, 30, 15, 15]
    assert (counters.forwarded, counters.chunk) == (60 + 30 + 60, 15)
    for a, b in zip(found, score_padded(model, requests, Counters(), ranks=True), strict=True):
        assert (a.greedy, a.ranks) == (b.greedy, b.ranks)
        assert a.loglikelihoods == pytest.approx(b.loglikelihoods, abs=1e-9)


def test_a_text_that_cannot_fit_is_a_sentence() -> None:
    class NoMemory:
        device = torch.device("cpu")

        def __call__(self, *_: Any, **__: Any) -> Any:
            raise torch.OutOfMemoryError("no memory")

    with pytest.raises(ScoringError, match="a text of 2 tokens does not fit in memory; use a smaller"):
        score_padded(NoMemory(), Requests.of([Encoded((1, 2, 3), 1, False)]), Counters())


# A whole task.


def test_a_task_is_scored(scorer: Scorer, checkpoint: Path, tmp_path: Path) -> None:
    path = tiny.requests(tmp_path / "task.parquet")
    scored = score_requests(scorer, path)
    rows = scored.rows.to_pandas()

    assert rows["example"].tolist() == [row[0] for row in tiny.ROWS]
    assert rows["choice"].tolist() == [row[1] for row in tiny.ROWS]
    assert rows["tokens"].tolist() == [2, 4, 1, 2, 2, 1]
    assert rows["context_tokens"].tolist() == [4, 4, 3, 3, 1, 1]  # with the beginning token
    assert rows["characters"].tolist() == [len(row[3]) for row in tiny.ROWS]
    assert not rows["truncated"].any()
    model = load_model(checkpoint, "float32")
    for row, (_, _, context, continuation, _) in zip(rows.itertuples(), tiny.ROWS, strict=True):
        [ids] = scorer.tokenizer.ids([context + continuation])
        tokens = (*scorer.tokenizer.beginning, *ids)
        expected = plain(model, Encoded(tokens, len(tokens) - row.tokens, False))
        assert row.loglikelihood == pytest.approx(sum(expected), abs=1e-5)
        assert row.first_token_loglikelihood == pytest.approx(expected[0], abs=1e-5)


def test_the_footer_counts(scorer: Scorer, tmp_path: Path) -> None:
    path = tiny.requests(tmp_path / "task.parquet")
    footer = score_requests(scorer, path).footer
    # Fed: <e> the old child {is | is not young}; <e> every tall {_ | the}; <e> {no | _}.
    assert footer["requests"] == 6
    assert footer["unique_tokens"] == 1 + 3 + 3 + 2 + 1 + 1
    assert footer["forwarded_tokens"] == footer["unique_tokens"]
    assert footer["method"] == "trie"
    assert footer["truncated"] == 0
    assert (footer["dtype"], footer["device"]) == ("float32", scorer.device)
    assert footer["parameters_total"] > footer["parameters_non_embedding"] > 0
    json.dumps(footer, allow_nan=False)

    short = score_requests(scorer, path, max_length=4)
    assert short.footer["truncated"] == sum(short.rows["truncated"].to_pylist()) == 2
    assert short.rows["context_tokens"].to_pylist() == [3, 1, 3, 3, 1, 1]


def test_bytes_and_characters_differ(scorer: Scorer, tmp_path: Path) -> None:
    rows = [("0", 0, "the", "\u2003old", True)]  # an em space
    found = score_requests(scorer, tiny.requests(tmp_path / "task.parquet", rows)).rows.to_pandas()
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
    assert score_requests(scorer, path).rows["context_tokens"].to_pylist()[0] == tiny.WINDOW
    with pytest.raises(
        ScoringError, match=f"max_length: found 49, the model's window is {tiny.WINDOW} tokens"
    ):
        score_requests(scorer, path, max_length=49)


def test_a_model_without_a_window_has_a_default_that_may_be_exceeded(scorer: Scorer, tmp_path: Path) -> None:
    path = tiny.requests(tmp_path / "task.parquet")
    assert score_requests(scorer, path).footer["window_key"] == "max_position_embeddings"
    unknown = replace(scorer, window_key=None)
    footer = score_requests(unknown, path, max_length=tiny.WINDOW + 1).footer
    assert (footer["model_window"], footer["window_key"]) == (tiny.WINDOW, None)


def test_a_token_over_the_border_is_flagged_in_its_row_and_counted(tmp_path: Path) -> None:
    directory = tiny.checkpoint(tmp_path / "checkpoint", vocabulary=tiny.BPE_VOCABULARY)
    tiny.bpe().save_pretrained(directory)
    rows = [
        ("0", 0, "xy ab cd", " ab", True),
        ("0", 1, "xy ab cda", "b ab", False),
        ("1", 0, "xy", " ab", True),
        ("1", 1, "xy", " cd ab", False),
    ]
    scored = score_requests(load_scorer(directory), tiny.requests(tmp_path / "task.parquet", rows))
    assert scored.rows.column("border_token").to_pylist() == [False, True, False, False]
    assert scored.footer["border_tokens"] == 1
    assert scored.footer["equal_first_tokens"] == 1  # both choices of example 0


def test_a_tokenizer_of_another_model_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    scorer = replace(load_scorer(checkpoint), vocabulary=20)
    path = tiny.requests(tmp_path / "task.parquet")
    with pytest.raises(
        ScoringError, match="outside the model's vocabulary of 20; the tokenizer does not belong"
    ):
        score_requests(scorer, path)


def test_a_log_likelihood_that_is_no_number_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    scorer = load_scorer(checkpoint)
    with torch.inference_mode():
        scorer.body.decoder.head.weight.fill_(float("inf"))
    with pytest.raises(
        ScoringError, match=r"example 0, choice 0: the log-likelihood is [a-z-]+; score in a wider dtype"
    ):
        score_requests(scorer, tiny.requests(tmp_path / "task.parquet"))
