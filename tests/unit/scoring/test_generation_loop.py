"""Where samples end, prompts in tokens, memory that runs out, progress, and scorers of checkpoints."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import architectures
import tiny
from ebbtide.corpus.words import VOCABULARY as WORDS
from ebbtide.errors import CheckpointError, ScoringError
from ebbtide.scoring.body import NativeBody
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.engine import load_scorer
from ebbtide.scoring.fake import byte_tokenizer
from ebbtide.scoring.generation.decoding import Decoding
from ebbtide.scoring.generation.ends import Ends, end_tokens
from ebbtide.scoring.generation.loop import _filled
from ebbtide.scoring.generation.native import NativeRows
from ebbtide.scoring.generation.prompts import encode_prompts, prompt_trie
from ebbtide.scoring.scorer import BACKENDS, Counters
from ebbtide.scoring.tokenizer import load_tokenizer
from generating import LONG, PROMPTS, generated, keys_of, of_decoder
from scoring_reference import native

SAMPLED = Decoding(max_tokens=9, samples=5, temperature=1.0)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> NativeBody:
    return native(architectures.saver(tmp_path_factory.mktemp("generation"))("llama"))[0]


# Ends.


def test_a_stop_string_ends_a_sample_with_the_token_that_completes_it(body: NativeBody) -> None:
    """Stop strings span tokens: `><31` is in no single one. What precedes the end is as without it."""
    whole = generated(of_decoder(body), PROMPTS, SAMPLED)
    decoding = Decoding(max_tokens=9, samples=5, temperature=1.0, stop=("><31", "14>"))
    found = generated(of_decoder(body), PROMPTS, decoding, eos=frozenset({12}), batch=7)
    for sample, full in zip(found, whole, strict=True):
        count = len(sample.tokens)
        assert sample.tokens == full.tokens[:count]
        assert sample.loglikelihood == pytest.approx(full.loglikelihood[:count], abs=1e-10)
        texts = ["".join(f"<{token}>" for token in full.tokens[:n]) for n in range(10)]
        stops = [n for n in range(1, 10) if "><31" in texts[n] or "14>" in texts[n]]
        ends = [n for n in range(1, 10) if full.tokens[n - 1] == 12]
        first = min([*stops, *ends, 9])
        assert count == first
        reason = "eos" if first in ends else "stop" if first in stops else "length"
        assert sample.ended == reason
        at = [place for stop in ("><31", "14>") if (place := texts[count].find(stop)) >= 0]
        expected = {
            "eos": texts[count - 1],
            "length": texts[count],
            "stop": texts[count][: min(at, default=0)],
        }
        assert sample.text == expected[reason]
    assert {*found.ended.tolist()} == {"stop", "eos", "length"}


def test_the_end_token_is_scored_and_not_in_the_text() -> None:
    tokenizer = byte_tokenizer()
    ends = Ends(tokenizer, Decoding(max_tokens=4), frozenset({tokenizer.eos, 5}))
    [text] = tokenizer.ids(["ab"])
    assert ends.reasons([[*text, tokenizer.eos], [*text, 5], text, [*text, *text]]) == [
        *("eos", "eos", None, "length")
    ]
    sample = ends.sample([*text, tokenizer.eos], [-1.0, -2.0, -3.0], "eos")
    assert (sample.text, len(sample.tokens), len(sample.loglikelihood)) == ("ab", 3, 3)


def test_a_character_of_several_tokens_is_read_when_it_is_whole() -> None:
    tokenizer = byte_tokenizer()
    [text] = tokenizer.ids(["a…b"])  # five tokens
    ends = Ends(tokenizer, Decoding(max_tokens=9, stop=("…",)), frozenset())
    assert ends.reasons([text[:n] for n in range(1, 6)]) == [None, None, None, "stop", "stop"]
    assert ends.sample(text[:4], [0.0] * 4, "stop").text == "a"


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [3, 4]}, {"eos_token_id": 2}, {0, 3, 4}),
        ({"eos_token_id": 3}, {}, {0, 3}),
        ({}, {"eos_token_id": 2}, {0, 2}),
        (None, {"eos_token_id": [2, 5]}, {0, 2, 5}),
        (None, {}, {0}),
    ],
)
def test_end_tokens_are_those_of_the_files_and_the_tokenizer(
    generation: Any, config: Any, expected: set[int], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert end_tokens(tmp_path, SimpleNamespace(eos=0)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["</s>", -1, [1, "</s>"], 1.5, True])
def test_a_bad_end_token_is_a_sentence(value: object, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(
        CheckpointError, match=r"config\.json: eos_token_id: found .*, allowed: a token id or"
    ):
        end_tokens(tmp_path, SimpleNamespace(eos=0))  # type: ignore[arg-type]


# Prompts.


def encoded(texts: Sequence[str], window: int = 10, max_tokens: int = 4, **rules: Any) -> Any:
    names = [f"task.parquet: example {i}" for i in range(len(texts))]
    rules = {"bos": "tokenizer", "truncation": "left", "vocabulary": 257, **rules}
    return encode_prompts(byte_tokenizer(), texts, names, window=window, max_tokens=max_tokens, **rules)


def test_prompts_are_encoded_like_contexts_and_leave_space_for_the_sample() -> None:
    ids, facts = encoded(["abcdef ", "abc", ""])
    [long, short] = byte_tokenizer().ids(["abcdef ", "abc"])
    assert ids == [
        long[1:],
        short,
        [256],
    ]  # six tokens, then four; no token stands for the empty one but the first
    assert facts["truncated"].tolist() == [True, False, False]
    assert facts["context_tokens"].tolist() == [6, 3, 1]
    assert encoded(["abc"], bos="always")[0] == [[256, *short]]


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        (["abcdefg"], {"truncation": "refuse"}, r"example 0: the prompt has 7 tokens, which with decoding"
         r"\.max_tokens 4 exceed the window of 10; shorten .* or allow `truncation: left`\."),
        (["a"], {"max_tokens": 10}, r"decoding\.max_tokens: found 10, but the window is 10 .* at most 9\."),
        (["a"], {"bos": "no"}, r"bos: found 'no', allowed: tokenizer, always, never\."),
        (["a", "b"], {"vocabulary": 9}, r"example 0: token \d+ is outside the model's vocabulary of 9;"),
    ],
)  # fmt: skip
def test_prompts_that_do_not_fit_are_a_sentence(
    texts: list[str], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ScoringError, match=message):
        encoded(texts, **settings)


def test_a_prompt_that_the_tokenizer_cannot_encode_is_named(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny.checkpoint(tmp_path))
    rules: dict[str, Any] = {"bos": "tokenizer", "truncation": "left", "window": 48, "vocabulary": len(WORDS)}
    with pytest.raises(ScoringError, match=r"example 1: 'zebra' cannot be encoded \(.*\)\.$"):
        encode_prompts(tokenizer, ["the old", "zebra"], ["example 0", "example 1"], max_tokens=3, **rules)


def test_the_trie_of_prompts_has_each_at_the_node_of_its_last_token() -> None:
    trie = prompt_trie(PROMPTS)
    assert len(trie) == len({tuple(prompt[: n + 1]) for prompt in PROMPTS for n in range(len(prompt))})
    assert sorted(trie.request.tolist()) == list(range(len(PROMPTS)))
    for node, prompt in zip(trie.node.tolist(), trie.request.tolist(), strict=True):
        assert trie.depth[node] == len(PROMPTS[prompt]) - 1
        assert trie.token[node] == PROMPTS[prompt][-1]


# The batch.


def test_places_of_finished_rows_are_taken_by_the_last() -> None:
    assert _filled([True, False, True, False, True, True]) == [0, 5, 2, 4]
    assert _filled([True, True]) == [0, 1]
    assert _filled([False, False]) == []


def test_what_prompts_share_is_forwarded_and_kept_once(body: NativeBody) -> None:
    counters = Counters()
    found = generated(of_decoder(body), PROMPTS, SAMPLED, batch=3, chunk=9, counters=counters)
    assert counters.forwarded == counters.unique == len(prompt_trie(PROMPTS)) + len(found.tokens) - len(found)
    rows = NativeRows(body, 8, shared=True)
    states = {one.prompt: one.state for _, some in rows.prefill(PROMPTS, 512) for one in some}
    shared = states[5][0][0]
    assert len(shared) == len(LONG)
    assert all(states[prompt][0][0] is shared for prompt in (6, 7, 8, 9))


def test_progress_is_in_tokens_of_the_most(body: NativeBody) -> None:
    seen: list[tuple[int, int]] = []
    counters = Counters(report=lambda done, most: seen.append((done, most)))
    generated(of_decoder(body), PROMPTS, SAMPLED, batch=7, chunk=9, eos=frozenset({12}), counters=counters)
    most = len(prompt_trie(PROMPTS)) + len(PROMPTS) * SAMPLED.samples * SAMPLED.max_tokens
    assert {total for _, total in seen} == {most}
    done = [tokens for tokens, _ in seen]
    assert done == sorted(done)
    assert done[-1] == most
    assert counters.unique < most


class Scarce(NativeRows):
    """Rows of a machine with memory for few of them, and few tokens of prompts at a time."""

    rows, tokens = 3, 4
    failures: list[str]

    def prefill(self, prompts: Any, chunk: int) -> Iterator[Any]:
        if chunk > self.tokens:
            self.failures.append("prompts")
            raise torch.OutOfMemoryError("no memory")
        yield from super().prefill(prompts, chunk)

    def forward(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        found = list(super().forward(tokens))
        if len(tokens) > self.rows:
            self.failures.append("rows")
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        yield from found


def test_out_of_memory_halves_the_batch_and_keeps_what_is_finished(body: NativeBody) -> None:
    expected = generated(of_decoder(body), PROMPTS, SAMPLED)
    Scarce.failures = []
    found = generated(lambda n: Scarce(body, n, shared=True), PROMPTS, SAMPLED, batch=20, chunk=10)
    assert found.tokens.tolist() == expected.tokens.tolist()
    assert found.loglikelihood == pytest.approx(expected.loglikelihood, abs=1e-10)
    assert Scarce.failures == ["prompts", "prompts", "rows"]


def test_finished_samples_are_not_generated_again(body: NativeBody) -> None:
    class Failing(NativeRows):
        passes_left = 30
        entered: ClassVar[list[int]] = []

        def enter(self, state: Any, count: int) -> None:
            self.entered.append(count)
            super().enter(state, count)

        def forward(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
            Failing.passes_left -= 1
            if not Failing.passes_left:
                raise MemoryError
            yield from super().forward(tokens)

    counters = Counters()
    found = generated(lambda n: Failing(body, n, shared=True), PROMPTS, SAMPLED, batch=10, counters=counters)
    assert found.tokens.tolist() == generated(of_decoder(body), PROMPTS, SAMPLED).tokens.tolist()
    assert sum(Failing.entered) == 50 + 10  # the ten of the batch that failed


def test_a_single_row_that_does_not_fit_is_a_sentence(
    body: NativeBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scarce, "rows", 0)
    monkeypatch.setattr(Scarce, "failures", [], raising=False)
    with pytest.raises(
        ScoringError, match="one sequence of up to 45 tokens does not fit in memory"
    ) as caught:
        generated(lambda n: Scarce(body, n, shared=True), PROMPTS, SAMPLED, batch=8, chunk=8)
    assert not caught.value.recurs


def test_other_errors_are_not_taken_for_memory(body: NativeBody) -> None:
    class Broken(NativeRows):
        def forward(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        generated(lambda n: Broken(body, n, shared=True), PROMPTS, SAMPLED)


def test_logits_that_are_not_finite_are_a_sentence(body: NativeBody) -> None:
    class Undefined(NativeRows):
        def forward(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
            for block in super().forward(tokens):
                block[0, 3] = np.nan
                yield block

    with pytest.raises(
        ScoringError, match=r"prompt \d+: the log-likelihood of new token 1 is nan; generate in"
    ):
        generated(lambda n: Undefined(body, n, shared=True), PROMPTS, SAMPLED)


def test_a_prompt_without_tokens_is_a_sentence(body: NativeBody) -> None:
    with pytest.raises(ScoringError, match=r"prompt 1 has no tokens\."):
        generated(of_decoder(body), [[1], []], SAMPLED)


# Scorers of checkpoints.


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_scorer_generates_texts(backend: str, tmp_path: Path) -> None:
    directory = tiny.checkpoint(tmp_path)
    scorer = load_scorer(directory, backend=backend)
    eos = end_tokens(directory, scorer.tokenizer)
    rules: dict[str, Any] = {"bos": "tokenizer", "truncation": "left", "max_tokens": 6}
    rules |= {"window": scorer.window, "vocabulary": scorer.vocabulary}
    prompts, _ = encode_prompts(scorer.tokenizer, ["the old child", "", "every tall"], list("abc"), **rules)
    counters = Counters()
    decoding = Decoding(max_tokens=6, samples=4, temperature=1.0, top_p=0.9, stop=(" .",))
    found = scorer.generate(prompts, decoding, keys=keys_of(prompts), eos=eos, counters=counters)
    assert len(found) == 12
    requests = Requests.of([
        Encoded((*prompts[row // 4], *sample.tokens), len(prompts[row // 4]), truncated=False)
        for row, sample in enumerate(found)
    ])  # fmt: skip
    assert found.loglikelihood == pytest.approx(scorer.score(requests).loglikelihood, abs=1e-4)
    some = scorer.generate(prompts, decoding, keys=keys_of(prompts), eos=eos, numbers=[3, 1])
    assert [sample.text for sample in some] == [found[4 * i + n].text for i in range(3) for n in (3, 1)]
    assert len(scorer.generate([], decoding, keys=[], eos=eos)) == 0
    if backend != "fake":
        assert counters.forwarded >= counters.unique > 0
        again = load_scorer(directory, backend="auto")
        assert again.generate(prompts, decoding, keys=keys_of(prompts), eos=eos).texts == found.texts
