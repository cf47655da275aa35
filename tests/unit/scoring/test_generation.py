"""Samples of our decoder: those of transformers if greedy, and independent of batches, order, restarts."""

from collections.abc import Callable
from pathlib import Path

import pytest

import architectures
from ebbtide.checkpoints.load import load_model
from ebbtide.scoring.generation.decoding import Decoding
from generating import PROMPTS, generated, greedy_tokens
from scoring_reference import native

GREEDY = Decoding(max_tokens=12)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return architectures.saver(tmp_path_factory.mktemp("generation"))


@pytest.mark.parametrize("name", list(architectures.NATIVE))
def test_greedy_is_what_transformers_generates(name: str, saved: Callable[[str], Path]) -> None:
    """With prompts in parts, in batches that sequences enter and leave, in segments and copied to rows."""
    model = load_model(saved(name), "float64").double()
    body, _ = native(saved(name))
    expected = [greedy_tokens(model, prompt, GREEDY.max_tokens) for prompt in PROMPTS]
    eos = expected[2][4]
    expected = [tokens[: tokens.index(eos) + 1] if eos in tokens else tokens for tokens in expected]
    for batch, shared in ((64, True), (3, False), (7, True)):
        found = generated(body, PROMPTS, GREEDY, batch=batch, chunk=10, shared=shared, eos=frozenset({eos}))
        assert [list(sample.tokens) for sample in found] == expected
        assert [sample.ended == "eos" for sample in found] == [tokens[-1] == eos for tokens in expected]
