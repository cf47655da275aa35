"""Load proofs: losses and sketches of trained checkpoints, planted faults that are named, and their files."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny
import trained_series as series
from ebbtide.errors import CellError, CheckpointError
from ebbtide.scoring.engine import load_scorer
from ebbtide.scoring.proof.faults import compare
from ebbtide.scoring.proof.load_key import key_of, path_of
from ebbtide.scoring.proof.loss_record import Losses
from ebbtide.scoring.proof.losses import losses_of
from ebbtide.scoring.proof.proof_file import Proof, read_proof, write_proof
from ebbtide.scoring.proof.series import Step, Verdict, judge, nearest
from ebbtide.scoring.proof.sketch import ROWS, SIDE, places, sketches_of
from ebbtide.scoring.proof.table import load_proofs_table
from ebbtide.scoring.proof.texts import english, toy
from ebbtide.scoring.proof.verdicts import ALONE, GOOD, NOT_JUDGED, SUSPICIOUS, load_proof_notices
from ebbtide.study.columns import read_described
from ebbtide.tables import write_tsv

FAULTS: Mapping[str, tuple[series.Fault, str]] = {
    "swapped_head": (series.swapped_head, "head and embedding exchanged: lm_head.weight has those of"),
    "transposed": (series.transposed, "matrices that look transposed"),
    "interleaved": (series.interleaved, "rotary rows in another order"),
    "layers_swapped": (series.layers_swapped, "layers in another order: model.layers.0."),
    "shifted": (series.shifted, "rows that are shifted by one, compared with"),
    "unrelated": (series.unrelated, "1 tensor without resemblance to"),
    "saturated": (series.saturated, "1 tensor with values at or beyond the largest of half precision"),
    "stale": (series.stale, "bit-equal to step40, while others have moved"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return series.train(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def proofs(trained: Path) -> dict[int, Proof]:
    return {step: prove(trained / f"step{step}") for step in series.STEPS}


def prove(directory: Path, dtype: str = "float32") -> Proof:
    return Proof(losses_of(load_scorer(directory)), sketches_of(directory, dtype))


def steps_of(proofs: Mapping[int, Proof]) -> list[Step]:
    tokens = series.BATCH * series.LENGTH
    return [Step(f"step{step}", step, step * tokens, proof) for step, proof in sorted(proofs.items())]


def verdicts(proofs: Mapping[int, Proof]) -> dict[int, Verdict]:
    steps = steps_of(proofs)
    return {step.step: judge("m", steps, index) for index, step in enumerate(steps)}


def details(verdict: Verdict) -> str:
    return "\n".join(finding.detail for finding in verdict.findings)


def test_a_clean_series_has_no_finding(proofs: dict[int, Proof]) -> None:
    found = verdicts(proofs)
    assert {verdict.verdict for verdict in found.values()} == {GOOD}
    assert all(verdict.findings == () for verdict in found.values())
    losses = [proof.losses.loss for proof in proofs.values() if proof.losses]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 3.5 < math.log(271)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_with_its_tensor(
    name: str, trained: Path, proofs: dict[int, Proof], tmp_path: Path
) -> None:
    fault, sentence = FAULTS[name]
    planted = series.with_fault(trained / "step60", tmp_path / "step60", fault, trained / "step40")
    found = verdicts({**proofs, 60: prove(planted)})
    assert found[60].verdict == SUSPICIOUS
    assert sentence in details(found[60])
    assert "m/step60" in details(found[60])
    assert all(finding.remedy for finding in found[60].findings)
    others = {step: verdict for step, verdict in found.items() if step != 60}
    assert {step: details(verdict) for step, verdict in others.items() if verdict.findings} == {}


@pytest.mark.parametrize("name", ["swapped_head", "transposed", "layers_swapped", "interleaved", "shifted"])
def test_of_two_checkpoints_the_one_that_reads_worse_is_wrong(
    name: str, trained: Path, proofs: dict[int, Proof], tmp_path: Path
) -> None:
    fault, sentence = FAULTS[name]
    planted = prove(series.with_fault(trained / "step60", tmp_path / "step60", fault))
    for pair in ({60: planted, 80: proofs[80]}, {40: proofs[40], 60: planted}):
        found = verdicts(pair)
        assert sentence in details(found[60])
        [other] = set(pair) - {60}
        allowed = 0.5 if other < 60 else 2 * (1 + math.log2(other / 60))  # training lowers the loss
        clearly = planted.losses.loss > pair[other].losses.loss + allowed  # type: ignore[union-attr]
        assert clearly == ("is the wrong one" not in details(found[60]))
        assert clearly == (found[other].findings == ())


def test_a_stale_file_is_that_of_the_later_step(
    trained: Path, proofs: dict[int, Proof], tmp_path: Path
) -> None:
    planted = series.with_fault(trained / "step60", tmp_path / "step60", series.stale, trained / "step40")
    found = verdicts({40: proofs[40], 60: prove(planted)})
    assert found[40].findings == ()
    assert "9 tensors bit-equal to step40" in details(found[60])
    frozen = {step: prove(trained / "step60") for step in (60, 80)}
    assert all(verdict.findings == () for verdict in verdicts(frozen).values()), "equal as a whole: the audit"


def test_tensors_that_training_does_not_change_are_not_stale(
    trained: Path, proofs: dict[int, Proof], tmp_path: Path
) -> None:
    """As with adapters of some layers: matrices of the same kind move in the other layers."""
    frozen = {20: proofs[20]}
    for step in (40, 60, 80):
        made = series.with_fault(
            trained / f"step{step}", tmp_path / f"{step}", series.stale, trained / "step20"
        )
        frozen[step] = prove(made)
    assert {details(verdict) for verdict in verdicts(frozen).values()} == {""}
    two = details(verdicts({step: frozen[step] for step in (20, 40)})[40])
    assert "or training does not change them, as no third checkpoint can be compared" in two
    moved = verdicts({**frozen, 100: proofs[100]})
    assert "9 tensors bit-equal to" in details(moved[60])


def test_a_loss_far_above_those_of_the_neighbours_is_suspicious(proofs: dict[int, Proof]) -> None:
    bad = replace(proofs[60], losses=scaled(proofs[60].losses, 4.0))
    found = verdicts({**proofs, 60: bad})
    assert found[60].findings[0].finding == "load_loss"
    assert "its neighbours: step20 at" in details(found[60])
    assert "reads 64 toy-language texts at 1" in details(found[60])
    assert all(found[step].findings == () for step in series.STEPS if step != 60)


def scaled(losses: Losses | None, factor: float) -> Losses:
    assert losses is not None
    return replace(losses, loglikelihoods=tuple(factor * (value or 0) for value in losses.loglikelihoods))


def test_early_steps_may_be_bad_and_late_ones_may_not(proofs: dict[int, Proof]) -> None:
    assert proofs[20].losses is not None
    guess = replace(
        proofs[20], losses=scaled(proofs[20].losses, proofs[20].losses.guess / proofs[20].losses.loss)
    )
    early = {0: guess, 1: guess, 20: proofs[20]}
    assert {step: details(verdict) for step, verdict in verdicts(early).items()} == {0: "", 1: "", 20: ""}
    late = [Step(f"step{step}", step, 0, proof) for step, proof in ((1000, guess), (1100, proofs[100]))]
    assert "reads" in details(judge("m", late, 0))
    worse = replace(guess, losses=scaled(guess.losses, 1.2))
    alone = Step("step1000", 1000, 0, worse)
    assert "worse than a uniform guess over its 271 tokens (5.60)" in details(judge("m", [alone], 0))
    for name, step in (("step0", 0), ("step5", 5)):
        assert judge("m", [Step(name, step, 0, worse)], 0).verdict == ALONE
    assert judge("m", [Step("main", 0, 0, worse)], 0).verdict == SUSPICIOUS


def test_coarse_english_is_suspicious_after_many_tokens_only() -> None:
    losses = Losses("English", 1, (-800.0,), (100,), (440,), 50_000)  # 8 nats a token, 2.6 bits per byte
    proof = Proof(losses, None, "")
    assert "its weights are wrong, or it was not trained on English texts" in details(
        judge("m", [Step("step9000", 9000, 10**10, proof)], 0)
    )
    assert judge("m", [Step("step9000", 9000, 10**8, proof)], 0).verdict == ALONE
    other_script = Proof(replace(losses, tokens=(300,)), None, "")  # 1.5 bytes a token
    assert judge("m", [Step("step9000", 9000, 10**10, other_script)], 0).verdict == ALONE


def test_log_likelihoods_that_are_not_finite_are_a_finding() -> None:
    proof = Proof(Losses("English", 1, (None, -80.0), (20, 20), (90, 90), 50_000), None, "")
    verdict = judge("m", [Step("step9000", 9000, 0, proof)], 0)
    assert "gives 1 of 2 English texts a log-likelihood that is not finite" in details(verdict)


def test_without_losses_there_is_no_judgement_but_a_reason() -> None:
    verdict = judge("m", [Step("step9", 9, 0, Proof(None, None, "no loss: out of memory"))], 0)
    assert (verdict.verdict, verdict.note) == (NOT_JUDGED, "no loss: out of memory")


def test_unrelated_models_under_one_name_give_no_false_names(trained: Path, tmp_path: Path) -> None:
    other = series.train(tmp_path / "other", seed=1)
    found = compare(
        sketches_of(trained / "step100", "float32"), sketches_of(other / "step100", "float32"), is_later=True
    )
    assert found.faults == {}


def test_a_saturated_tensor_needs_half_precision_of_files_or_of_scoring(
    trained: Path, tmp_path: Path
) -> None:
    def plant(weights: series.Weights, older: object) -> series.Weights:
        weights["model.norm.weight"][0] = -7e4
        return weights

    planted = series.with_fault(trained / "step60", tmp_path / "wide", plant)
    assert sketches_of(planted, "bfloat16").tensors["model.norm.weight"].peak is None
    assert sketches_of(planted, "float16").tensors["model.norm.weight"].peak == 7e4


def test_a_missing_shard_is_refused_before_any_proof(trained: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    to = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(trained / "step60").save_pretrained(to, max_shard_size="40KB")
    tiny.write_tokenizer(to)
    shards = sorted(to.glob("*.safetensors"))
    assert len(shards) > 1
    whole = sketches_of(trained / "step60", "float32")
    assert sketches_of(to, "float32").tensors.keys() == whole.tensors.keys()
    shards[0].unlink()
    with pytest.raises(CheckpointError, match=f"lacks {shards[0].name}"):
        load_scorer(to)


def test_sketches_have_equal_places_for_a_matrix_and_its_transpose() -> None:
    assert len(places(50_000, SIDE)) == SIDE
    assert len(set(places(17, SIDE).tolist())) == SIDE
    assert places(5, SIDE).tolist() == [0, 1, 2, 3, 4]
    assert max(places(ROWS, SIDE)) < ROWS


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_sketches_read_every_precision(dtype: str, trained: Path, tmp_path: Path) -> None:
    import torch

    def convert(weights: series.Weights, older: object) -> series.Weights:
        return {name: tensor.to(getattr(torch, dtype)) for name, tensor in weights.items()}

    converted = sketches_of(series.with_fault(trained / "step60", tmp_path / dtype, convert), dtype)
    for name, sketch in sketches_of(trained / "step60", "float32").tensors.items():
        np.testing.assert_allclose(converted.tensors[name].values, sketch.values, rtol=0.01, atol=1e-5)


def test_texts_are_fixed_and_those_that_the_tokenizer_knows(trained: Path) -> None:
    assert len(english().texts) == len(set(english().texts)) == len(toy().texts) == 64
    assert all(15 <= len(text.split()) <= 30 for text in english().texts)
    scorer = load_scorer(trained / "step20")
    assert losses_of(scorer).language == "toy-language"
    other = replace(
        scorer, load_tokenizer=lambda: replace(scorer.tokenizer, backend=tiny.bpe().backend_tokenizer)
    )
    with pytest.raises(Exception, match="outside the model's vocabulary"):
        losses_of(replace(other, vocabulary=5))


def test_losses_are_those_of_transformers(trained: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(trained / "step60")
    tokenizer = AutoTokenizer.from_pretrained(trained / "step60")
    found = losses_of(load_scorer(trained / "step60"))
    for text, value in list(zip(toy().texts, found.loglikelihoods, strict=True))[:8]:
        ids = tokenizer(text, return_tensors="pt").input_ids[:, : model.config.max_position_embeddings + 1]
        with torch.no_grad():
            logits = model(ids[:, :-1]).logits.log_softmax(-1)
        expected = logits.gather(2, ids[:, 1:, None]).sum().item()
        assert value == pytest.approx(expected, abs=1e-3)


def test_a_proof_is_read_as_it_was_written(proofs: dict[int, Proof], tmp_path: Path) -> None:
    identity = tiny.identity()
    path = write_proof(proofs[60], tmp_path, identity)
    assert path == path_of(tmp_path, key_of(identity))
    found = read_proof(tmp_path, key_of(identity))
    assert found.losses == proofs[60].losses
    assert found.sketches is not None and proofs[60].sketches is not None
    assert found.sketches.head == series.WIDTH // series.HEADS
    for name, sketch in proofs[60].sketches.tensors.items():
        np.testing.assert_allclose(found.sketches.tensors[name].values, sketch.values, rtol=1e-3, atol=1e-6)
    assert all(len(json.dumps(s.record())) < 3000 for s in found.sketches.tensors.values())


def test_the_key_is_that_of_a_load_not_of_a_task() -> None:
    key = key_of(tiny.identity())
    assert key == key_of(tiny.identity(task="other", encoding="joint", max_length=5))
    changed = [{"weights": "files:1"}, {"tokenizer": "t"}, {"dtype": "bfloat16"}, {"backend": "transformers"}]
    assert len({key, *(key_of(tiny.identity(**{"task": "t", **c})) for c in changed)}) == 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "missing"])
def test_a_damaged_proof_is_no_proof(damage: str, proofs: dict[int, Proof], tmp_path: Path) -> None:
    path = write_proof(proofs[60], tmp_path, tiny.identity())
    text = path.read_text()
    match damage:
        case "cut":
            path.write_text(text[:-100])
        case "flipped":
            path.write_text(text.replace('"vocabulary":271', '"vocabulary":272'))
        case "foreign":
            write_proof(proofs[60], tmp_path, tiny.identity(weights="files:1")).rename(path)
        case "missing":
            path.unlink()
    with pytest.raises(CellError, match="it is made again when the weights are next loaded"):
        read_proof(tmp_path, path.stem)


def test_the_nearest_on_each_side_are_compared() -> None:
    order = [f"step{i}" for i in range(8)]
    assert nearest(order, "step4", ["step0", "step1", "step2", "step4", "step6"]) == [
        "step1",
        "step2",
        "step6",
    ]


def test_the_table_judges_all_proofs_together_and_says_what_has_none(
    trained: Path, proofs: dict[int, Proof], tmp_path: Path
) -> None:
    planted = prove(series.with_fault(trained / "step60", tmp_path / "step60", series.shifted))
    entries = []
    for step in series.STEPS:
        identity = tiny.identity(weights=f"files:{step}")
        entries.append({"name": f"step{step}", "step": step, "tokens": 256 * step, "key": key_of(identity)})
        if step != 20:
            write_proof(planted if step == 60 else proofs[step], tmp_path, identity)
    damaged = path_of(tmp_path, entries[-1]["key"])
    damaged.write_text("{}")
    allow = [{"finding": "load_tensors", "models": ["m"], "reason": "planted"}]
    rules = {"load_loss": "warn", "load_tensors": "stop", "allow": []}
    table = load_proofs_table({"m": entries}, tmp_path, rules)
    found = {row["checkpoint"]: row for row in table.to_dict("records")}
    verdicts = {name: row["verdict"] for name, row in found.items()}
    assert verdicts == {
        **{"step20": "no proof", "step40": "good", "step60": "suspicious", "step80": "good"},
        "step100": "no proof",
    }
    assert found["step60"]["neighbours"] == "step40 step80"
    assert found["step60"]["action"] == "stop"
    assert "before there were load proofs" in found["step20"]["detail"]
    assert "is damaged" in found["step100"]["detail"]
    write_tsv(table, tmp_path / "load_proofs.tsv")
    warning, left = load_proof_notices(read_described(tmp_path / "load_proofs.tsv"))
    assert (warning.severity, warning.kind, warning.checkpoint) == ("warning", "suspicious", "step60")
    assert "rows that are shifted by one, compared with step40" in warning.detail
    assert (left.kind, left.count) == ("not_audited", 2)
    allowed = load_proofs_table({"m": entries}, tmp_path, {**rules, "load_loss": "warn", "allow": allow})
    row = allowed.set_index("checkpoint").loc["step60"]
    assert (row["action"], row["reason"]) in {("allowed", "planted"), ("warn", "planted")}
    fake = load_proofs_table({"m": entries}, tmp_path, rules, fake=True)
    assert set(fake["verdict"]) == {"no proof"}
    assert load_proof_notices(fake) == []
