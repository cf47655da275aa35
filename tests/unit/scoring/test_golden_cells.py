"""Whole cells of the fake back end, whose arithmetic is exact: not a bit may change on any machine."""

import random
from pathlib import Path
from typing import Any

import pytest

import tiny
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.tables import content_sha256
from scoring_reference import score_rolling

# Settings → sha256 of the rows, and of the rows per token.
GOLDEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "harness": (
        {},
        "25b38ea79a948f45b95f96cc7fe83e04fc68c0b407691b557512fe63765cbe94",
        "82e4fceb6d4f2fef41d3f9ae410f6679f63e05f22313ea8fef57af653e59e34e",
    ),
    "joint, cut": (
        {"encoding": "joint", "max_length": 40},
        "e59d1e9ee481502f00b69f59f0a71852ceeda3c04e720d9926ba560cb48ed7d4",
        "f11b1be3e5accd9e18467db7b512f9d61654d5bcc5a9028355e3d5cf53f6ee87",
    ),
    "separate, always": (
        {"encoding": "separate", "bos": "always"},
        "b918c864bc71841d6ecda6d87de4c1cbb3a839db2bfa4113c71fa73795df779f",
        "aef4a6b592c74cb2bb42a06a4fe02ea13239f3d129aa87e055cb6ca80c0100bd",
    ),
}
ROLLING = "2772d8641000cbbe0806fe6d8da4117a4a42b5f5039d8f32728ec5d7f6c43599"
COUNTED = ("requests", "requests_sha256", "truncated", "border_tokens", "equal_first_tokens")
FOOTER = [175, "115a536910c07d57695c054371c63bc1a7623328cd49470d4eb19a20d283d6ad", 53, 0, 60]


def rows(count: int) -> list[tuple[Any, ...]]:
    """Examples that share beginnings, with choices of one to many tokens."""
    draw = random.Random(0)
    words = ["the old", "every tall", "ab cd", "é🤯", " ", "child is", "no pattern who"]
    made = []
    for example in range(count):
        context = " ".join(draw.choices(words, k=draw.randrange(6)))
        endings = list(
            dict.fromkeys(" " + " ".join(draw.choices(words, k=draw.randrange(1, 4))) for _ in "abc")
        )
        made += [(str(example), choice, context, text, choice == 0) for choice, text in enumerate(endings)]
    return made


@pytest.mark.parametrize("name", GOLDEN)
def test_cells_of_the_fake_back_end_never_change(name: str, tmp_path: Path) -> None:
    requests = tiny.requests(tmp_path / "task.parquet", rows(60))
    settings, of_rows, of_tokens = GOLDEN[name]
    scored = score_requests(load_scorer("none", backend="fake"), requests, **settings, per_token=True)
    assert scored.tokens is not None
    assert (content_sha256(scored.rows), content_sha256(scored.tokens)) == (of_rows, of_tokens)
    if name == "joint, cut":
        assert [scored.footer[key] for key in COUNTED] == FOOTER


def test_a_rolling_cell_of_the_fake_back_end_never_changes(tmp_path: Path) -> None:
    texts = [(str(i), 0, "", "the old child. é🤯 " * (3 * i + 1), True) for i in range(6)]
    requests = tiny.requests(tmp_path / "task.parquet", texts)
    scored = score_rolling(load_scorer("none", backend="fake"), requests, max_length=64)
    assert content_sha256(scored.rows) == ROLLING
