"""Exact match without generation: the same verdict as generating greedily and comparing the text."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

import tiny
from ebbtide.checkpoints.load import load_model
from ebbtide.corpus.words import NUMBERS
from ebbtide.errors import ScoringError
from ebbtide.metrics.of_cell import measure
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.encoded_file import read_encoded, write_encoded
from ebbtide.scoring.encoded_task import encode_task
from ebbtide.scoring.engine import load_scorer, score_requests, score_task
from ebbtide.scoring.stops import stops_of
from ebbtide.scoring.tokenizer import Tokenizer, load_tokenizer
from ebbtide.tables import REQUESTS, read_parquet, write_parquet
from ebbtide.tasks.kinds import KINDS
from ebbtide.tasks.render import BadRow

SUMS = 2000
RULES: dict[str, Any] = {"encoding": "harness", "bos": "tokenizer", "truncation": "left"}


def frozen(rows: list[dict[str, Any]], path: Path, stop: str) -> Path:
    """Requests of kind sequence with a stop, as freezing makes them."""
    make = KINDS["sequence"].maker({"prompt": "prompt", "completion": "completion", "stop": stop}, "")
    columns: dict[str, list[Any]] = {}
    for number, row in enumerate(rows):
        for choice, request in enumerate(make(row).requests):
            values = {"example": str(number), "choice": choice, "context": request.context}
            values |= {"continuation": request.continuation, "gold": request.gold}
            for name, value in {**values, "role": request.role, "of": request.of}.items():
                columns.setdefault(name, []).append(value)
    write_parquet(pd.DataFrame(columns), path, REQUESTS, {"identity": "sums"})
    return path


def exact(scorer: Any, requests: Path) -> list[bool]:
    table = read_parquet(requests, REQUESTS)
    rows = score_requests(scorer, requests).rows
    definition = {"kind": "sequence", "fields": {"stop": "."}, "metrics": ["greedy_exact_match"]}
    one = [pa.compute.equal(table["example"], str(i)) for i in range(len(set(table["example"].to_pylist())))]
    return [measure(rows.filter(m), table.filter(m), definition)["value"][0] == 1 for m in one]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model"), "llama")


def sums() -> list[str]:
    words = itertools.islice(itertools.product(NUMBERS[:10], repeat=4), 0, 10_000, 10_000 // SUMS)
    return [f"let {a} mean {b} . {c} plus {d} is" for a, b, c, d in words]


def generated(checkpoint: Path, prompts: list[str], tokens: int) -> list[list[str]]:
    """What the model writes greedily, by transformers, in words."""
    tokenizer, model = load_tokenizer(checkpoint), load_model(checkpoint, "float64")
    ids = torch.tensor([[*tokenizer.beginning, *prompt] for prompt in tokenizer.ids(prompts)])
    options = {"attention_mask": torch.ones_like(ids), "eos_token_id": None, "pad_token_id": 0}
    out = model.generate(ids, max_new_tokens=tokens, do_sample=False, **options)
    return [[tokenizer.backend.id_to_token(i) for i in row] for row in out[:, ids.shape[1] :].tolist()]


def before(words: list[str], stops: set[str]) -> str | None:
    """The text before the first of `stops`; None if there is none."""
    place = next((i for i, word in enumerate(words) if word in stops), None)
    return None if place is None else "".join(f" {word}" for word in words[:place])


def test_exact_match_of_2000_sums_is_that_of_generating(checkpoint: Path, tmp_path: Path) -> None:
    prompts = sums()
    words = generated(checkpoint, prompts, tokens=4)
    counts = pd.Series([word for row in words for word in row[1:]]).value_counts()
    all_words = load_tokenizer(checkpoint).backend.get_vocab()
    stop = next(word for word in counts.index if sum(w.startswith(word) for w in all_words) == 1)
    end = load_tokenizer(checkpoint).backend.id_to_token(0)  # of a text
    cut = [before(row, {stop, end}) for row in words]
    # Of every second sum, what the model writes before it stops; else the answer to another sum.
    asked = [cut[i] if i % 2 else cut[i - 1] for i in range(SUMS)]
    asked = [text or f" {row[0]}" for text, row in zip(asked, words, strict=True)]
    asked = [" no" if text == f" {stop}" else text for text in asked]
    rows = [{"prompt": prompt, "completion": text} for prompt, text in zip(prompts, asked, strict=True)]

    requests = frozen(rows, tmp_path / "sums.parquet", f" {stop}")
    scored = score_requests(load_scorer(checkpoint, "float64"), requests).rows.to_pandas()
    found = scored.groupby("example", sort=False)["greedy"].all()

    expected = [text == mine for text, mine in zip(asked, cut, strict=True)]
    assert found.tolist() == expected
    assert len(expected) == SUMS and 0.1 < np.mean(expected) < 0.9


def test_the_metric_needs_answer_and_stop(checkpoint: Path, tmp_path: Path) -> None:
    scorer = load_scorer(checkpoint, "float64")
    [[first, second]] = generated(checkpoint, ["the old child is"], tokens=2)
    rows = [
        {"prompt": "the old child is", "completion": f" {first}"},
        {"prompt": "the old child is", "completion": " young" if first != "young" else " old"},
    ]
    assert exact(scorer, frozen(rows, tmp_path / "a.parquet", f" {second}")) == [True, False]
    definition = {"kind": "sequence", "metrics": ["greedy_exact_match"]}
    plain = tiny.requests(tmp_path / "plain.parquet", [("0", 0, "the old child", " is", True)])
    with pytest.raises(Exception, match="greedy_exact_match needs stop_greedy"):
        measure(score_requests(scorer, plain).rows, read_parquet(plain, REQUESTS), definition)


def test_an_encoded_task_keeps_its_stops(checkpoint: Path, tmp_path: Path) -> None:
    scorer = load_scorer(checkpoint, "float64")
    requests = frozen([{"prompt": "the old child", "completion": " is"}], tmp_path / "a.parquet", " .")
    table = read_parquet(requests, REQUESTS)
    task = encode_task(scorer, table, requests, **RULES, window=scorer.window)
    write_encoded(task, tmp_path / "a.safetensors", {"a": 1})
    again = read_encoded(tmp_path / "a.safetensors", {"a": 1})
    found = [score_task(scorer, t, table, requests).rows for t in (task, again)]
    assert found[0].equals(found[1])
    assert again.stops.tokens.tolist() == task.stops.tokens.tolist() != []


def newlines() -> Tokenizer:
    """Byte-level BPE with tokens for one and two line breaks, and for a line break after a space."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=260, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(["\n\n"] * 9 + [" \n"] * 5, trainer)
    backend.add_special_tokens(["<end>"])
    return Tokenizer(backend, bos=None, eos=backend.token_to_id("<end>"), beginning=())


def test_every_token_that_begins_with_the_stop_or_ends_the_text_stops() -> None:
    tokenizer = newlines()
    table = pa.table({"role": ["choice", "stop"], "continuation": ["143", "\n"]})
    word = tokenizer.ids(["\n"])[0][0]
    requests = Requests.of([Encoded((5, 6), 1, False), Encoded((5, 6, word), 2, False)])
    stops = stops_of(table, requests, tokenizer, 10**6, "task")
    assert stops is not None
    texts = {tokenizer.backend.decode([i], skip_special_tokens=False) for i in stops.tokens.tolist()}
    assert texts == {"\n", "\n\n", "<end>"}
    assert stops.rows.tolist() == [False, True]


def test_one_task_has_one_stop() -> None:
    table = pa.table({"role": ["stop", "stop"], "continuation": ["\n", "."]})
    requests = Requests.of([Encoded((5, 6), 1, False)] * 2)
    with pytest.raises(ScoringError, match=r"task: found the stops '\\n' and '\.', allowed: one\."):
        stops_of(table, requests, newlines(), 300, "task")


def test_an_answer_cannot_contain_its_stop() -> None:
    make = KINDS["sequence"].maker({"prompt": "prompt", "completion": "completion", "stop": "\n"}, " ")
    assert [r.context for r in make({"prompt": "1 + 1 =", "completion": "2"}).requests][1] == "1 + 1 = 2"
    with pytest.raises(BadRow, match=r"the completion ' 2\\n' contains the stop '\\n'"):
        make({"prompt": "1 + 1 =", "completion": "2\n"})
