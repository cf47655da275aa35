"""Generation by vLLM gives the samples of our own decoder, whatever vLLM does with its batches and memory.

Run it in a process of its own: vLLM changes classes of transformers, with which other tests make models.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import architectures
from ebbtide.corpus import write_tokenizer
from ebbtide.corpus.words import VOCABULARY
from ebbtide.errors import ScoringError
from ebbtide.scoring.encoded import Encoded, Requests
from ebbtide.scoring.engine import load_scorer, provenance
from ebbtide.scoring.generation.decoding import Decoding, Samples
from ebbtide.scoring.generation.ends import Ends, end_tokens
from ebbtide.scoring.scorer import Counters
from ebbtide.scoring.walk import score_trie
from generating import PROMPTS, Spelled, generated, keys_of, of_decoder
from real_models import smollm2
from scoring_reference import native

if find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)

from ebbtide.scoring.vllm_backend.load import load_vllm_scorer
from ebbtide.scoring.vllm_backend.package import set_environment

set_environment()

from ebbtide.scoring.vllm_backend.samples import generate_vllm  # noqa: E402 (imports vllm)

WIDE = {"hidden_size": 64, "num_attention_heads": 2}  # heads of 32: the smallest that vLLM has on a CPU
GROUPED = {**WIDE, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
SHAPES: dict[str, dict[str, Any]] = {
    "gemma": GROUPED,
    "gemma2": GROUPED,
    "gemma3": GROUPED,
    "gpt2": {"n_embd": 64, "n_head": 2},
    "gpt_neox": WIDE,
    "llama": GROUPED,
    "mistral": GROUPED,
    "olmo": {**WIDE, "num_key_value_heads": 1},
    "olmo2": {**WIDE, "num_key_value_heads": 1},
    "opt": {**WIDE, "word_embed_proj_dim": 64},
    "qwen2": {**WIDE, "num_key_value_heads": 1},
    "qwen3": GROUPED,
}
GREEDY = Decoding(max_tokens=12)
SAMPLED = Decoding(max_tokens=9, samples=5, temperature=0.9, top_p=0.9, top_k=20)
# Temperatures of models that repeat their last token at lower ones.
FLAT = {"gemma": 20.0, "gemma2": 20.0, "gemma3": 20.0}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder = tmp_path_factory.mktemp("vllm")

    @cache
    def save(name: str, **settings: Any) -> Path:
        directory = folder / f"{name}-{len(list(folder.iterdir()))}"
        model_type, own = architectures.NATIVE[name]
        architectures.random_model(model_type, {**own, **SHAPES[name], **settings}).save_pretrained(directory)
        write_tokenizer(directory)
        return directory

    return save


def loaded(directory: Path, **settings: Any) -> Any:
    """The scorer of a checkpoint, which stops the one before."""
    return load_vllm_scorer(directory, "float32", 1, encoded=True, **settings)


def through(
    scorer: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    numbers: Sequence[int] | None = None,
    eos: frozenset[int] = frozenset(),
    counters: Counters | None = None,
) -> Samples:
    return generate_vllm(
        scorer.engine,
        prompts,
        decoding,
        Ends(Spelled(), decoding, eos),  # type: ignore[arg-type]
        keys=keys_of(prompts),
        numbers=range(decoding.samples) if numbers is None else numbers,
        counters=counters or Counters(),
    )


def same(found: Samples, expected: Samples, ties: int = 0) -> None:
    """Equal tokens but for `ties` samples in which rounding decides; of the others, equal log-likelihoods."""
    assert len(found) == len(expected)
    equal = [i for i in range(len(found)) if found[i].tokens == expected[i].tokens]
    assert len(found) - len(equal) <= ties
    for i in equal:
        assert (found[i].ended, found[i].text) == (expected[i].ended, expected[i].text)
        assert found[i].loglikelihood == pytest.approx(expected[i].loglikelihood, abs=1e-4)


@pytest.mark.parametrize("name", list(SHAPES))
def test_samples_and_scores_are_those_of_our_decoder(name: str, saved: Callable[..., Path]) -> None:
    body, _ = native(saved(name), "float32")
    sampling = replace(SAMPLED, temperature=FLAT.get(name, SAMPLED.temperature))
    eos = frozenset({generated(of_decoder(body), PROMPTS, GREEDY)[2].tokens[4]})
    requests = Requests.of([
        Encoded((*prompt, *prompt[::-1], 7), max(1, len(prompt) - 1), truncated=False)
        for prompt in PROMPTS[:8]
    ])  # fmt: skip
    scorer = loaded(saved(name))
    greedy = through(scorer, PROMPTS, GREEDY, eos=eos)
    sampled = through(scorer, PROMPTS, sampling, eos=eos)
    scores = scorer.score(requests, ranks=True, best=True)
    same(greedy, generated(of_decoder(body), PROMPTS, GREEDY, eos=eos))
    same(sampled, generated(of_decoder(body), PROMPTS, sampling, eos=eos), ties=1)
    assert {"eos", "length"} <= set(greedy.ended.tolist())
    assert len(set(sampled.texts)) > 20  # of 50
    expected = score_trie(body, requests, Counters(), chunk=512, ranks=True)
    assert scores.loglikelihood == pytest.approx(expected.loglikelihood, abs=1e-4)
    assert scores.greedy.tolist() == expected.greedy.tolist()
    assert scores.rank is not None and scores.rank.tolist() == expected.rank.tolist()
    assert ((scores.best == requests.continuations) == scores.greedy).all()


def test_samples_do_not_depend_on_the_batch_the_order_or_a_restart(saved: Callable[..., Path]) -> None:
    scorer = loaded(saved("llama"))
    expected = through(scorer, PROMPTS, SAMPLED)
    some = through(scorer, PROMPTS, SAMPLED, numbers=[4, 1])
    same(some, Samples.of(expected[5 * i + n] for i in range(len(PROMPTS)) for n in (4, 1)), ties=1)
    scorer = loaded(saved("llama"), batch=3)  # loaded again, and at most six requests at a time
    same(through(scorer, PROMPTS, SAMPLED), expected, ties=1)
    backwards = through(scorer, PROMPTS[::-1], SAMPLED)
    order = [5 * (len(PROMPTS) - 1 - i) + n for i in range(len(PROMPTS)) for n in range(5)]
    same(Samples.of(backwards[i] for i in order), expected, ties=1)


def test_preempted_samples_are_those_of_our_decoder(
    saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for fewer tokens than the samples have: vLLM drops some, and forwards them again later."""
    directory = saved("llama", max_position_embeddings=512)
    prompts = [[*(3 + (i * n) % 37 for n in range(120))] for i in range(1, 5)]
    decoding = Decoding(max_tokens=150, samples=2, temperature=1.0)
    preempted = []
    # Three layers, keys and values, two heads of 32 in float32; blocks of 128 tokens.
    scorer = loaded(directory, cache=7 * 3 * 2 * 2 * 32 * 4 * 128)
    scheduler = scorer.engine.engine_core.engine_core.scheduler
    preempt = scheduler._preempt_request

    def noted(*given: Any, **named: Any) -> Any:
        preempted.append(given)
        return preempt(*given, **named)

    monkeypatch.setattr(scheduler, "_preempt_request", noted)
    found = through(scorer, prompts, decoding)
    assert preempted
    same(found, generated(of_decoder(native(directory, "float32")[0]), prompts, decoding), ties=1)


def test_stop_strings_end_samples(saved: Callable[..., Path]) -> None:
    body, _ = native(saved("llama"), "float32")
    decoding = Decoding(max_tokens=8, samples=6, temperature=1.0, stop=("<7>", "1><"))
    scorer = loaded(saved("llama"))
    found = through(scorer, PROMPTS, decoding, eos=frozenset({3}))
    assert set(found.ended.tolist()) == {"stop", "eos", "length"}
    same(found, generated(of_decoder(body), PROMPTS, decoding, eos=frozenset({3})), ties=1)


def test_tokens_are_counted_and_shared_prompts_are_cached(saved: Callable[..., Path]) -> None:
    directory = saved("llama", max_position_embeddings=512)
    prompt = [3 + (5 * n) % 37 for n in range(300)]
    counters, seen = Counters(), []
    counters.report = lambda done, most: seen.append((done, most))
    scorer = loaded(directory)
    found = through(scorer, [prompt], Decoding(4, samples=8, temperature=1.0), counters=counters)
    assert counters.unique == len(prompt) + len(found.tokens) - len(found)
    assert counters.unique <= counters.forwarded < 8 * 300 / 2
    assert seen[-1] == (len(prompt) + 8 * 4,) * 2 and seen == sorted(seen)
    again = Counters()
    through(scorer, [prompt], Decoding(4, samples=8, temperature=1.0), counters=again)
    assert again.forwarded == counters.forwarded  # nothing is left of the task before


def test_logits_that_are_not_finite_are_a_sentence_and_leave_nothing_behind(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    source = saved("llama")
    tensors = load_file(source / "model.safetensors")
    tensors["model.norm.weight"][3] = torch.nan
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    scorer = loaded(tmp_path)
    for decoding in (GREEDY, SAMPLED):
        with pytest.raises(ScoringError, match=r"prompt 0: the log-likelihood of new token 0 is nan; gen"):
            through(scorer, PROMPTS, decoding)
        assert not scorer.engine.has_unfinished_requests()


# Scorers of checkpoints.


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the words of the toy language."""
    directory = tmp_path_factory.mktemp("speaking")
    settings = {**architectures.NATIVE["llama"][1], **GROUPED, "vocab_size": len(VOCABULARY)}
    architectures.random_model("llama", settings).save_pretrained(directory)
    write_tokenizer(directory)
    return directory


def test_a_scorer_generates_texts_and_records_what_made_them(speaking: Path) -> None:
    own = load_scorer(speaking)
    eos = end_tokens(speaking, own.tokenizer)
    prompts = own.tokenizer.ids(["the old child", "every tall"])
    decoding = Decoding(max_tokens=8, samples=4, temperature=1.0, top_p=0.9, stop=(" .",))
    given: dict[str, Any] = {"keys": keys_of(prompts), "eos": eos}
    scorer = load_scorer(speaking, backend="vllm")
    found = scorer.generate(prompts, decoding, **given)
    assert len(scorer.generate([], decoding, keys=[], eos=eos)) == 0
    record, theirs = scorer.record(), own.record()
    made = provenance(scorer, Counters(), record)
    whole = Requests.of([Encoded((0, *range(1, 9), *[7] * 56), 1, truncated=False)])
    with pytest.raises(ScoringError, match=r"a text has 65 tokens, but vLLM reads at most 64"):
        scorer.score(whole)
    with pytest.raises(
        ScoringError, match=r"a prompt and its sample have up to 67 tokens, but vLLM supports 64"
    ):
        scorer.generate(prompts, Decoding(max_tokens=64), **given)
    same(found, own.generate(prompts, decoding, **given), ties=1)
    counts = [name for name in theirs if name.startswith("parameters")]
    assert {name: record[name] for name in counts} == {name: theirs[name] for name in counts}
    assert (record["implementation"], record["method"], record["kernel"]) == ("vllm", "paged", "CPU_ATTN")
    assert record["versions"].keys() == {*theirs["versions"], "vllm"}
    assert made["model_window"] == own.window
    json.dumps(made)


def test_precisions_and_architectures_without_support_are_sentences(
    speaking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ScoringError, match=r"scoring\.dtype: found float64, allowed with vLLM: .*float32; set"
    ):
        load_vllm_scorer(speaking, "float64", 1, encoded=True)
    shape = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "rotary_dim": 4}
    architectures.random_model("codegen", shape).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(
        ScoringError, match=r"architectures: found CodeGenForCausalLM, which vLLM does not sup"
    ):
        load_vllm_scorer(tmp_path, "float32", 1, encoded=True)
    settings = {**architectures.NATIVE["bloom"][1], "hidden_size": 64, "n_head": 2}
    architectures.random_model("bloom", settings).save_pretrained(tmp_path / "bloom")
    write_tokenizer(tmp_path / "bloom")
    with pytest.raises(
        ScoringError, match="found BloomForCausalLM, which vLLM does not compute as published;"
    ):
        load_vllm_scorer(tmp_path / "bloom", "float32", 1, encoded=True)
    monkeypatch.setattr("ebbtide.scoring.vllm_backend.load.device_for", lambda dtype: "cuda")
    monkeypatch.setattr("ebbtide.scoring.vllm_backend.load.fits_one_device", lambda *given: True)
    with pytest.raises(
        ScoringError, match="this build of vLLM is for the device cpu, but weights are scored on"
    ):
        load_vllm_scorer(speaking, "float32", 1, encoded=True)


@pytest.mark.slow
def test_a_real_model_has_the_samples_of_our_decoder() -> None:
    """Greedy texts are equal; of sampled ones, rounding decides between two tokens in a few."""
    directory = smollm2()
    own = load_scorer(directory)
    texts = ["The capital of France is", "Once upon a time", "2 + 2 =", "def main():", "Water boils at"]
    prompts = own.tokenizer.ids(texts)
    given: dict[str, Any] = {"keys": keys_of(prompts), "eos": end_tokens(directory, own.tokenizer)}
    sampled = Decoding(max_tokens=24, samples=4, temperature=0.8, top_p=0.95, top_k=50, stop=("\n",))
    expected = [own.generate(prompts, decoding, **given) for decoding in (Decoding(24), sampled)]
    scorer = loaded(directory)
    found = [scorer.generate(prompts, decoding, **given) for decoding in (Decoding(24), sampled)]
    same(found[0], expected[0])
    same(found[1], expected[1], ties=1)
    assert np.mean([len(sample.tokens) for sample in found[1]]) > 5
