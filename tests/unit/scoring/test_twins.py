"""Twins: the same checkpoints in two formats, compared by the texts of their load proofs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from ebbtide.errors import ConfigError
from ebbtide.scoring.proof.load_key import key_of
from ebbtide.scoring.proof.loss_record import Losses
from ebbtide.scoring.proof.proof_file import Proof, write_proof
from ebbtide.scoring.proof.twins import twins_table
from ebbtide.scoring.proof.verdicts import twin_notices
from ebbtide.study.columns import read_described
from ebbtide.study.load_proofs import check_twins
from ebbtide.tables import write_tsv

OWN = Losses("English", 1, (-60.0, -50.0), (20, 25), (90, 80), 500)


def entry(store: Path, name: str, losses: Losses | None = OWN, step: int = 1, dtype: str = "float32") -> Any:
    identity = tiny.identity(weights=f"files:{name}", dtype=dtype)
    if losses is not None:
        write_proof(Proof(losses, None), store, identity)
    return {"name": f"step{step}", "step": step, "key": key_of(identity), "dtype": dtype}


def compared(store: Path, own: Any, its: Any) -> dict[str, Any]:
    [row] = twins_table({"a": "b"}, {"a": [own], "b": [its]}, store).to_dict("records")
    return row


def test_the_largest_difference_of_a_text_decides(tmp_path: Path) -> None:
    own, near = entry(tmp_path, "a"), replace(OWN, loglikelihoods=(-60.0, -50.02))
    row = compared(tmp_path, own, entry(tmp_path, "b", near))
    assert row["verdict"] == "equal" and row["difference"] == pytest.approx(0.02)
    assert row["difference_per_token"] == pytest.approx(0.02 / 25) and row["tolerance"] == 1e-3
    far = replace(OWN, loglikelihoods=(-60.2, -50.0))
    row = compared(tmp_path, own, entry(tmp_path, "c", far))
    assert row["verdict"] == "differs"
    assert "a/step1 and its twin b/step1 differ by 0.01 nats per token" in row["detail"]
    coarse = entry(tmp_path, "d", far, dtype="bfloat16")
    assert compared(tmp_path, own, coarse)["verdict"] == "equal"
    infinite = replace(OWN, loglikelihoods=(None, -50.0))
    assert compared(tmp_path, own, entry(tmp_path, "e", infinite))["verdict"] == "differs"
    tokens = replace(OWN, tokens=(21, 25))
    assert "in other tokens" in compared(tmp_path, own, entry(tmp_path, "f", tokens))["detail"]


def test_what_is_not_compared_says_why(tmp_path: Path) -> None:
    own = entry(tmp_path, "a")
    assert "b has no checkpoint at step 1" in compared(tmp_path, own, entry(tmp_path, "b", step=2))["detail"]
    row = compared(tmp_path, own, entry(tmp_path, "c", None))
    assert (row["verdict"], "b/step1 has no load proof" in row["detail"]) == ("no proof", True)


def test_the_table_reads_back_and_its_rows_are_notices(tmp_path: Path) -> None:
    far = replace(OWN, loglikelihoods=(-62.0, -50.0))
    models = {
        "a": [entry(tmp_path, "a"), entry(tmp_path, "a2", step=2)],
        "b": [entry(tmp_path, "b", far)],
    }
    write_tsv(twins_table({"a": "b"}, models, tmp_path), tmp_path / "load_twins.tsv")
    warning, note = twin_notices(read_described(tmp_path / "load_twins.tsv"))
    assert (warning.severity, warning.kind, warning.checkpoint) == ("warning", "suspicious", "step1")
    assert (note.kind, note.count) == ("not_audited", 1) and "at step 2" in note.detail
    fake = twins_table({"a": "b"}, models, tmp_path, fake=True)
    assert all("made up" in detail for detail in fake["detail"]) and twin_notices(fake) == []


def test_a_twin_is_another_model_of_the_study() -> None:
    check_twins([{"name": "a", "twin": "b"}, {"name": "b"}], ["a", "b"], "s.yaml")
    for twin in ("a", "bb"):
        with pytest.raises(ConfigError, match=rf"s.yaml: models\[0\].twin: found '{twin}'; allowed: .* b"):
            check_twins([{"name": "a", "twin": twin}, {"name": "b"}], ["a", "b"], "s.yaml")
