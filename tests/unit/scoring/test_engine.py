"""What the engine offers beside log-likelihoods: single tokens, a second opinion, documents, large models."""

import gzip
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import tiny
from ebbtide.checkpoints.load import load_model
from ebbtide.cli import main
from ebbtide.corpus.words import VOCABULARY
from ebbtide.errors import CheckpointError, ConfigError, ScoringError
from ebbtide.logs import log
from ebbtide.scoring import memory
from ebbtide.scoring.documents import LOSSES, score_documents
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.engine import load_scorer, score_requests
from ebbtide.scoring.rescore import largest_difference
from ebbtide.scoring.scorer import Scorer
from ebbtide.tables import CELL, TOKENS, read_footer, read_frame
from scoring_reference import plain

SETTINGS = {"encoding": "harness", "bos": "tokenizer", "truncation": "left", "max_length": None}
FLOAT32 = {**SETTINGS, "dtype": "float32"}
TEXTS = ["the old child is young . " * 12, "every tall child", "no pattern"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def scorer(checkpoint: Path) -> Scorer:
    return load_scorer(checkpoint)


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    return tiny.requests(tmp_path / "task.parquet")


# Single tokens.


def test_each_token_has_its_log_likelihood_and_rank(scorer: Scorer, checkpoint: Path, requests: Path) -> None:
    scored = score_requests(scorer, requests, per_token=True)
    tokens, rows = scored.tokens.to_pandas(), scored.rows.to_pandas()
    assert len(tokens) == rows["tokens"].sum()
    sums = tokens.groupby(["example", "choice"], sort=False)["loglikelihood"].sum()
    assert sums.tolist() == pytest.approx(rows["loglikelihood"].tolist(), abs=1e-12)
    first = tokens[tokens["place"] == 0]["loglikelihood"]
    assert first.tolist() == rows["first_token_loglikelihood"].tolist()
    assert tokens["text"].tolist()[:2] == ["is", "young"]

    model = load_model(checkpoint, "float64")
    for (example, choice), part in tokens.groupby(["example", "choice"], sort=False):
        context = next(row[2] for row in tiny.ROWS if row[0] == example and row[1] == choice)
        ids = [*scorer.tokenizer.beginning, *scorer.tokenizer.ids([context])[0], *part["token"]]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        for row, place in zip(part.itertuples(), range(len(ids) - len(part), len(ids)), strict=True):
            assert row.rank == 1 + int((logits[place - 1] > logits[place - 1, ids[place]]).sum())


def test_padded_batches_know_ranks_too(scorer: Scorer, checkpoint: Path) -> None:
    from dataclasses import replace

    requests = Requests.of([Encoded((0, 3, 5, i), 2, False) for i in range(6)])
    padded = replace(scorer, body=None, model=load_model(checkpoint, "float32"))
    assert padded.method == "padded"
    found = [s.ranks for s in padded.score(requests, ranks=True)]
    assert found == [s.ranks for s in scorer.score(requests, ranks=True)]


def test_ranks_are_not_computed_unasked(scorer: Scorer) -> None:
    [score] = scorer.score(Requests.of([Encoded((0, 1, 2), 1, False)]))
    assert score.ranks is None


# A second opinion.


def test_the_second_opinion_agrees(scorer: Scorer, checkpoint: Path, requests: Path) -> None:
    rows = score_requests(scorer, requests).rows
    found = largest_difference(checkpoint, requests, rows, examples=2, dtype="float32", **SETTINGS)
    assert (found["examples"], found["requests"], found["beyond_rounding"]) == (2, 4, 0)
    assert 0 < found["largest_difference"] < 1e-4


def test_the_second_opinion_finds_a_wrong_row(scorer: Scorer, checkpoint: Path, requests: Path) -> None:
    import pyarrow as pa

    frame = score_requests(scorer, requests).rows.to_pandas()
    frame.loc[3, "loglikelihood"] += 0.25
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    found = largest_difference(checkpoint, requests, rows, examples=99, dtype="float32", **SETTINGS)
    assert (found["examples"], found["requests"], found["beyond_rounding"]) == (3, 6, 1)
    assert found["largest_difference"] == pytest.approx(0.25, abs=1e-4)
    assert found["worst"] == "example 1, choice 1"
    half = largest_difference(checkpoint, requests, rows, examples=99, dtype="bfloat16", **SETTINGS)
    assert half["beyond_rounding"] == 0  # 16 bits explain as much


# Documents.


def documents(path: Path, texts: list[str]) -> Path:
    pd.DataFrame({"document": [f"d{i}" for i in range(len(texts))], "text": texts}).to_parquet(path)
    return path


def test_a_document_is_scored_token_by_token(scorer: Scorer, checkpoint: Path, tmp_path: Path) -> None:
    losses = score_documents(scorer, documents(tmp_path / "documents.parquet", TEXTS))
    rows, footer = losses.rows.to_pandas(), losses.footer
    assert rows["tokens"].tolist() == [72, 3, 2]
    assert rows["windows"].tolist() == [2, 1, 1]  # of 48 tokens
    assert rows["words"].tolist() == [73, 3, 2]  # the harness counts the empty end
    model = load_model(checkpoint, "float64")
    [ids] = scorer.tokenizer.ids([TEXTS[0]])
    start = scorer.tokenizer.bos
    expected = sum(plain(model, Encoded((start, *ids[:48]), 1, False)))
    expected += sum(plain(model, Encoded(tuple(ids[23:]), 25, False)))  # reads back as far as it can
    assert rows["loglikelihood"][0] == pytest.approx(expected, abs=1e-3)

    total, tokens, size = rows["loglikelihood"].sum(), 77, sum(map(len, TEXTS))
    assert footer["loss"] == pytest.approx(-total / tokens)
    assert footer["bits_per_byte"] == pytest.approx(-total / size / math.log(2))
    assert footer["token_perplexity"] == pytest.approx(math.exp(-total / tokens))
    assert footer["forwarded_tokens"] == footer["unique_tokens"]


def test_longer_contexts_make_more_windows(scorer: Scorer, tmp_path: Path) -> None:
    path = documents(tmp_path / "documents.parquet", TEXTS)
    strided = score_documents(scorer, path, context=40)
    assert strided.rows["windows"].to_pylist() == [4, 1, 1]
    assert strided.rows["tokens"].to_pylist() == [72, 3, 2]
    short = score_documents(scorer, path, max_length=10)
    assert short.rows["windows"].to_pylist() == [8, 1, 1]


def test_json_lines_are_documents_too(scorer: Scorer, tmp_path: Path) -> None:
    table = score_documents(scorer, documents(tmp_path / "documents.parquet", TEXTS)).rows
    lines = tmp_path / "documents.jsonl"
    lines.write_text(
        "".join(json.dumps({"document": f"d{i}", "text": t}) + "\n" for i, t in enumerate(TEXTS))
    )
    assert score_documents(scorer, lines).rows.to_pylist() == table.to_pylist()
    packed = tmp_path / "documents.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + lines.read_bytes()))
    assert score_documents(scorer, packed).rows.to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "the"}\n{"txt": "old"}\n', "line 2: text: found None, expected Unicode text"),
        ('{"text": "the"}\n[]\n', r"line 2: found '\[\]', expected a JSON object"),
        ('{"text": 3}\n', "line 1: text: found 3, expected Unicode text"),
        ("the old child\n", "line 1 is not JSON"),
        ('{"text": "the", "document": "a"}\n{"text": "old", "document": "a"}\n', "names are not unique"),
        ('{"text": ""}\n', "contains no tokens"),
        ("", "contains no tokens"),
    ],
)
def test_bad_documents_are_a_sentence(content: str, message: str, scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_text(content)
    with pytest.raises(ScoringError, match=rf"documents\.jsonl.*{message}"):
        score_documents(scorer, path)


def test_text_that_json_allows_is_read(scorer: Scorer, tmp_path: Path) -> None:
    """A line separator inside a string is no end of a line; blank lines count as lines."""
    lines = tmp_path / "documents.jsonl"
    lines.write_text(
        '{"text": "the old\u2028child", "document": "a"}\n\n{"text": "every"}\n', encoding="utf-8"
    )
    try:
        losses = score_documents(scorer, lines)
    except ScoringError as error:  # the toy tokenizer has no token for a line separator
        assert "cannot be encoded" in str(error)
    else:
        assert losses.rows["document"].to_pylist() == ["a", "3"]
    lines.write_bytes(b'\xef\xbb\xbf{"text": "no pattern"}\n')  # a byte-order mark
    assert score_documents(scorer, lines).rows["tokens"].to_pylist() == [2]
    packed = tmp_path / "documents.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"text": "no pattern"}\n'))
    assert score_documents(scorer, packed).rows["tokens"].to_pylist() == [2]
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(ScoringError, match=r"documents\.jsonl\.gz cannot be read \("):
        score_documents(scorer, packed)
    lines.write_text('\n\n{"text": "\\ud800"}\n')
    with pytest.raises(ScoringError, match=r"line 3: text: found .*, expected Unicode text"):
        score_documents(scorer, lines)


# On the command line.


def test_the_command_line_writes_tokens_and_a_second_opinion(
    checkpoint: Path, requests: Path, tmp_path: Path, capsys
) -> None:
    cell, tokens = tmp_path / "cell.parquet", tmp_path / "tokens.parquet"
    arguments = ["score", "--model", str(checkpoint), "--requests", str(requests), "--to", str(cell)]
    assert main([*arguments, "--per-token", str(tokens), "--rescore-examples", "1", "--bos", "never"]) == 0
    assert "rescored 2 requests in float64: largest difference" in capsys.readouterr().err
    footer = read_footer(cell, CELL)
    assert footer["verified"]["largest_difference"] < 1e-4
    assert footer["identity"]["bos"] == "never"
    assert len(read_frame(tokens, TOKENS)) == read_frame(cell, CELL)["tokens"].sum()


def test_the_command_line_says_what_was_cut(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny.requests(tmp_path / "task.parquet", [("0", 0, "the old " * 30, "child", True)])
    config = json.loads((checkpoint / "config.json").read_text())
    bare = tmp_path / "bare"
    shutil.copytree(checkpoint, bare)
    del config["max_position_embeddings"]
    (bare / "config.json").write_text(json.dumps(config))
    arguments = ["score", "--requests", str(path), "--to", str(tmp_path / "cell.parquet"), "--model"]
    assert main([*arguments, str(checkpoint)]) == 0
    assert "1 of 1 contexts exceed the window and lost the beginning" in capsys.readouterr().err
    assert main([*arguments, str(bare)]) == 0
    assert "config.json sets no context window, so 2048 tokens are used; set --max-length" in (
        capsys.readouterr().err
    )


def test_the_command_line_keeps_the_cell_if_it_cannot_be_rescored(
    checkpoint: Path, requests: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ebbtide.scoring import rescore

    def fails(_: Path) -> None:
        raise RuntimeError("Expected mat_a to be Float32, BFloat16 or Float16 matrix, got Double")

    monkeypatch.setattr(rescore, "load_exact", fails)
    cell, tokens = tmp_path / "cell.parquet", tmp_path / "tokens.parquet"
    arguments = ["score", "--model", str(checkpoint), "--requests", str(requests), "--to", str(cell)]
    assert main([*arguments, "--rescore-examples", "1", "--per-token", str(tokens)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(
        f"ScoringError: {cell} is written, but it could not be rescored in float64: RuntimeError: Expected "
        "mat_a to be Float32, BFloat16 or Float16 matrix, got Double."
    )
    assert len(read_frame(cell, CELL)) == len(tiny.ROWS)
    assert len(read_frame(tokens, TOKENS))


def test_the_command_line_does_not_write_a_cell_that_rescoring_refutes(
    checkpoint: Path, requests: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ebbtide.scoring import rescore

    monkeypatch.setitem(rescore.ROUNDING, "float32", (-1.0, 0.0))
    cell = tmp_path / "cell.parquet"
    arguments = ["score", "--model", str(checkpoint), "--requests", str(requests), "--to", str(cell)]
    assert main([*arguments, "--rescore-examples", "1"]) == 2
    aside = tmp_path / "cell.refuted.parquet"
    error = capsys.readouterr().err
    assert "2 of 2 rescored requests differ from float64 by more than rounding explains (example " in error
    assert f"the cell is not used, but kept as {aside}." in error
    assert not cell.exists()
    assert len(read_frame(aside, CELL)) == len(tiny.ROWS)


def test_the_command_line_measures_losses(checkpoint: Path, tmp_path: Path, capsys) -> None:
    path, out = documents(tmp_path / "documents.parquet", TEXTS), tmp_path / "losses.parquet"
    arguments = ["loss", "--model", str(checkpoint), "--documents", str(path), "--to", str(out)]
    assert main(arguments) == 0
    loss = read_footer(out, LOSSES)["loss"]
    assert f"loss {loss:.4f} nats per token" in capsys.readouterr().err
    assert main(
        ["loss", "--model", str(checkpoint), "--documents", str(path), "--to", str(out), "--context", "99"]
    )
    assert "context: found 99, allowed: 1 to the window of 48 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threads", "0"], "argument --threads: found '0', allowed: a whole number of at least 1"),
        (["--max-length", "0"], "argument --max-length: found '0', allowed: a whole number of at least 1"),
        (
            ["--rescore-examples", "-1"],
            "argument --rescore-examples: found '-1', allowed: a whole number of at least 0",
        ),
    ],
)
def test_bad_numbers_are_a_sentence(options: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["score", "--model", "m", "--requests", "r", "--to", "t", *options])
    assert message in capsys.readouterr().err


def test_two_tables_need_two_files(checkpoint: Path, requests: Path, tmp_path: Path, capsys) -> None:
    cell = str(tmp_path / "cell.parquet")
    arguments = ["score", "--model", str(checkpoint), "--requests", str(requests), "--to", cell]
    assert main([*arguments, "--per-token", cell]) == 2
    assert "allowed: another file than --to" in capsys.readouterr().err


def test_the_checkpoint_s_own_precision(tmp_path: Path, requests: Path) -> None:
    half = tmp_path / "half"
    tiny.checkpoint(half)
    load_model(half, "bfloat16").save_pretrained(half)
    cell = tmp_path / "cell.parquet"
    arguments = ["score", "--model", str(half), "--requests", str(requests), "--to", str(cell)]
    assert main([*arguments, "--dtype", "checkpoint"]) == 0
    assert read_footer(cell, CELL)["dtype"] == "bfloat16"


def test_an_unknown_dtype_is_a_sentence(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="dtype: found 'int8', allowed: float32"):
        load_scorer(checkpoint, "int8")


# Models too large for one device.


def test_a_model_too_large_needs_accelerate(checkpoint: Path, monkeypatch) -> None:
    from ebbtide.checkpoints import load as checkpoints
    from ebbtide.scoring import model_scorer

    monkeypatch.setattr(model_scorer, "fits_one_device", lambda *_: False)
    monkeypatch.setattr(checkpoints, "find_spec", lambda _: None)
    with pytest.raises(CheckpointError, match=r"does not fit on one device; .* pip install accelerate"):
        load_scorer(checkpoint, offload=True)


GB = 2**30


@pytest.mark.parametrize(
    ("free", "total", "message"),
    [
        (
            [4, 4],
            [4, 4],
            r"the weights take 10 GiB in bfloat16, more than 90% of the 8 GiB of the visible GPUs; found 2 "
            r"GPUs, needed: 3 of 4 GiB\. Provide them, .* or set scoring\.offload: true",
        ),
        (
            [4, 8],
            [8, 8],
            r"only 12 GiB of the 16 GiB of the visible GPUs are free: another program uses them",
        ),
        ([8, 8], [8, 8], r"loads with {'device_map': 'auto', 'offload': False}"),
    ],
)
def test_a_model_larger_than_the_gpus_names_their_number_and_is_not_offloaded(
    free: list[int], total: list[int], message: str, checkpoint: Path, monkeypatch
) -> None:
    from ebbtide.scoring import model_scorer

    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index] * GB, total[index] * GB))
    weights = 10 if total == [4, 4] else 11

    def load(*_: Any, **settings: Any) -> None:
        raise ScoringError(f"loads with {settings}")

    monkeypatch.setattr(memory, "weight_bytes", lambda *_: weights * GB)
    monkeypatch.setattr(model_scorer, "fits_one_device", lambda *_: False)
    monkeypatch.setattr(model_scorer, "load_model", load)
    with pytest.raises(ScoringError, match=message):
        load_scorer(checkpoint, "bfloat16")


def test_layers_outside_of_the_gpus_are_an_error_unless_offload(checkpoint: Path) -> None:
    """As where the layers do not divide over GPUs that hold their sum."""
    pytest.importorskip("accelerate", reason="a map of devices needs accelerate")
    with pytest.raises(CheckpointError, match=r"the model would stay in CPU memory\. .* scoring\.offload"):
        load_model(checkpoint, "float32", device_map="cpu")
    load_model(checkpoint, "float32", device_map="cpu", offload=True)


def test_a_gpu_that_torch_cannot_use_is_said(checkpoint: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    load_scorer(checkpoint)
    assert f"scoring on the CPU: torch {torch.__version__} cannot use GPU GPU-a" in caplog.text


def test_a_spread_model_gives_the_same_numbers(
    checkpoint: Path, requests: Path, tmp_path: Path, monkeypatch
) -> None:
    """Embedding, a layer and the head stay on disk until hooks bring them, as with too small a device."""
    accelerate = pytest.importorskip("accelerate", reason="spreading a model needs accelerate")
    from ebbtide.scoring import model_scorer

    def spread(directory: Path, dtype: str, **_: Any) -> Any:
        places = dict.fromkeys(("gpt_neox.embed_in", "gpt_neox.layers.1", "lm_head"), "disk")
        places |= {f"gpt_neox.{name}": "cpu" for name in ("layers.0", "final_layer_norm", "rotary_emb")}
        return accelerate.dispatch_model(
            load_model(directory, dtype), places, main_device="cpu", offload_dir=tmp_path / "offload"
        )

    expected = score_requests(load_scorer(checkpoint), requests).rows["loglikelihood"].to_pylist()
    monkeypatch.setattr(model_scorer, "fits_one_device", lambda *_: False)
    monkeypatch.setattr(model_scorer, "load_model", spread)
    scorer = load_scorer(checkpoint, offload=True)
    assert {p.device.type for p in scorer.model.parameters()} == {"cpu", "meta"}
    assert (scorer.method, scorer.implementation) == ("trie", "transformers")
    found = score_requests(scorer, requests).rows["loglikelihood"].to_pylist()
    assert found == pytest.approx(expected, abs=1e-5)


def test_what_fits_one_device_is_asked_of_the_device(checkpoint: Path, monkeypatch) -> None:
    files = [checkpoint / "model.safetensors"]
    size = files[0].stat().st_size  # float32
    monkeypatch.setattr(memory, "free_memory", lambda _: size)
    assert memory.fits_one_device(files, "bfloat16", "cuda")
    assert not memory.fits_one_device(files, "float32", "cuda")
    assert memory.fits_one_device(files, "float64", "cpu")


# What must not pass.


def test_documents_of_another_tokenizer_are_an_error(checkpoint: Path, tmp_path: Path) -> None:
    scorer = replace(load_scorer(checkpoint), vocabulary=20)
    word = {token: word for word, token in VOCABULARY.items()}
    known, unknown = (documents(tmp_path / f"{i}.parquet", [f"{word[1]} {word[i]}"]) for i in (19, 20))
    assert score_documents(scorer, known).rows["tokens"].to_pylist() == [2]
    with pytest.raises(
        ScoringError,
        match=r"20\.parquet: token 20 is outside the model's vocabulary of 20; the tokenizer does not belong",
    ):
        score_documents(scorer, unknown)


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_a_document_whose_loss_is_no_number_is_an_error(
    value: float, checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    scorer = load_scorer(checkpoint)
    logits = torch.zeros(scorer.vocabulary, device=scorer.device)
    logits[VOCABULARY["old"]] = value
    monkeypatch.setattr(scorer.body, "logits", lambda hidden: iter([(0, logits.expand(len(hidden), -1))]))
    path = documents(tmp_path / "documents.parquet", ["every tall child", "the old child"])
    with pytest.raises(
        ScoringError, match=rf"document d[01]: the log-likelihood is {value}; score in a wider dtype"
    ):
        score_documents(scorer, path)


def test_the_second_opinion_reads_no_further_than_the_cell(
    scorer: Scorer, checkpoint: Path, requests: Path
) -> None:
    rows = score_requests(scorer, requests, max_length=4).rows
    same, whole = (
        largest_difference(checkpoint, requests, rows, examples=99, **(FLOAT32 | {"max_length": limit}))
        for limit in (4, None)
    )
    assert same["largest_difference"] < 1e-4
    assert whole["largest_difference"] > 0.01  # without the limit, contexts are longer
