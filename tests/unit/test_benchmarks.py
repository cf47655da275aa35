"""Parts of the benchmarks that decide what is compared."""

from pathlib import Path

import pytest

import tiny
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.engine import load_scorer
from ebbtide.scoring.scorer import Counters
from gpu import tiny as tiny_scale
from gpu import without_sharing
from host import StubScorer, _cell
from made_up import figures, write_tokenizer
from measure import encode_ours
from scoring_reference import trie_size


def test_the_task_without_sharing_has_the_same_scores_and_every_token(tmp_path: Path) -> None:
    stems = ((1, 2, 3), (1, 2, 4, 5), (9,))
    requests = Requests.of(
        [Encoded((*stem, 6 + i, 7, 8), len(stem) + i % 2, False) for stem in stems for i in range(5)]
    )
    scorer = load_scorer(tiny.checkpoint(tmp_path))
    counters = Counters()
    found = scorer.score(without_sharing(requests), counters=counters)
    assert counters.forwarded == sum(len(request.fed) for request in requests) > trie_size(requests)
    for a, b in zip(found, scorer.score(requests), strict=True):
        assert a.loglikelihoods == pytest.approx(b.loglikelihoods, abs=1e-5)


def test_the_host_benchmark_counts_every_stage(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt_neox"}')
    scorer = StubScorer(tmp_path)
    seconds = _cell(scorer, tmp_path, 20)
    encoded = encode_ours(scorer, figures(10))
    assert seconds["unique tokens"] == len(encoded.trie)
    assert {"encode", "trie", "read", "chunks", "collect", "write", "masks", "warm", "cold"} < seconds.keys()


def test_the_tasks_of_the_gpu_benchmark_can_be_encoded(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    scorer = StubScorer(tmp_path)
    for requests in tiny_scale().tasks.values():
        encoded = encode_ours(scorer, requests)
        assert isinstance(encoded, Requests)
        assert len(encoded) == len(requests)
