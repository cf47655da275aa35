"""Parts of the benchmarks that decide what is compared."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import averaging
import tiny
from ebbtide.checkpoints.load import load_model
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.engine import load_scorer
from ebbtide.scoring.generation.decoding import Decoding
from ebbtide.scoring.scorer import Counters
from generation import compared, peer
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


def test_both_sides_of_the_generation_benchmark_generate_the_same_number_of_tokens(tmp_path: Path) -> None:
    directory = tiny.checkpoint(tmp_path)
    decoding = Decoding(max_tokens=7, samples=5, temperature=1.0, top_p=0.9)
    prompts = [[1], [2, 3, 4], [5, 6], [7, 8, 9]]
    model = load_model(directory, "float32")
    model.generation_config.eos_token_id = None
    assert peer(model, prompts, decoding, 3) == 4 * 5 * 7
    found = load_scorer(directory).generate(prompts, decoding, keys=[bytes(16)] * 4, eos=frozenset())
    assert len(found.tokens) == 4 * 5 * 7
    options = SimpleNamespace(prompts=4, samples=5, tokens=7)
    counters = Counters(forwarded=20, unique=10)
    seconds = {"Ebbtide": [1.0, 2.0, 1.0], "25": [9.0, 9.0, 9.0], "50": [3.0, 4.0, 5.0]}
    table = compared(seconds, options, counters).set_index("side")  # type: ignore[arg-type]
    assert table["ratio"].tolist() == [1.0, 9.0, 3.0]
    assert table["met"].tolist() == ["", "", ""]  # a smaller task
    whole = compared(seconds, SimpleNamespace(prompts=100, samples=5, tokens=7), counters)  # type: ignore[arg-type]
    assert whole["met"].tolist() == ["", "", "stretch"]
    assert table["forwarded_per_unique"].iloc[0] == 2.0


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


def test_step_noise_is_that_around_the_trend_and_halved_noise_is_a_ratio_of_one_half() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (f"run{run}", task, metric, block, what, 3 * block + shift + scale * rng.standard_normal())
        for run in range(6)
        for task in ("a", "b")
        for metric in averaging.METRICS
        for what in ("newest", "scores", *averaging.WEIGHTS)
        for shift, scale in [(0, 2) if what == "newest" else (1, 1)]
        for block in range(200)
    ]
    found = averaging.summary(pd.DataFrame(rows, columns=averaging.COLUMNS))
    assert found["sd_newest"].to_numpy() == pytest.approx(2, rel=0.1)
    assert found["sd"].to_numpy() == pytest.approx(1, rel=0.1)
    assert found["ratio"].to_numpy() == pytest.approx(0.5, rel=0.1)
    assert (found["low"] < found["ratio"]).all()
    assert (found["ratio"] < found["high"]).all()
    assert found["level"].to_numpy() == pytest.approx(1, abs=0.2)


@pytest.mark.long
def test_the_stages_of_the_suite_are_run_as_their_rules_do(tmp_path: Path) -> None:
    """The benchmark passes inputs and parameters to scripts itself, so a new one must be added there too."""
    size = ("--models", "1", "--checkpoints", "7", "--tasks", "1", "--examples", "60", "--whole")
    suite = Path(__file__).parents[2] / "benchmarks/suite.py"
    options = {"cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, suite, *size], check=False, **options)
    assert done.returncode == 0, done.stderr
    stages = {cells[1] for row in done.stdout.splitlines() if len(cells := row.split("\t")) > 1}
    assert {"alarms", "summary", "check_alarms", "all"} <= stages
