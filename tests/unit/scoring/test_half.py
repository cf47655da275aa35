"""Our own decoder in 16 bits: for each family, no further from float64 than transformers in 16 bits."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import architectures
from ebbtide.checkpoints.load import load_model
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.scorer import Counters
from ebbtide.scoring.walk import score_trie
from scoring_reference import native, plain

SHORT = ("bloom", "gpt2", "opt")  # without rotary positions


def requests_of(name: str) -> Requests:
    """Short ones, and one with rotary positions that 8 bits of precision do not hold."""
    lengths = [24] * 5 if name in SHORT else [24, 24, 24, 24, 400]
    return Requests.of(
        [
            Encoded(tuple((7 * i + j * j + 3) % 40 for j in range(length)), max(1, length - 60), False)
            for i, length in enumerate(lengths)
        ]
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return architectures.saver(tmp_path_factory.mktemp("half"))


def largest_error(found: list[Any], exact: list[Any]) -> float:
    return max(abs(a - b) for a, b in zip(chain(*found), chain(*exact), strict=True))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", list(architectures.NATIVE))
def test_sixteen_bits_are_as_near_as_transformers(
    name: str, dtype: str, saved: Callable[[str], Path]
) -> None:
    """Both have the same rounded weights, so that only the rounding on the way counts."""
    model, requests = load_model(saved(name), dtype), requests_of(name)
    theirs = [plain(model, request) for request in requests]
    exact = [plain(model.double(), request) for request in requests]
    body, _ = native(saved(name), dtype)
    ours = [score.loglikelihoods for score in score_trie(body, requests, Counters(), chunk=512)]
    assert largest_error(ours, exact) <= 2 * largest_error(theirs, exact) + 1e-3
