"""The fake back end: plausible, repeatable, and marked as fake; and the protocol of all back ends."""

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from ebbtide.errors import ConfigError, ScoringError
from ebbtide.scoring.documents import DOCUMENTS, LOSSES, score_documents
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.encoding import ENCODINGS, encode
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.scoring.fake import FakeScorer
from ebbtide.scoring.generation.decoding import Decoding
from ebbtide.scoring.scorer import BACKENDS, Scorer
from ebbtide.tables import CELL, read_footer
from scoring_reference import score_rolling

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def fake(weights: str = "files:0", directory: str | Path = "nowhere") -> Scorer:
    return load_scorer(directory, backend="fake", weights=weights)


def score(scorer: Scorer, context: str, continuation: str, encoding: str = "separate") -> list[float]:
    request = encode(
        scorer.tokenizer,
        [context],
        [continuation],
        ["request"],
        encoding=encoding,
        bos="tokenizer",
        truncation="left",
        window=scorer.window,
        vocabulary=scorer.vocabulary,
    )
    [found] = scorer.score(request, ranks=True)
    assert found.greedy == all(rank == 1 for rank in found.ranks)
    assert all(rank <= 1 / math.exp(ll) for rank, ll in zip(found.ranks, found.loglikelihoods, strict=True))
    return list(found.loglikelihoods)


def test_the_numbers_never_change() -> None:
    """The same on every machine: only integers and exact products take part."""
    assert sum(score(fake(), "The sun rises in the", " east")) == pytest.approx(
        -3.6782982589070414, abs=1e-12
    )


@given(TEXTS, TEXTS, TEXTS)
def test_a_longer_continuation_is_less_likely(context: str, continuation: str, more: str) -> None:
    short, long = (score(fake(), context, text) for text in (continuation, continuation + more))
    assert all(value < 0 for value in short)
    assert len(short) == len(continuation.encode())
    assert long[: len(short)] == short
    assert sum(long) < sum(short)


def test_text_and_checkpoint_decide() -> None:
    first = score(fake(), "a b", " c")
    assert score(fake(), "a b", " c") == first
    assert score(fake("files:1"), "a b", " c") != first
    assert score(fake(), "a a", " c") != first
    assert score(fake(), "a b", " d")[0] == first[0]  # only the text up to a token counts


def test_numbers_are_like_those_of_a_model() -> None:
    values = [v for i in range(200) for v in score(fake(), f"Question {i}:", " answer")]
    assert 0.4 < -sum(values) / len(values) < 0.8  # nats per byte
    assert 0.3 < sum(v > math.log(0.5) for v in values) / len(values) < 0.9


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_rows_are_those_of_any_cell(encoding: str, tmp_path: Path) -> None:
    requests = tiny.requests(tmp_path / "task.parquet")
    scored = score_requests(fake(), requests, encoding=encoding, per_token=True)
    rows, tokens = scored.rows.to_pandas(), scored.tokens.to_pandas()
    assert list(rows.columns) == [*CELL.columns, "border_token"]
    assert rows["tokens"].tolist() == rows["bytes"].tolist() == [len(row[3]) for row in tiny.ROWS]
    assert (rows["loglikelihood"] < 0).all()
    assert (rows["loglikelihood"] <= rows["first_token_loglikelihood"]).all()
    assert "".join(tokens["text"]) == "".join(row[3] for row in tiny.ROWS)
    assert scored.footer["truncated"] == 0


def test_limits_hold_for_made_up_numbers_too(tmp_path: Path) -> None:
    requests = tiny.requests(tmp_path / "task.parquet")
    assert score_requests(fake(), requests, max_length=22).footer["truncated"] > 0
    with pytest.raises(ScoringError, match=r"exceed the window of 22.*truncation"):
        score_requests(fake(), requests, max_length=22, truncation="refuse")
    with pytest.raises(ScoringError, match="max_length: found 1000000"):
        score_requests(fake(), requests, max_length=10**6)


def test_documents_have_a_loss(tmp_path: Path) -> None:
    texts = ["the old child. " * 20, "every tall child"]
    pd.DataFrame({"document": ["a", "b"], "text": texts}).to_parquet(tmp_path / "documents.parquet")
    losses = score_documents(fake(), tmp_path / "documents.parquet", max_length=64)
    assert list(losses.rows.to_pandas().columns) == list(LOSSES.columns)
    assert losses.rows["tokens"].to_pylist() == [len(text) for text in texts]
    assert losses.rows["windows"].to_pylist() == [5, 1]
    assert 0.4 < losses.footer["loss"] < 0.8
    requests = tiny.requests(tmp_path / "task.parquet", [("0", 0, "", texts[0], True)])
    [row] = score_rolling(fake(), requests, max_length=64).rows.to_pylist()
    assert row["loglikelihood"] == losses.rows["loglikelihood"][0].as_py()
    assert DOCUMENTS.columns.keys() == {"document", "text"}


def test_it_says_that_it_is_fake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ebbtide.logs import log

    monkeypatch.setattr(log, "propagate", True)
    footer = score_requests(fake(directory=tmp_path), tiny.requests(tmp_path / "task.parquet")).footer
    assert {footer[name] for name in ("source", "implementation", "method", "kernel")} == {"fake"}
    assert footer["device"] == "none"
    assert f"fake: the log-likelihoods of {tmp_path} are made up" in caplog.text


def test_parameters_are_those_of_the_configuration(tmp_path: Path) -> None:
    scorer = fake(directory=tiny.hollow_checkpoint(tmp_path / "hollow"))
    real = load_scorer(tiny.checkpoint(tmp_path / "real"))
    counts = [name for name in real.record() if name.startswith("parameters")]
    assert {name: scorer.record()[name] for name in counts} == {name: real.record()[name] for name in counts}
    assert {fake().record()[name] for name in counts} == {0}


# Made-up texts.


def test_texts_are_made_up_of_words_and_never_change() -> None:
    scorer, decoding = fake(), Decoding(max_tokens=30, samples=3, temperature=1.0, stop=("child",))
    prompts, eos = scorer.tokenizer.ids(["The sun", "The moon"]), frozenset({256})
    samples = scorer.generate(prompts, decoding, keys=[b"a" * 16, b"b" * 16], eos=eos)
    assert [samples.texts[0], samples.texts[3]] == [" house house a", " tall"]
    assert set(samples.ended.tolist()) == {"stop", "eos", "length"}
    assert len(set(samples.texts)) > 3
    for row, sample in enumerate(samples):
        text = scorer.tokenizer.backend.decode(list(sample.tokens))
        assert text.startswith(sample.text)
        assert (sample.tokens[-1] == 256) == (sample.ended == "eos")
        assert "child" not in sample.text
        assert (sample.ended == "stop") == ("child" in text)
        scores = scorer.score(
            Requests.of([Encoded((*prompts[row // 3], *sample.tokens), len(prompts[row // 3]), False)])
        )
        assert scores.loglikelihood.tolist() == list(sample.loglikelihood)
    alone = scorer.generate(prompts[1:], decoding, keys=[b"b" * 16], eos=eos, numbers=[2])
    assert alone[0] == samples[5]
    greedy = [
        scorer.generate(prompts[:1], Decoding(20), keys=[key], eos=eos)[0] for key in (b"a" * 16, b"b" * 16)
    ]
    assert greedy[0] == greedy[1]


# The protocol.


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_back_end_is_a_scorer(backend: str, tmp_path: Path) -> None:
    scorer = load_scorer(tiny.checkpoint(tmp_path), backend=backend)
    requests = tiny.requests(tmp_path / "task.parquet")
    names = [name for name in vars(Scorer) if not name.startswith("_")]
    assert {
        "score",
        "generate",
        "record",
        "tokenizer",
        "window",
        "window_key",
        "vocabulary",
        "dtype",
        "device",
    } == set(names)
    assert all(hasattr(scorer, name) for name in names)
    assert isinstance(scorer, FakeScorer) == (backend == "fake")
    footer = score_requests(scorer, requests).footer
    assert footer["implementation"] == {"auto": "ebbtide"}.get(backend, backend)
    assert {"parameters_total", "method", "kernel", "versions", "dtype", "device"} <= footer.keys()


def test_transformers_gives_the_numbers_of_the_decoder(tmp_path: Path) -> None:
    requests = tiny.requests(tmp_path / "task.parquet")
    directory = tiny.checkpoint(tmp_path / "checkpoint")
    ours, theirs = (
        score_requests(load_scorer(directory, backend=b), requests).rows["loglikelihood"].to_pylist()
        for b in ("auto", "transformers")
    )
    assert theirs == pytest.approx(ours, abs=1e-5)


def test_an_unknown_back_end_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backend: found 'fakes', allowed: auto, transformers, fake\."):
        load_scorer(tmp_path, backend="fakes")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_command_line_names_the_back_end(backend: str, tmp_path: Path) -> None:
    from ebbtide import cli

    directory = tiny.checkpoint(tmp_path / "checkpoint")
    requests, to = tiny.requests(tmp_path / "task.parquet"), tmp_path / "cell.parquet"
    call = ["--model", str(directory), "--requests", str(requests), "--to", str(to), "--backend", backend]
    assert cli.main(["score", *call]) == 0
    footer = read_footer(to, CELL)
    assert footer["implementation"] == {"auto": "ebbtide"}.get(backend, backend)
    assert footer["identity"].get("backend", "auto") == backend
